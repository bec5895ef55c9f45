"""Deploys a service: writes the revision and its rollout in one transaction. The slow half is the rollout's.

The same revision with other access, scaling, sleep, rollout rules or label updates the service and rolls nothing out,
but its source is sent again to a site that is to run it and lacks it. A deploy during a rollout supersedes it; one of
the revision that is being rolled out joins that rollout.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from kasbah.api.public import DeployRequest, Door
from kasbah.control.store.records import RolloutRecord, ServiceRecord
from kasbah.control.usecases.begin_rollout import begin_rollout, keep_revision
from kasbah.control.usecases.decisions import tell_placement
from kasbah.control.usecases.outbound import check_exits
from kasbah.control.usecases.plan import Plan, plan
from kasbah.control.usecases.quotas import project_of, refusal
from kasbah.control.usecases.send_source import doors_for
from kasbah.control.usecases.supersede import supersede
from kasbah.control.usecases.vouching import deployer_of, sign_again
from kasbah.control.usecases.work import Work, check_version, save_service
from kasbah.domain.ids import RevisionId, SiteId
from kasbah.domain.label import label_text
from kasbah.errors import Conflict


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What a deploy made. `rollout` is the one to watch, None where the revision serves already."""

    service: ServiceRecord
    revision: RevisionId
    created: bool
    rollout: RolloutRecord | None
    uploads: tuple[Door, ...]


def deploy(work: Work, project: str, name: str, request: DeployRequest) -> Deployed:
    """Make the service what `request` says."""
    made = plan(work, project, name, request)
    if made.refused:
        raise refusal(project_of(work, made.service.project), made.refused)
    check_exits(made.service.label, made.exits)
    if made.existing is not None:
        check_version(made.existing, request.expected_version)
    elif request.expected_version is not None:
        raise Conflict(f"there is no service {name!r} any more", hint="deploy it without expected_version")
    _tell(work, made)
    service = _write_service(work, made)
    rollout = _start(work, service, made) if made.starts else made.joins
    if not made.starts:
        sign_again(work, service, made.revision, made.attested)
    if rollout is None:
        supersede(work, service, by=f"revision {made.revision.id}, which serves already, was deployed again")
    service = work.tx.services.get(service.id) or service
    if rollout is not None:
        uploads = uploads_for(work, rollout)
    else:
        uploads = sent_again(work, service, made.revision.id, anew=_given_back(made, service))
    return Deployed(
        service=service,
        revision=made.revision.id,
        created=made.starts,
        rollout=rollout,
        uploads=uploads,
    )


def sent_again(
    work: Work, service: ServiceRecord, revision: RevisionId, *, anew: Collection[SiteId] = ()
) -> tuple[Door, ...]:
    """The doors for the source of what serves already, where a site that is to run it lacks it: what the law took from
    a site was erased there, and a place that is given back begins with its source. `anew` as `doors_for` has it."""
    found = work.tx.revisions.get(service.id, revision)
    if found is None:
        return ()
    doors = doors_for(work, service, found.contents.source, found.contents.source_size, anew=anew)
    return doors if any(not one.standby for one in doors) else ()


def _given_back(made: Plan, service: ServiceRecord) -> set[SiteId]:
    before = made.existing.placement if made.existing is not None else None
    chosen = set() if service.placement is None else set(service.placement.chosen)
    return chosen if before is None else chosen - set(before.chosen)


def uploads_for(work: Work, rollout: RolloutRecord) -> tuple[Door, ...]:
    """The doors for the source of a rollout that goes on."""
    revision = work.tx.revisions.get(rollout.service, rollout.revision)
    service = work.tx.services.get(rollout.service)
    if revision is None or service is None or rollout.state.ended:
        return ()
    return doors_for(work, service, revision.contents.source, revision.contents.source_size)


def _write_service(work: Work, made: Plan) -> ServiceRecord:
    if made.existing is None:
        work.tx.services.add(made.service)
        return made.service
    return save_service(work, made.service) if made.changes else made.existing


def _tell(work: Work, made: Plan) -> None:
    """Add to the audit log's entry what is deployed, and the label it had where that is another now; with where that
    puts the service, where it is placed already."""
    before = made.existing.label if made.existing is not None else made.service.label
    work.journal.detail(
        service=made.service.id,
        revision=made.revision.id,
        source=made.revision.source,
        deployer=deployer_of(work, made.attested) or None,
        label=label_text(made.service.label),
        label_before=label_text(before) if before != made.service.label else None,
    )
    placement = made.service.placement
    if made.existing is not None and placement is not None and placement != made.existing.placement:
        tell_placement(work.journal, made.service, placement, work.tx.sites.all())


def _start(work: Work, service: ServiceRecord, made: Plan) -> RolloutRecord:
    """Write the revision and begin a rollout of it."""
    service = supersede(work, service, by=f"revision {made.revision.id} was deployed meanwhile")
    keep_revision(work, service, made.revision, made.attested)
    return begin_rollout(work, service, made.revision.id, rules=service.rollout_rules)
