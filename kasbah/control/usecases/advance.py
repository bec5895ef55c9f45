"""Carries rollouts on: a snapshot of one, the decision about it, and the decision's commit.

The deploy that starts a rollout takes all three in its own transaction; the loop takes a snapshot, decides without a
transaction, and commits only if the rollout is still at the version it decided on. Where it is not, the next pass
decides again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from kasbah.control.store.interface import Transaction
from kasbah.control.store.records import RevisionRecord, RolloutRecord, ServiceRecord, ServiceReport, SiteRecord
from kasbah.control.usecases.decisions import tell_placement, tell_rollout
from kasbah.control.usecases.placing import placed, survey
from kasbah.control.usecases.sites import connected
from kasbah.control.usecases.work import Work, rollout_topic, save_service
from kasbah.decide import shares
from kasbah.decide.reconcile import AWAKE
from kasbah.decide.rollout import (
    Bounds,
    RolloutDeadlines,
    RolloutStep,
    Served,
    SiteProgress,
    next_step,
    wait_for_place,
)
from kasbah.domain.ids import RevisionId
from kasbah.domain.observed import BuildState
from kasbah.domain.placement import Placement, Verdict
from kasbah.domain.rollout import Cause, RolloutState
from kasbah.domain.service import Share, Trial
from kasbah.domain.usage import Usage

START_MARGIN = timedelta(minutes=2)
"""A site keeps a start's deadline itself; ours is longer by this much."""
USUAL = timedelta(minutes=30)
"""What failed for so long before the traffic moved says how much fails without the new revision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A rollout and everything its next step depends on. `placement` is where the service would be placed now; `served`
    is what each revision served around it."""

    rollout: RolloutRecord
    service: ServiceRecord
    revision: RevisionRecord
    epoch: int
    sites: tuple[SiteRecord, ...]
    placement: Placement
    reports: tuple[ServiceReport, ...]
    served: Served = Served()

    @property
    def bounds(self) -> Bounds:
        """What the revision may have."""
        alone = self.revision.contents.alone
        return Bounds(most=1 if alone else self.service.scaling.max, alone=alone)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What was decided. `placement` is set where sites were chosen just now, `nowhere` where none could be."""

    step: RolloutStep
    placement: Placement | None = None
    nowhere: Placement | None = None

    def changes(self, rollout: RolloutRecord, trial: Trial | None) -> bool:
        """Whether there is anything to commit."""
        step = self.step
        told = (step.state, step.reason, step.tail, step.step)
        known = (rollout.state, rollout.reason, rollout.tail, rollout.step)
        asks = step.replicas is not None and step.replicas != (trial.replicas if trial else 0)
        return self.placement is not None or step.percent is not None or step.back or asks or told != known


def snapshot(work: Work, rollout: RolloutRecord) -> Snapshot | None:
    """The rollout's snapshot; None where its service or revision is gone."""
    tx = work.tx
    service = tx.services.get(rollout.service)
    revision = tx.revisions.get(rollout.service, rollout.revision)
    installation = tx.installations.get()
    if service is None or revision is None or installation is None:
        return None
    estate = survey(work, room=service.scaling.min > 0)
    return Snapshot(
        rollout=rollout,
        service=service,
        revision=revision,
        epoch=installation.epoch,
        sites=estate.sites,
        placement=placed(work, estate, service, revision.contents),
        reports=tx.reports.of((service.id,)),
        served=_served(tx, rollout),
    )


def _served(tx: Transaction, rollout: RolloutRecord) -> Served:
    """What was counted of the new revision since its first traffic, and of the others since some time before."""
    since = rollout.shifted_at
    if since is None:
        return Served()
    new = tx.usage.by_revision(rollout.service, since=since.replace(second=0, microsecond=0))
    usual = tx.usage.by_revision(rollout.service, since=since - USUAL)
    before = [usual.get(share.revision, Usage()) for share in rollout.before if share.revision != rollout.revision]
    return Served(new=new.get(rollout.revision, Usage()), before=sum(before, Usage()))


def decide(seen: Snapshot, now: datetime) -> Move:
    """Place the rollout if it has no place, or has lost it; else take its next step."""
    trial, placement = seen.service.trial, None
    started = seen.rollout.moved_at is not None or (trial is not None and trial.rollout == seen.rollout.id)
    if not started or _lost(seen):
        placement = seen.placement
        if not placement.chosen:
            waits = wait_for_place(placement, {site.id: site.name for site in seen.sites})
            return Move(step=waits, nowhere=placement)
    progress = _progress(seen, placement or seen.service.placement, now)
    if not started and _is_there(seen, progress):
        return Move(step=RolloutStep(state=RolloutState.SHIFTING, step="moving traffic", percent=100))
    step = next_step(
        seen.rollout.rollout,
        progress,
        now=now,
        deadlines=RolloutDeadlines(start=seen.revision.contents.deadlines.startup + START_MARGIN),
        bounds=seen.bounds,
        served=seen.served,
    )
    return Move(step=step, placement=placement)


def _lost(seen: Snapshot) -> bool:
    """Whether a site that was chosen may not, or cannot, run it any more."""
    chosen = seen.service.placement.chosen if seen.service.placement else ()
    kept = {one.site for one in seen.placement.verdicts if one.verdict is not Verdict.REFUSED}
    return not chosen or not kept.issuperset(chosen)


def _is_there(seen: Snapshot, progress: tuple[SiteProgress, ...]) -> bool:
    """Whether a rollback has nothing to prepare: its revision served before, and is built at every site."""
    built = all(one.status is not None and one.status.build is BuildState.BUILT for one in progress)
    return seen.rollout.cause is Cause.ROLLBACK and seen.revision.proven and built


def _progress(seen: Snapshot, placement: Placement | None, now: datetime) -> tuple[SiteProgress, ...]:
    """How far each chosen site has come."""
    chosen = placement.chosen if placement else ()
    reports = {report.site: report.status for report in seen.reports}
    serving = {share.revision for share in seen.rollout.before if share.percent > 0}
    progress = []
    for site in seen.sites:
        if site.id not in chosen:
            continue
        status = reports.get(site.id)
        shifted = (seen.epoch, seen.rollout.shifted_generation or 0)
        progress.append(
            SiteProgress(
                site=site.name,
                connected=connected(site, now),
                status=next((one for one in status.revisions if one.revision == seen.rollout.revision), None)
                if status
                else None,
                applied=site.report is not None and site.report.applied >= shifted,
                serving=sum(one.revision in serving and one.state in AWAKE for one in status.replicas) if status else 0,
            )
        )
    return tuple(progress)


def commit(work: Work, seen: Snapshot, move: Move) -> RolloutRecord | None:
    """Make the move, unless the rollout has moved on since the snapshot; the rollout as it is then."""
    rollout = work.tx.rollouts.get(seen.rollout.id)
    service = work.tx.services.get(seen.service.id)
    if rollout is None or service is None or rollout.version != seen.rollout.version:
        return rollout
    if not move.changes(rollout, service.trial):
        return rollout
    step = move.step
    since = work.now if step.state is not rollout.state or move.placement is not None else rollout.changed_at
    moved = replace(
        rollout,
        state=step.state,
        reason=step.reason,
        tail=step.tail,
        step=step.step,
        changed_at=since,
        version=rollout.version + 1,
    )
    if step.percent is not None:
        moved = _shift(work, seen, service, moved, step.percent)
    else:
        wanted = _asked(service, rollout, move)
        if wanted != service:
            save_service(work, wanted)
    work.tx.rollouts.save(moved)
    work.touched.add(rollout_topic(rollout.id))
    decided = move.placement or move.nowhere
    if decided is not None:
        tell_placement(work.journal, service, decided, seen.sites)
    tell_rollout(work.journal, service, rollout, moved)
    return moved


def _asked(service: ServiceRecord, rollout: RolloutRecord, move: Move) -> ServiceRecord:
    """The service with the trial begun, asked for more, or ended; and its traffic returned where that was decided."""
    trial = Trial(rollout=rollout.id, revision=rollout.revision, replicas=move.step.replicas or 1)
    if move.placement is not None:
        return replace(service, placement=move.placement, trial=trial)
    if move.step.back:
        return replace(service, shares=rollout.before, trial=None)
    if move.step.replicas is not None:
        return replace(service, trial=trial)
    ours = service.trial is not None and service.trial.rollout == rollout.id
    if move.step.state is RolloutState.FAILED and ours:
        return replace(service, trial=None)
    return service


def _shift(work: Work, seen: Snapshot, service: ServiceRecord, rollout: RolloutRecord, percent: int) -> RolloutRecord:
    """Give the revision so much of the traffic; the rollout with the generation that says so."""
    divided = _divided(rollout.before, rollout.revision, percent, only=seen.bounds.alone)
    save_service(work, replace(service, shares=divided, trial=None, deployed_at=work.now))
    proven = work.tx.revisions.get(service.id, rollout.revision)
    if proven is not None:
        work.tx.revisions.put(replace(proven, proven=True))
    work.publish()
    chosen = service.placement.chosen if service.placement else ()
    desired = (work.tx.sites.desired(site) for site in chosen)
    if percent == 0:
        return rollout
    return replace(
        rollout,
        percent=percent,
        shifted_at=rollout.shifted_at or work.now,
        moved_at=work.now,
        shifted_generation=max((document.generation for document in desired if document is not None), default=0),
    )


def _divided(before: tuple[Share, ...], revision: RevisionId, percent: int, *, only: bool) -> tuple[Share, ...]:
    if only:
        return before if percent == 0 and before else shares.alone(revision)
    return shares.shift(before, revision, percent) if percent > 0 else shares.beside(before, revision)
