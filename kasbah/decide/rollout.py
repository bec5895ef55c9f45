"""What does a rollout do next? One step at a time, from what the sites report of the revision it tries.

    waiting --placed, source there--> building --built--> starting --proven--> (traffic moves) --applied--> done
       \\______________________________________\\______________________\\---failed, or too late--> failed

Until a revision is proven, traffic stays where it was; a rollout that fails changes nothing for callers. Only a site's
word about this very rollout counts: an earlier rollout of the same revision proves nothing. While a site is away its
part of the rollout waits, and no deadline runs out on it except the source's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from kasbah.domain.ids import SiteId
from kasbah.domain.observed import BuildState, RevisionStatus, TrialState
from kasbah.domain.placement import Placement
from kasbah.domain.rollout import Rollout, RolloutState

ORDER = (RolloutState.FAILED, RolloutState.WAITING, RolloutState.BUILDING, RolloutState.STARTING)
"""Where sites differ, the earliest of these is the rollout's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutDeadlines:
    """How long each stretch may take. Sites keep the build's and the start's deadlines themselves; ours are longer,
    and catch a site that reports but never decides. `apply` bounds the wait for a site to act on moved traffic."""

    source: timedelta = timedelta(minutes=15)
    build: timedelta = timedelta(minutes=20)
    start: timedelta = timedelta(minutes=5)
    apply: timedelta = timedelta(seconds=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteProgress:
    """How far one chosen site has come. `status` None: it has said nothing of the revision. `applied`: it acts on
    a desired state in which the traffic has moved."""

    site: str
    connected: bool
    status: RevisionStatus | None
    applied: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStep:
    """What the rollout becomes. `step` is what happens now, in words; `shift`: move all traffic to the revision."""

    state: RolloutState
    reason: str = ""
    tail: tuple[str, ...] = ()
    step: str = ""
    shift: bool = False


def next_step(
    rollout: Rollout,
    progress: tuple[SiteProgress, ...],
    *,
    shifted_at: datetime | None,
    now: datetime,
    deadlines: RolloutDeadlines,
) -> RolloutStep:
    """The next step of a rollout that has a place. `shifted_at`: since when traffic has been moved, None before.

    With several sites the slowest decides, and the first to fail fails it.
    """
    if shifted_at is not None:
        return _settle(progress, late=now - shifted_at > deadlines.apply)
    steps = [_at_site(rollout, one, now, deadlines) for one in progress]
    return min(steps, key=lambda step: (ORDER.index(step.state), step.shift))


def wait_for_place(placement: Placement, names: Mapping[SiteId, str]) -> RolloutStep:
    """The step of a rollout that no site can take: it waits, and says for each site why."""
    told = [f"{names.get(one.site, one.site)}: {one.reason} ({one.hint})" for one in placement.verdicts]
    return RolloutStep(state=RolloutState.WAITING, reason="no site can run it. " + "; ".join(told))


def _settle(progress: tuple[SiteProgress, ...], *, late: bool) -> RolloutStep:
    """Done once every site that is there acts on the moved traffic. One that is away acts when it is back."""
    if late or all(one.applied or not one.connected for one in progress):
        return RolloutStep(state=RolloutState.DONE)
    return RolloutStep(state=RolloutState.STARTING, step="moving traffic")


def _at_site(rollout: Rollout, site: SiteProgress, now: datetime, deadlines: RolloutDeadlines) -> RolloutStep:
    ours = site.status if site.status is not None and site.status.rollout == rollout.id else None
    if ours is None or ours.build is BuildState.ABSENT:
        return _waiting_for_source(rollout, site, now, deadlines)
    if not site.connected and ours.trial is not TrialState.PROVEN:
        return RolloutStep(state=RolloutState.WAITING, reason=f"site {site.site} does not report at present")
    match ours.build:
        case BuildState.BUILDING:
            going = RolloutStep(state=RolloutState.BUILDING, step=ours.step or "building")
            return _in_time(rollout, going, now, deadlines.build)
        case BuildState.FAILED:
            return _failed(ours, "the build failed")
        case BuildState.BUILT:
            return _trial(rollout, ours, now, deadlines)
        case _ as never:
            assert_never(never)


def _trial(rollout: Rollout, status: RevisionStatus, now: datetime, deadlines: RolloutDeadlines) -> RolloutStep:
    match status.trial:
        case TrialState.UNTRIED | TrialState.TRYING:
            going = RolloutStep(state=RolloutState.STARTING, step=status.step or "starting a replica")
            return _in_time(rollout, going, now, deadlines.start)
        case TrialState.FAILED:
            return _failed(status, "the replica did not start")
        case TrialState.PROVEN:
            return RolloutStep(state=RolloutState.STARTING, step="moving traffic", shift=True)
        case _ as never:
            assert_never(never)


def _waiting_for_source(
    rollout: Rollout, site: SiteProgress, now: datetime, deadlines: RolloutDeadlines
) -> RolloutStep:
    if rollout.state is RolloutState.WAITING and now - rollout.changed_at > deadlines.source:
        minutes = deadlines.source.total_seconds() / 60
        reason = f"the source did not arrive at site {site.site} within {minutes:g} minutes: deploy again"
        return RolloutStep(state=RolloutState.FAILED, reason=reason)
    where = f"site {site.site}" if site.connected else f"site {site.site}, which does not report at present"
    return RolloutStep(state=RolloutState.WAITING, reason=f"waiting for the source to reach {where}")


def _in_time(rollout: Rollout, going: RolloutStep, now: datetime, deadline: timedelta) -> RolloutStep:
    """`going`, unless the rollout has been in that state for longer than it may."""
    if rollout.state is going.state and now - rollout.changed_at > deadline:
        reason = f"still {going.state.value} after {deadline.total_seconds() / 60:g} minutes, given up"
        return RolloutStep(state=RolloutState.FAILED, reason=reason)
    return going


def _failed(status: RevisionStatus, otherwise: str) -> RolloutStep:
    return RolloutStep(state=RolloutState.FAILED, reason=status.reason or otherwise, tail=status.tail)
