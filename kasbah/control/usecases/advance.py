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
from kasbah.control.usecases.sites import connected, facts
from kasbah.control.usecases.work import Work, rollout_topic, save_service
from kasbah.decide.placement import Needs, place
from kasbah.decide.rollout import RolloutDeadlines, RolloutStep, SiteProgress, next_step, wait_for_place
from kasbah.domain.placement import Placement
from kasbah.domain.rollout import RolloutState
from kasbah.domain.service import Share, Trial

START_MARGIN = timedelta(minutes=2)
"""A site keeps a start's deadline itself; ours is longer by this much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A rollout and everything its next step depends on."""

    rollout: RolloutRecord
    service: ServiceRecord
    revision: RevisionRecord
    epoch: int
    sites: tuple[SiteRecord, ...]
    reports: tuple[ServiceReport, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What was decided. `placement` is set where sites were chosen just now."""

    step: RolloutStep
    placement: Placement | None = None

    def changes(self, rollout: RolloutRecord) -> bool:
        """Whether there is anything to commit."""
        told = (self.step.state, self.step.reason, self.step.tail, self.step.step)
        known = (rollout.state, rollout.reason, rollout.tail, rollout.step)
        return self.placement is not None or self.step.shift or told != known


def snapshot(tx: Transaction, rollout: RolloutRecord) -> Snapshot | None:
    """The rollout's snapshot; None where its service or revision is gone."""
    service = tx.services.get(rollout.service)
    revision = tx.revisions.get(rollout.service, rollout.revision)
    installation = tx.installations.get()
    if service is None or revision is None or installation is None:
        return None
    return Snapshot(
        rollout=rollout,
        service=service,
        revision=revision,
        epoch=installation.epoch,
        sites=tx.sites.all(),
        reports=tx.reports.of((service.id,)),
    )


def decide(seen: Snapshot, now: datetime) -> Move:
    """Place the rollout if it has no place; else take its next step."""
    trial, placement = seen.service.trial, None
    started = seen.rollout.shifted_at is not None or (trial is not None and trial.rollout == seen.rollout.id)
    if not started:
        contents = seen.revision.contents
        needs = Needs(runtime=contents.runtime, resources=contents.resources)
        placement = place(seen.service.id, needs, tuple(facts(site, now) for site in seen.sites))
        if not placement.chosen:
            return Move(step=wait_for_place(placement, {site.id: site.name for site in seen.sites}))
    step = next_step(
        seen.rollout.rollout,
        _progress(seen, placement or seen.service.placement, now),
        shifted_at=seen.rollout.shifted_at,
        now=now,
        deadlines=RolloutDeadlines(start=seen.revision.contents.deadlines.startup + START_MARGIN),
    )
    return Move(step=step, placement=placement)


def _progress(seen: Snapshot, placement: Placement | None, now: datetime) -> tuple[SiteProgress, ...]:
    """How far each chosen site has come."""
    chosen = placement.chosen if placement else ()
    reports = {report.site: report.status for report in seen.reports}
    progress = []
    for site in seen.sites:
        if site.id not in chosen:
            continue
        status = reports.get(site.id)
        statuses = status.revisions if status else ()
        shifted = (seen.epoch, seen.rollout.shifted_generation or 0)
        progress.append(
            SiteProgress(
                site=site.name,
                connected=connected(site, now),
                status=next((one for one in statuses if one.revision == seen.rollout.revision), None),
                applied=site.report is not None and site.report.applied >= shifted,
            )
        )
    return tuple(progress)


def commit(work: Work, seen: Snapshot, move: Move) -> RolloutRecord | None:
    """Make the move, unless the rollout has moved on since the snapshot; the rollout as it is then."""
    rollout = work.tx.rollouts.get(seen.rollout.id)
    service = work.tx.services.get(seen.service.id)
    if rollout is None or service is None or rollout.version != seen.rollout.version or not move.changes(rollout):
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
    if step.shift:
        moved = replace(moved, shifted_at=work.now, shifted_generation=_shift(work, service, rollout))
    else:
        save_service(work, _asked(service, rollout, move))
    work.tx.rollouts.save(moved)
    work.touched.add(rollout_topic(rollout.id))
    return moved


def _asked(service: ServiceRecord, rollout: RolloutRecord, move: Move) -> ServiceRecord:
    """The service with the trial begun or ended."""
    if move.placement is not None:
        return replace(service, placement=move.placement, trial=Trial(rollout=rollout.id, revision=rollout.revision))
    ours = service.trial is not None and service.trial.rollout == rollout.id
    if move.step.state is RolloutState.FAILED and ours:
        return replace(service, trial=None)
    return service


def _shift(work: Work, service: ServiceRecord, rollout: RolloutRecord) -> int:
    """Move all traffic to the revision; the generation that says so."""
    shares = (Share(revision=rollout.revision, percent=100),)
    save_service(work, replace(service, shares=shares, trial=None, deployed_at=work.now))
    proven = work.tx.revisions.get(service.id, rollout.revision)
    if proven is not None:
        work.tx.revisions.put(replace(proven, proven=True))
    work.publish()
    desired = (work.tx.sites.desired(site.id) for site in work.tx.sites.all())
    return max((document.generation for document in desired if document is not None), default=0)
