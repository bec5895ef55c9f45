"""What revision do a configuration and a source make? Its id is the digest of what it holds, so identical input makes
the same one.

What has its default is left out of the digest: a field that a later version adds changes no id. The builder's version
is part of it.
"""

from __future__ import annotations

from dataclasses import replace

from kasbah.api import attesting
from kasbah.api.public import DeployRequest
from kasbah.control.usecases.secrets import uses_of
from kasbah.control.usecases.service_keys import use_of_key
from kasbah.control.usecases.work import Work
from kasbah.domain.ids import ProjectId, ServiceId
from kasbah.domain.revision import BUILDER_VERSION, Revision, revision_id


def revision_of(work: Work, project: ProjectId, service: ServiceId, request: DeployRequest) -> Revision:
    """The revision that is asked for, with the newest values of its secrets."""
    config = request.config
    secrets = (*uses_of(work, project, config), *((use_of_key(service),) if config.calls else ()))
    made = attesting.revision_of(config, request.source, request.source_size)
    return identified(replace(made, secrets=secrets))


def identified(contents: Revision) -> Revision:
    """The contents with the id that they make."""
    parts = attesting.REVISION.dump_python(contents, mode="json", exclude=attesting.FOLLOWS, exclude_defaults=True)
    return replace(contents, id=revision_id(attesting.dumps({"builder": BUILDER_VERSION, **parts}).encode()))
