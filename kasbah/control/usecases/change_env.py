"""Changes a service's environment, or brings the newest values of its secrets to it, without its source being sent
again: a new revision of what serves, and a rollout of it.
"""

from __future__ import annotations

from dataclasses import replace

from kasbah.api.manifest import RESERVED_ENV
from kasbah.api.public import EnvRequest
from kasbah.control.store.records import RevisionRecord, RolloutRecord
from kasbah.control.usecases.begin_rollout import begin_rollout, keep_revision
from kasbah.control.usecases.quotas import allow
from kasbah.control.usecases.revision_of import identified
from kasbah.control.usecases.secrets import newest
from kasbah.control.usecases.supersede import supersede, under_way
from kasbah.control.usecases.vouching import vouched
from kasbah.control.usecases.work import Work, check_version, service_named
from kasbah.errors import Conflict, Invalid, NotFound


def change_env(work: Work, project: str, name: str, request: EnvRequest) -> RolloutRecord | None:
    """The rollout of the revision with the changed environment; None where nothing changes."""
    service = service_named(work, project, name)
    check_version(service, request.expected_version)
    current = _current(work, project, name)
    contents = current.contents
    env = {**dict(contents.env), **request.set}
    _check(request, env, {use.variable for use in contents.secrets})
    for variable in request.unset:
        del env[variable]
    changed = identified(replace(contents, env=tuple(sorted(env.items())), secrets=newest(work, contents.secrets)))
    changes = ", ".join(sorted({*request.set, *request.unset}))
    work.journal.detail(service=service.id, variables=changes, revision=changed.id)
    if changed.id == current.id:
        return under_way(work, service)
    given = None if request.attested is None else request.attested.to_domain()
    attested = vouched(work, service, service, changed, given)
    service = supersede(work, service, by=f"the environment of {name} was changed meanwhile")
    allow(work, service, runs=changed)
    keep_revision(work, service, changed, attested)
    return begin_rollout(work, service, changed.id, rules=service.rollout_rules)


def current_env(work: Work, project: str, name: str) -> RevisionRecord:
    """What a change would start from."""
    return _current(work, project, name)


def _current(work: Work, project: str, name: str) -> RevisionRecord:
    """What is being rolled out, or else what serves."""
    service = service_named(work, project, name)
    going = under_way(work, service)
    wanted = going.revision if going is not None else service.serving
    found = work.tx.revisions.get(service.id, wanted) if wanted is not None else None
    if found is None:
        raise Conflict(
            f"service {name!r} serves nothing yet", hint="deploy it first, with its environment in kasbah.yaml"
        )
    return found


def _check(request: EnvRequest, env: dict[str, str], secret: set[str]) -> None:
    for variable in (*request.set, *request.unset):
        if RESERVED_ENV.fullmatch(variable):
            raise Invalid(f"{variable} is set by Kasbah itself", where=variable, hint="use another name")
        if variable in secret:
            raise Invalid(
                f"{variable} brings a secret", where=variable, hint="set the secret, or change secrets: in kasbah.yaml"
            )
    missing = [variable for variable in request.unset if variable not in env]
    if missing:
        raise NotFound(f"{', '.join(missing)} is not set", hint=f"it has {', '.join(sorted(env)) or 'none'}")
