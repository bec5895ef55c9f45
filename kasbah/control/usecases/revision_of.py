"""What revision do a configuration and a source make? Its id is the digest of what it holds, so identical input makes
the same one.

What has its default is left out of the digest: a field that a later version adds changes no id. The builder's version
is part of it.
"""

from __future__ import annotations

import json
from dataclasses import replace

from pydantic import TypeAdapter

from kasbah.api.manifest import HealthSection
from kasbah.api.public import DeployRequest
from kasbah.control.usecases.secrets import uses_of
from kasbah.control.usecases.service_keys import use_of_key
from kasbah.control.usecases.work import Work
from kasbah.domain.ids import Digest, ProjectId, RevisionId, ServiceId
from kasbah.domain.revision import BUILDER_VERSION, Deadlines, Health, Resources, Revision, Runtime, revision_id

REVISION = TypeAdapter(Revision)
NOT_YET = RevisionId("")
FOLLOWS = {"id", "source_size"}
"""What follows from the rest."""


def revision_of(work: Work, project: ProjectId, service: ServiceId, request: DeployRequest) -> Revision:
    """The revision that is asked for, with the newest values of its secrets."""
    config = request.config
    return identified(
        Revision(
            id=NOT_YET,
            source=Digest(request.source),
            source_size=request.source_size,
            runtime=Runtime(config.runtime),
            command=config.command,
            env=tuple(sorted(config.env.items())),
            secrets=(*uses_of(work, project, config), *((use_of_key(service),) if config.calls else ())),
            port=config.port,
            protocol=config.protocol,
            health=_health(config.health),
            resources=Resources(cpu=config.resources.cpu, memory=config.resources.memory),
            deadlines=Deadlines(**{name: getattr(config.deadlines, name) for name in Deadlines.__dataclass_fields__}),
            calls=tuple(sorted(set(config.calls))),
            egress=config.egress,
            volumes=tuple(one.to_domain() for one in sorted(config.volumes, key=lambda one: one.name)),
        )
    )


def identified(contents: Revision) -> Revision:
    """The contents with the id that they make."""
    parts = REVISION.dump_python(contents, mode="json", exclude=FOLLOWS, exclude_defaults=True)
    whole = json.dumps({"builder": BUILDER_VERSION, **parts}, sort_keys=True, separators=(",", ":"))
    return replace(contents, id=revision_id(whole.encode()))


def _health(section: HealthSection) -> Health:
    ready, live = section.readiness, section.liveness
    return Health(
        startup=section.startup.to_domain(),
        readiness=ready.to_domain() if ready else None,
        liveness=live.to_domain() if live else None,
    )
