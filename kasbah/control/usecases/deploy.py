"""Deploys a service: writes the revision and its rollout in one transaction. The slow half is the rollout's.

The same revision with other access, scaling, sleep, rollout rules or label updates the service and rolls nothing out. A
deploy during a rollout supersedes it; one of the revision that is being rolled out joins that rollout.
"""

from __future__ import annotations

from dataclasses import dataclass

from kasbah.api.public import DeployRequest, Door
from kasbah.control.store.records import RolloutRecord, ServiceRecord
from kasbah.control.usecases.begin_rollout import begin_rollout, keep_revision
from kasbah.control.usecases.plan import Plan, plan
from kasbah.control.usecases.quotas import project_of, refusal
from kasbah.control.usecases.send_source import door_for
from kasbah.control.usecases.supersede import supersede
from kasbah.control.usecases.work import Work, check_version, save_service
from kasbah.domain.ids import RevisionId
from kasbah.domain.observed import BuildState
from kasbah.errors import Conflict


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What a deploy made. `rollout` is the one to watch, None where the revision serves already."""

    service: ServiceRecord
    revision: RevisionId
    created: bool
    rollout: RolloutRecord | None
    upload: Door | None


def deploy(work: Work, project: str, name: str, request: DeployRequest) -> Deployed:
    """Make the service what `request` says."""
    made = plan(work, project, name, request)
    if made.refused:
        raise refusal(project_of(work, made.service.project), made.refused)
    if made.existing is not None:
        check_version(made.existing, request.expected_version)
    elif request.expected_version is not None:
        raise Conflict(f"there is no service {name!r} any more", hint="deploy it without expected_version")
    service = _write_service(work, made)
    rollout = _start(work, service, made) if made.starts else made.joins
    if rollout is None:
        supersede(work, service, by=f"revision {made.revision.id}, which serves already, was deployed again")
    service = work.tx.services.get(service.id) or service
    return Deployed(
        service=service,
        revision=made.revision.id,
        created=made.starts,
        rollout=rollout,
        upload=None if rollout is None else upload_for(work, rollout),
    )


def upload_for(work: Work, rollout: RolloutRecord) -> Door | None:
    """The door for the rollout's source; None where the site has it, or no site can be reached now."""
    revision = work.tx.revisions.get(rollout.service, rollout.revision)
    if revision is None or rollout.state.ended or _is_built(work, rollout):
        return None
    return door_for(work, revision.contents.source, revision.contents.source_size)


def _is_built(work: Work, rollout: RolloutRecord) -> bool:
    statuses = (one for report in work.tx.reports.of((rollout.service,)) for one in report.status.revisions)
    return any(one.revision == rollout.revision and one.build is BuildState.BUILT for one in statuses)


def _write_service(work: Work, made: Plan) -> ServiceRecord:
    if made.existing is None:
        work.tx.services.add(made.service)
        return made.service
    return save_service(work, made.service) if made.changes else made.existing


def _start(work: Work, service: ServiceRecord, made: Plan) -> RolloutRecord:
    """Write the revision and begin a rollout of it."""
    service = supersede(work, service, by=f"revision {made.revision.id} was deployed meanwhile")
    keep_revision(work, service, made.revision)
    return begin_rollout(work, service, made.revision.id, rules=service.rollout_rules)
