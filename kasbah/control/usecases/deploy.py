"""Deploys a service: writes the revision and its rollout in one transaction. The slow half is the rollout's.

The same revision with other access, scaling, sleep or label updates the service and rolls nothing out. A deploy during
a rollout supersedes it; one of the revision that is being rolled out joins that rollout.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kasbah.api.public import DeployRequest, Door
from kasbah.control.store.records import RevisionRecord, RolloutRecord, ServiceRecord
from kasbah.control.usecases.advance import commit, decide, snapshot
from kasbah.control.usecases.plan import Plan, plan
from kasbah.control.usecases.send_source import door_for
from kasbah.control.usecases.work import Work, check_version, new_id, rollout_topic, save_service
from kasbah.domain.ids import RevisionId, RolloutId
from kasbah.domain.observed import BuildState
from kasbah.domain.rollout import RolloutState
from kasbah.errors import Conflict

REVISIONS_KEPT = 10
ROLLOUTS_KEPT = 20


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
    if made.existing is not None:
        check_version(made.existing, request.expected_version)
    elif request.expected_version is not None:
        raise Conflict(f"there is no service {name!r} any more", hint="deploy it without expected_version")
    service = _write_service(work, made)
    rollout = _start(work, service, made) if made.starts else made.joins
    if rollout is None:
        _supersede(work, service, by=f"revision {made.revision.id}, which serves already, was deployed again")
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
    """Write the revision and a rollout of it, and take the rollout's first step."""
    _supersede(work, service, by=f"revision {made.revision.id} was deployed meanwhile")
    kept = work.tx.revisions.of(service.id)
    known = work.tx.revisions.get(service.id, made.revision.id)
    work.tx.revisions.put(
        RevisionRecord(
            service=service.id,
            id=made.revision.id,
            number=max((one.number for one in kept), default=0) + 1,
            created_at=known.created_at if known else work.now,
            contents=made.revision,
            proven=known is not None and known.proven,
        )
    )
    last = next(iter(work.tx.rollouts.last((service.id,))), None)
    rollout = RolloutRecord(
        id=RolloutId(new_id("rollout")),
        service=service.id,
        number=last.number + 1 if last else 1,
        revision=made.revision.id,
        previous=service.serving,
        state=RolloutState.WAITING,
        started_at=work.now,
        changed_at=work.now,
    )
    work.tx.rollouts.add(rollout)
    begun = _begin(work, rollout)
    _prune(work, begun)
    return begun


def _begin(work: Work, rollout: RolloutRecord) -> RolloutRecord:
    seen = snapshot(work.tx, rollout)
    assert seen is not None, "the rollout, its service and its revision were written just now"
    return commit(work, seen, decide(seen, work.now)) or rollout


def _supersede(work: Work, service: ServiceRecord, *, by: str) -> None:
    """End the rollout under way, if there is one."""
    last = next(iter(work.tx.rollouts.last((service.id,))), None)
    if last is None or last.state.ended:
        return
    end(work, last, by)
    current = work.tx.services.get(service.id)
    if current is not None and current.trial is not None:
        save_service(work, replace(current, trial=None))


def end(work: Work, rollout: RolloutRecord, reason: str) -> None:
    """Supersede a rollout; one that has moved the traffic is done."""
    done = rollout.shifted_at is not None
    ended = replace(
        rollout,
        state=RolloutState.DONE if done else RolloutState.SUPERSEDED,
        step="",
        reason="" if done else reason,
        changed_at=work.now,
        version=rollout.version + 1,
    )
    work.tx.rollouts.save(ended)
    work.touched.add(rollout_topic(rollout.id))


def _prune(work: Work, rollout: RolloutRecord) -> None:
    """Keep the newest revisions, and those with traffic or under trial."""
    service = work.tx.services.get(rollout.service)
    used = {share.revision for share in service.shares} if service else set()
    revisions = work.tx.revisions.of(rollout.service)
    stale = [one.id for one in revisions[:-REVISIONS_KEPT] if one.id not in used and one.id != rollout.revision]
    work.tx.revisions.drop(rollout.service, stale)
    work.tx.rollouts.trim(rollout.service, ROLLOUTS_KEPT)
