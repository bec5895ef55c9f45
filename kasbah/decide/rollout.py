"""What does a rollout do next? One step at a time, from what the sites report of the revision it tries.

    waiting --placed, source there--> building --built--> starting --proven, enough replicas ready--> shifting
       \\______________________________________\\______________________\\---failed, or too late--> failed
    shifting: a percentage, settled at every site, a canary's pause, the next percentage ... all of it --> watching
    watching: what served before is still at hand; watched for long enough --> done
       \\---cannot serve, or more requests fail than before--> traffic turns back, failed

Until a revision is proven, traffic stays where it was; a rollout that fails changes nothing for callers. Only a site's
word about this very rollout counts: an earlier rollout of the same revision proves nothing. While a site is away its
part of the rollout waits, and no deadline runs out on it except the source's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import assert_never

from kasbah.decide.failing import fails_more
from kasbah.domain.ids import SiteId
from kasbah.domain.observed import BuildState, RevisionStatus, TrialState
from kasbah.domain.placement import Placement
from kasbah.domain.rollout import Rollout, RolloutState, Strategy
from kasbah.domain.usage import Usage

ORDER = (RolloutState.FAILED, RolloutState.WAITING, RolloutState.BUILDING, RolloutState.STARTING, RolloutState.SHIFTING)
"""Where sites differ, the earliest of these is the rollout's."""
MOST_STEPS = 4
"""A rolling rollout of many replicas moves in no smaller parts than a quarter."""


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
    a desired state in which the traffic has moved. `serving` counts the awake replicas of what served before."""

    site: str
    connected: bool
    status: RevisionStatus | None
    applied: bool = False
    serving: int = 0

    @property
    def ready(self) -> int:
        """The ready replicas of the revision."""
        return self.status.ready if self.status else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a revision may have: so many replicas, and whether only `alone`, since it needs a port that is fixed."""

    most: int = 1
    alone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What was counted of the new revision since its first traffic, and of what served before in the time around."""

    new: Usage = Usage()
    before: Usage = Usage()


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStep:
    """What the rollout becomes. `step` is what happens now, in words; `percent`: give the revision so much of the
    traffic; `replicas`: have so many of it ready first; `back`: return all traffic to where it was."""

    state: RolloutState
    reason: str = ""
    tail: tuple[str, ...] = ()
    step: str = ""
    percent: int | None = None
    replicas: int | None = None
    back: bool = False


def next_step(
    rollout: Rollout,
    progress: tuple[SiteProgress, ...],
    *,
    now: datetime,
    deadlines: RolloutDeadlines,
    bounds: Bounds = Bounds(),
    served: Served = Served(),
) -> RolloutStep:
    """The next step of a rollout that has a place. With several sites the slowest decides, and the first to fail
    fails it."""
    if rollout.moved_at is None:
        slowest = min((_at_site(rollout, one, now, deadlines) for one in progress), key=_order)
        proven = slowest.state is RolloutState.SHIFTING
        return _advance(rollout, progress, now, deadlines, bounds) if proven else slowest
    trouble = _trouble(rollout, progress, served)
    if trouble is not None:
        return trouble
    late = now - rollout.moved_at > deadlines.apply
    if not late and not all(one.applied or not one.connected for one in progress):
        return RolloutStep(state=RolloutState.SHIFTING, step=f"moving traffic to {rollout.percent}%")
    if rollout.percent == 100:
        return _watch(rollout, now, bounds)
    return _pause(rollout, progress, now) or _advance(rollout, progress, now, deadlines, bounds)


def wait_for_place(placement: Placement, names: Mapping[SiteId, str]) -> RolloutStep:
    """The step of a rollout that no site can take: it waits, and says for each site why."""
    return RolloutStep(state=RolloutState.WAITING, reason=f"no site can run it. {placement.told(names)}")


# --- until it is proven -----------------------------------------------------------------------------------------------


def _order(step: RolloutStep) -> int:
    return ORDER.index(step.state)


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
            return RolloutStep(state=RolloutState.SHIFTING)
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


# --- once it is -------------------------------------------------------------------------------------------------------


def _advance(
    rollout: Rollout,
    progress: tuple[SiteProgress, ...],
    now: datetime,
    deadlines: RolloutDeadlines,
    bounds: Bounds,
) -> RolloutStep:
    """More traffic, as soon as every site has replicas enough for it."""
    if rollout.rules.strategy is Strategy.MANUAL:
        return RolloutStep(state=RolloutState.DONE, percent=0)
    wanted = _next_percent(rollout, progress, bounds)
    if any(not one.connected for one in progress if rollout.moved_at):
        return RolloutStep(
            state=RolloutState.SHIFTING, step=f"at {rollout.percent}%: a site does not report at present"
        )
    missing = [(one.ready, need) for one in progress if one.ready < (need := _replicas(one, wanted, bounds))]
    if not missing:
        return RolloutStep(state=RolloutState.SHIFTING, step=f"moving traffic to {wanted}%", percent=wanted)
    ready, need = max(missing, key=lambda pair: pair[1] - pair[0])
    return _starting_more(rollout, ready, need, now, deadlines)


def _starting_more(rollout: Rollout, ready: int, need: int, now: datetime, deadlines: RolloutDeadlines) -> RolloutStep:
    since = rollout.changed_at if rollout.moved_at is None else rollout.moved_at + rollout.rules.pause
    state = RolloutState.STARTING if rollout.moved_at is None else RolloutState.SHIFTING
    if rollout.state is state and now - since > deadlines.start:
        return _turn_back(f"only {ready} of the {need} replicas it needs became ready in time")
    return RolloutStep(state=state, step=f"{ready} of {need} replicas ready", replicas=need)


def _next_percent(rollout: Rollout, progress: tuple[SiteProgress, ...], bounds: Bounds) -> int:
    """The next percentage of the strategy above what was moved already."""
    if bounds.alone or not rollout.before:
        return 100
    match rollout.rules.strategy:
        case Strategy.CANARY:
            steps = rollout.rules.steps
        case Strategy.ROLLING:
            parts = max(min(max(one.serving for one in progress), MOST_STEPS), 1)
            steps = tuple(100 * part // parts for part in range(1, parts))
        case Strategy.BLUE_GREEN | Strategy.MANUAL:
            steps = ()
        case _ as never:
            assert_never(never)
    return next((percent for percent in steps if percent > rollout.percent), 100)


def _replicas(site: SiteProgress, percent: int, bounds: Bounds) -> int:
    """The replicas that `percent` of the traffic needs at a site, measured by those that carry all of it."""
    return min(max(ceil(site.serving * percent / 100), 1), bounds.most)


def _trouble(rollout: Rollout, progress: tuple[SiteProgress, ...], served: Served) -> RolloutStep | None:
    """The way back, where there is one and the revision is not fit to serve."""
    if not rollout.before:
        return None
    for site in progress:
        if site.status is not None and site.status.trouble:
            return _turn_back(f"site {site.site}: {site.status.trouble}", site.status.tail)
    more = fails_more(served.new, served.before, tolerance=rollout.rules.tolerance)
    return None if more is None else _turn_back(more)


def _turn_back(why: str, tail: tuple[str, ...] = ()) -> RolloutStep:
    return RolloutStep(state=RolloutState.FAILED, reason=f"turned back: {why}", tail=tail, back=True)


def _watch(rollout: Rollout, now: datetime, bounds: Bounds) -> RolloutStep:
    assert rollout.moved_at is not None
    if rollout.before and not bounds.alone and now - rollout.moved_at < rollout.rules.watch:
        return RolloutStep(state=RolloutState.WATCHING, step="serving; what served before is still at hand")
    return RolloutStep(state=RolloutState.DONE)


def _pause(rollout: Rollout, progress: tuple[SiteProgress, ...], now: datetime) -> RolloutStep | None:
    assert rollout.moved_at is not None
    if rollout.rules.strategy is not Strategy.CANARY or now - rollout.moved_at >= rollout.rules.pause:
        return None
    pause = rollout.rules.pause.total_seconds()
    return RolloutStep(state=RolloutState.SHIFTING, step=f"at {rollout.percent}%, for {pause:g} s")
