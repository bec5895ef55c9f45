from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.rollout import Bounds, RolloutDeadlines, Served, SiteProgress, next_step, wait_for_place
from kasbah.domain.ids import RevisionId, RolloutId, ServiceId, SiteId
from kasbah.domain.observed import BuildState, RevisionStatus, TrialState
from kasbah.domain.placement import Placement, SiteVerdict, Verdict
from kasbah.domain.rollout import Rollout, RolloutRules, RolloutState, Strategy
from kasbah.domain.service import Share
from kasbah.domain.usage import Usage

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DEADLINES = RolloutDeadlines()
REVISION = RevisionId("rv-new")
ROLLOUT = Rollout(
    id=RolloutId("ro-1"),
    service=ServiceId("sv-1"),
    revision=REVISION,
    before=(Share(revision=RevisionId("rv-old"), percent=100),),
    state=RolloutState.WAITING,
    started_at=NOW,
    changed_at=NOW,
)


def status(build: BuildState, trial: TrialState = TrialState.UNTRIED, **more) -> RevisionStatus:
    return RevisionStatus(**{"revision": REVISION, "rollout": ROLLOUT.id, "build": build, "trial": trial} | more)


def at(seen: RevisionStatus | None, *, connected: bool = True, applied: bool = False, serving: int = 1):
    return SiteProgress(site="local", connected=connected, status=seen, applied=applied, serving=serving)


def step(*progress: SiteProgress, rollout: Rollout = ROLLOUT, now: datetime = NOW, most: int = 10, **more):
    bounds = Bounds(most=most, alone=more.pop("alone", False))
    return next_step(rollout, progress, now=now, deadlines=DEADLINES, bounds=bounds, **more)


def going(strategy: Strategy, percent: int = 0, **more) -> Rollout:
    """A rollout that has moved so much, just now."""
    state = RolloutState.SHIFTING if percent else RolloutState.STARTING
    moved = NOW if percent else None
    return replace(ROLLOUT, rules=RolloutRules(strategy=strategy, **more), percent=percent, moved_at=moved, state=state)


BUILDING = status(BuildState.BUILDING, step="installing 12 packages")
PROVEN = status(BuildState.BUILT, TrialState.PROVEN, ready=1)
FAILED_BUILD = status(BuildState.FAILED, reason="pip said no", tail=("one", "two"))
FAILED_START = status(BuildState.BUILT, TrialState.FAILED, reason="exited with code 1", tail=("boom",))


@pytest.mark.parametrize(
    ("seen", "state", "words", "percent"),
    [
        (None, RolloutState.WAITING, "waiting for the source", None),
        (status(BuildState.ABSENT), RolloutState.WAITING, "waiting for the source", None),
        (BUILDING, RolloutState.BUILDING, "installing 12 packages", None),
        (status(BuildState.BUILT), RolloutState.STARTING, "starting a replica", None),
        (status(BuildState.BUILT, TrialState.TRYING), RolloutState.STARTING, "starting a replica", None),
        (PROVEN, RolloutState.SHIFTING, "moving traffic", 100),
        (FAILED_BUILD, RolloutState.FAILED, "pip said no", None),
        (FAILED_START, RolloutState.FAILED, "exited with code 1", None),
        (replace(PROVEN, rollout=RolloutId("ro-0")), RolloutState.WAITING, "waiting for the source", None),
        (replace(FAILED_START, rollout=RolloutId("ro-0")), RolloutState.WAITING, "waiting for the source", None),
    ],
)
def test_what_a_site_says_decides_the_step(seen, state, words, percent) -> None:
    taken = step(at(seen))
    assert taken.state is state
    assert words in taken.reason + taken.step
    assert taken.percent == percent


def test_a_failure_keeps_the_last_lines() -> None:
    assert step(at(FAILED_BUILD)).tail == ("one", "two")
    assert step(at(FAILED_START)).tail == ("boom",)


def test_a_failure_without_a_reason_still_has_one() -> None:
    assert step(at(replace(FAILED_BUILD, reason=""))).reason == "the build failed"
    assert step(at(replace(FAILED_START, reason=""))).reason == "the replica did not start"


@pytest.mark.parametrize(
    ("state", "seen", "deadline", "words"),
    [
        (RolloutState.WAITING, None, DEADLINES.source, "did not arrive"),
        (RolloutState.BUILDING, BUILDING, DEADLINES.build, "still building"),
        (RolloutState.STARTING, status(BuildState.BUILT, TrialState.TRYING), DEADLINES.start, "still starting"),
    ],
)
def test_each_stretch_has_a_deadline_of_its_own(state, seen, deadline, words) -> None:
    rollout = replace(ROLLOUT, state=state)
    assert step(at(seen), rollout=rollout, now=NOW + deadline).state is state
    late = step(at(seen), rollout=rollout, now=NOW + deadline + timedelta(seconds=1))
    assert late.state is RolloutState.FAILED
    assert words in late.reason


def test_a_stretch_that_begins_has_all_its_time() -> None:
    """The source came late; the build is not blamed for it."""
    late = NOW + DEADLINES.source + DEADLINES.build
    assert step(at(BUILDING), now=late).state is RolloutState.BUILDING


def test_a_site_that_is_away_is_waited_for() -> None:
    rollout = replace(ROLLOUT, state=RolloutState.BUILDING)
    waits = step(at(BUILDING, connected=False), rollout=rollout, now=NOW + timedelta(days=1))
    assert waits.state is RolloutState.WAITING
    assert "does not report" in waits.reason


def test_moved_traffic_is_done_once_the_site_acts_on_it() -> None:
    shifted = replace(going(Strategy.ROLLING, 100), before=())
    assert step(at(PROVEN), rollout=shifted).state is RolloutState.SHIFTING
    assert step(at(PROVEN, applied=True), rollout=shifted).state is RolloutState.DONE
    assert step(at(PROVEN, connected=False), rollout=shifted).state is RolloutState.DONE
    late = NOW + DEADLINES.apply + timedelta(seconds=1)
    assert step(at(PROVEN), rollout=shifted, now=late).state is RolloutState.DONE


def test_moved_traffic_is_never_moved_again() -> None:
    assert step(at(PROVEN), rollout=going(Strategy.ROLLING, 100)).percent is None


def test_the_slowest_site_decides_and_the_first_to_fail_fails_it() -> None:
    assert step(at(PROVEN), at(BUILDING)).state is RolloutState.BUILDING
    assert step(at(PROVEN), at(status(BuildState.BUILT))).percent is None
    assert step(at(PROVEN), at(PROVEN)).percent == 100
    assert step(at(BUILDING), at(FAILED_START)).state is RolloutState.FAILED


def ready(count: int, **more) -> RevisionStatus:
    return replace(PROVEN, ready=count, **more)


@pytest.mark.parametrize(
    ("strategy", "serving", "seen", "replicas", "percent"),
    [
        (Strategy.ROLLING, 0, ready(1), None, 100),
        (Strategy.ROLLING, 1, ready(1), None, 100),
        (Strategy.ROLLING, 2, ready(1), None, 50),
        (Strategy.ROLLING, 3, ready(1), None, 33),
        (Strategy.ROLLING, 40, ready(1), 10, None),
        (Strategy.ROLLING, 40, ready(10), None, 25),
        (Strategy.BLUE_GREEN, 0, ready(0), 1, None),
        (Strategy.BLUE_GREEN, 3, ready(2), 3, None),
        (Strategy.BLUE_GREEN, 3, ready(3), None, 100),
        (Strategy.CANARY, 4, ready(1), None, 10),
        (Strategy.MANUAL, 4, ready(1), None, 0),
    ],
)
def test_traffic_moves_when_replicas_enough_are_ready_for_it(strategy, serving, seen, replicas, percent) -> None:
    taken = step(at(seen, serving=serving), rollout=going(strategy), most=40)
    assert (taken.replicas, taken.percent) == (replicas, percent)


def test_no_more_replicas_are_asked_for_than_may_be() -> None:
    assert step(at(ready(1), serving=8), rollout=going(Strategy.BLUE_GREEN), most=3).replicas == 3
    assert step(at(ready(3), serving=8), rollout=going(Strategy.BLUE_GREEN), most=3).percent == 100


def test_a_canary_pauses_at_each_of_its_steps() -> None:
    rollout = going(Strategy.CANARY, steps=(5, 25), pause=timedelta(minutes=3))
    taken, percents, now = step(at(PROVEN, applied=True), rollout=rollout), [], NOW
    while taken.percent is not None:
        percents.append(taken.percent)
        rollout = replace(rollout, percent=taken.percent, moved_at=now, state=taken.state)
        pausing = step(at(PROVEN, applied=True), rollout=rollout, now=now + timedelta(minutes=3, seconds=-1))
        assert pausing.percent is None
        now += timedelta(minutes=3)
        taken = step(at(PROVEN, applied=True), rollout=rollout, now=now)
    assert percents == [5, 25, 100]
    assert taken.state is RolloutState.DONE


def test_a_manual_rollout_moves_nothing_and_is_done() -> None:
    taken = step(at(PROVEN), rollout=going(Strategy.MANUAL))
    assert (taken.state, taken.percent) == (RolloutState.DONE, 0)


def test_what_needs_a_port_of_its_own_gets_everything_at_once() -> None:
    taken = step(at(PROVEN, serving=4), rollout=going(Strategy.CANARY), most=1, alone=True)
    assert taken.percent == 100
    moved = going(Strategy.CANARY, 100)
    assert step(at(PROVEN, applied=True), rollout=moved, most=1, alone=True).state is RolloutState.DONE


def test_what_served_before_is_at_hand_while_it_is_watched() -> None:
    moved = going(Strategy.ROLLING, 100, watch=timedelta(seconds=30))
    assert step(at(PROVEN, applied=True), rollout=moved).state is RolloutState.WATCHING
    later = step(at(PROVEN, applied=True), rollout=moved, now=NOW + timedelta(seconds=30))
    assert later.state is RolloutState.DONE
    assert not later.back


TROUBLE = replace(PROVEN, trouble="exited with code 1", tail=("boom",))


@pytest.mark.parametrize("percent", [10, 100])
def test_what_cannot_serve_any_more_turns_back(percent: int) -> None:
    taken = step(at(PROVEN), at(TROUBLE), rollout=going(Strategy.CANARY, percent))
    assert (taken.state, taken.back, taken.tail) == (RolloutState.FAILED, True, ("boom",))
    assert taken.reason == "turned back: site local: exited with code 1"


def test_without_anything_before_there_is_no_way_back() -> None:
    taken = step(at(TROUBLE, applied=True), rollout=replace(going(Strategy.ROLLING, 100), before=()))
    assert (taken.state, taken.back) == (RolloutState.DONE, False)


def test_more_failures_than_before_turn_it_back() -> None:
    bad = Served(new=Usage(requests=20, failed=20), before=Usage(requests=500, failed=2))
    taken = step(at(PROVEN, applied=True), rollout=going(Strategy.ROLLING, 100), served=bad)
    assert (taken.state, taken.back) == (RolloutState.FAILED, True)
    assert "20 of its 20 requests failed; before it, 2 of 500 did" in taken.reason


def test_replicas_that_never_become_ready_turn_it_back() -> None:
    rollout = replace(going(Strategy.CANARY, 10), moved_at=NOW - timedelta(minutes=2))
    asked = step(at(ready(0), applied=True), rollout=rollout)
    assert (asked.replicas, asked.back) == (1, False)
    late = step(at(ready(0), applied=True), rollout=rollout, now=NOW + DEADLINES.start + timedelta(seconds=1))
    assert (late.state, late.back) == (RolloutState.FAILED, True)
    assert "only 0 of the 1 replicas" in late.reason


def test_no_step_is_taken_while_a_site_is_away() -> None:
    rollout = replace(going(Strategy.CANARY, 10), moved_at=NOW - timedelta(minutes=2))
    waits = step(at(PROVEN, connected=False), rollout=rollout)
    assert (waits.state, waits.percent) == (RolloutState.SHIFTING, None)
    assert "does not report" in waits.step


def test_a_rollout_without_a_place_says_for_each_site_why() -> None:
    verdict = SiteVerdict(site=SiteId("st-1"), verdict=Verdict.REFUSED, reason="it cannot build node", hint="get npm")
    waits = wait_for_place(Placement(service=ROLLOUT.service, verdicts=(verdict,)), {SiteId("st-1"): "local"})
    assert waits.state is RolloutState.WAITING
    assert "local: it cannot build node (get npm)" in waits.reason


STATUSES = st.builds(
    RevisionStatus,
    revision=st.just(REVISION),
    rollout=st.sampled_from([ROLLOUT.id, RolloutId("ro-0"), None]),
    build=st.sampled_from(BuildState),
    trial=st.sampled_from(TrialState),
)
PROGRESS = st.lists(
    st.builds(SiteProgress, site=st.just("s"), connected=st.booleans(), status=st.none() | STATUSES), min_size=1
)
GOING = st.sampled_from([RolloutState.WAITING, RolloutState.BUILDING, RolloutState.STARTING])


@given(PROGRESS, GOING, st.timedeltas(timedelta(0), timedelta(days=2)))
def test_traffic_moves_only_when_every_site_has_proven_this_very_rollout(progress, state, passed) -> None:
    taken = step(*progress, rollout=replace(ROLLOUT, state=state), now=NOW + passed)
    proven = all(
        one.status is not None
        and one.status.rollout == ROLLOUT.id
        and one.status.build is BuildState.BUILT
        and one.status.trial is TrialState.PROVEN
        for one in progress
    )
    moves = taken.percent is not None or taken.replicas is not None
    assert proven or not moves
    assert moves or not proven or "became ready in time" in taken.reason
    assert taken.state is not RolloutState.DONE
    if taken.state in (RolloutState.FAILED, RolloutState.WAITING):
        assert taken.reason
