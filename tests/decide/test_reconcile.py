"""From the replicas there are to the target: carried out on a model, a plan gets there and then is empty."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.reconcile import AWAKE, Freeze, Resume, Start, Step, Stop, Thaw, back_off, reconcile
from kasbah.decide.scaling import Rung, Target
from kasbah.domain.ids import ReplicaId, RevisionId, ServiceId
from kasbah.domain.replica import Replica, ReplicaState

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
READY, STARTING, UNREADY = ReplicaState.READY, ReplicaState.STARTING, ReplicaState.UNREADY
DRAINING, FROZEN = ReplicaState.DRAINING, ReplicaState.FROZEN
STOPPING, ENDED = ReplicaState.STOPPING, ReplicaState.ENDED


def replica(name: str, state: ReplicaState, *, in_flight: int = 0, age: int = 0) -> Replica:
    return Replica(
        id=ReplicaId(name),
        service=ServiceId("sv-1"),
        revision=RevisionId("rv-1"),
        state=state,
        address=f"{name}:80",
        since=START - timedelta(seconds=age),
        in_flight=in_flight,
    )


def replicas(*states: ReplicaState) -> tuple[Replica, ...]:
    return tuple(replica(f"rp-{number}", state) for number, state in enumerate(states))


def target(rung: Rung = Rung.RUNNING, count: int = 1) -> Target:
    return Target(rung=rung, replicas=count if rung is Rung.RUNNING else 0, reason="a test")


def plan(rung: Rung, count: int, *states: ReplicaState, may_start: bool = True, exclusive: bool = False) -> list[str]:
    steps = reconcile(target(rung, count), replicas(*states), may_start=may_start, exclusive=exclusive)
    return [str(step) for step in steps]


@pytest.mark.parametrize(
    ("rung", "count", "states", "steps"),
    [
        (Rung.RUNNING, 1, [], ["start a replica"]),
        (Rung.RUNNING, 2, [READY], ["start a replica"]),
        (Rung.RUNNING, 1, [STARTING], []),
        (Rung.RUNNING, 1, [UNREADY], []),
        (Rung.RUNNING, 1, [STOPPING, ENDED], ["start a replica"]),
        (Rung.RUNNING, 1, [FROZEN], ["thaw rp-0"]),
        (Rung.RUNNING, 1, [FROZEN, DRAINING], ["resume rp-1"]),
        (Rung.RUNNING, 3, [FROZEN, DRAINING], ["resume rp-1", "thaw rp-0", "start a replica"]),
        (Rung.RUNNING, 1, [READY, FROZEN], []),
        (Rung.RUNNING, 1, [READY, STARTING], ["drain and stop rp-1"]),
        (Rung.RUNNING, 1, [UNREADY, STARTING, READY], ["drain and stop rp-1", "drain and stop rp-0"]),
        (Rung.FROZEN, 0, [READY, UNREADY, STARTING, DRAINING], ["drain and freeze rp-0", "drain and freeze rp-1"]),
        (Rung.FROZEN, 0, [FROZEN, STOPPING, ENDED], []),
        (Rung.STOPPED, 0, [READY, FROZEN, STOPPING, ENDED], ["drain and stop rp-0", "drain and stop rp-1"]),
        (Rung.STOPPED, 0, [], []),
    ],
)
def test_what_is_done(rung: Rung, count: int, states: list[ReplicaState], steps: list[str]) -> None:
    assert plan(rung, count, *states) == steps


@pytest.mark.parametrize(
    ("count", "frozen", "states", "steps"),
    [
        (1, 1, [READY, READY], ["drain and freeze rp-0"]),
        (1, 1, [READY, READY, READY], ["drain and freeze rp-1", "drain and stop rp-0"]),
        (1, 1, [READY, READY, FROZEN], ["drain and stop rp-0"]),
        (1, 1, [READY, STARTING], []),
        (1, 0, [READY, STARTING], ["drain and stop rp-1"]),
        (1, 1, [READY, UNREADY], ["drain and stop rp-1"]),
        (1, 0, [READY, FROZEN], ["drain and stop rp-1"]),
        (1, 1, [READY, FROZEN, FROZEN], ["drain and stop rp-2"]),
        (2, 1, [READY, FROZEN, FROZEN, FROZEN], ["thaw rp-1", "drain and stop rp-3"]),
        (2, 0, [FROZEN], ["thaw rp-0", "start a replica"]),
        (1, 2, [READY, DRAINING], []),
        (1, 1, [READY, READY, DRAINING], ["drain and freeze rp-0", "drain and stop rp-2"]),
        (1, 0, [READY, DRAINING], ["drain and stop rp-1"]),
    ],
)
def test_what_is_not_needed_is_frozen_as_far_as_it_may_be(
    count: int, frozen: int, states: list[ReplicaState], steps: list[str]
) -> None:
    wanted = replace(target(Rung.RUNNING, count), frozen=frozen)
    assert [str(step) for step in reconcile(wanted, replicas(*states), may_start=True)] == steps


def test_the_busier_and_then_the_older_one_is_kept() -> None:
    idle, busy = replica("rp-0", READY, age=9), replica("rp-1", READY, in_flight=1)
    assert reconcile(target(), (idle, busy), may_start=True) == (Stop(replica=idle.id),)
    young, old = replica("rp-0", READY, age=1), replica("rp-1", READY, age=9)
    assert reconcile(target(), (young, old), may_start=True) == (Stop(replica=young.id),)


def test_nothing_is_started_while_a_back_off_lasts_but_what_sleeps_is_woken() -> None:
    assert plan(Rung.RUNNING, 2, FROZEN, may_start=False) == ["thaw rp-0"]


@pytest.mark.parametrize("state", [one for one in ReplicaState if one is not ENDED])
def test_a_fixed_port_is_not_taken_twice(state: ReplicaState) -> None:
    assert "start a replica" not in plan(Rung.RUNNING, 1, state, exclusive=True)


@pytest.mark.parametrize("states", [[], [ENDED], [ENDED, ENDED]])
def test_a_fixed_port_is_taken_once_it_is_free(states: list[ReplicaState]) -> None:
    assert plan(Rung.RUNNING, 1, *states, exclusive=True) == ["start a replica"]


def test_the_back_off_doubles_up_to_a_minute() -> None:
    seconds = [back_off(failures).total_seconds() for failures in range(10)]
    assert seconds == [0, 0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert back_off(10**6) == timedelta(minutes=1)


# --- what holds whatever there is -------------------------------------------------------------------------------------


def carried_out(there: tuple[Replica, ...], steps: tuple[Step, ...]) -> tuple[Replica, ...]:
    """The replicas after each step was ordered. A step that its replica's state does not allow fails the test."""
    after = {one.id: one for one in there}
    allowed = {
        Thaw: ({FROZEN}, STARTING),
        Resume: ({DRAINING}, READY),
        Freeze: ({READY, UNREADY}, DRAINING),
        Stop: ({READY, STARTING, UNREADY, FROZEN, DRAINING}, STOPPING),
    }
    for step in steps:
        if isinstance(step, Start):
            new = replica(f"new-{len(after)}", STARTING)
            after[new.id] = new
        else:
            states, becomes = allowed[type(step)]
            assert after[step.replica].state in states, str(step)
            after[step.replica] = replace(after[step.replica], state=becomes)
    return tuple(after.values())


def settled(there: tuple[Replica, ...], rung: Rung) -> tuple[Replica, ...]:
    """The same once everything under way has come to its end."""
    ends = {STARTING: READY, STOPPING: ENDED, DRAINING: FROZEN if rung is Rung.FROZEN else DRAINING}
    return tuple(replace(one, state=ends.get(one.state, one.state)) for one in there)


STATES = st.lists(st.sampled_from(ReplicaState), max_size=8)
RUNGS = st.sampled_from(Rung)


@given(RUNGS, st.integers(1, 8), STATES)
def test_a_plan_carried_out_leaves_nothing_to_do(rung: Rung, count: int, states: list[ReplicaState]) -> None:
    wanted = target(rung, count)
    there = replicas(*states)
    steps = reconcile(wanted, there, may_start=True)
    ordered = carried_out(there, steps)
    assert reconcile(wanted, ordered, may_start=True) == ()
    for _ in range(2):  # what was starting becomes ready, and may then be frozen
        there = settled(ordered, rung)
        ordered = carried_out(there, reconcile(wanted, there, may_start=True))
    left = Counter(one.state for one in settled(ordered, rung) if one.state is not ENDED)
    awake = sum(left[state] for state in AWAKE)
    assert awake == (count if rung is Rung.RUNNING else 0)
    if rung is Rung.STOPPED:
        assert not left
    if rung is Rung.FROZEN:
        assert set(left) <= {FROZEN}


@given(st.integers(1, 8), st.integers(0, 8), STATES)
def test_no_more_stay_frozen_than_may_be(count: int, frozen: int, states: list[ReplicaState]) -> None:
    """However it began, in the end there are so many awake, and no more frozen than allowed."""
    wanted = replace(target(Rung.RUNNING, count), frozen=frozen)
    there = replicas(*states)
    for _ in range(4):
        there = settled(carried_out(there, reconcile(wanted, there, may_start=True)), Rung.FROZEN)
    assert reconcile(wanted, there, may_start=True) == ()
    left = Counter(one.state for one in there)
    assert sum(left[state] for state in AWAKE) == count
    assert left[FROZEN] <= frozen


@given(RUNGS, st.integers(1, 8), STATES, st.booleans(), st.booleans())
def test_a_plan_does_no_more_than_is_missing(
    rung: Rung, count: int, states: list[ReplicaState], may_start: bool, exclusive: bool
) -> None:
    there = replicas(*states)
    steps = reconcile(target(rung, count), there, may_start=may_start, exclusive=exclusive)
    starts = sum(isinstance(step, Start) for step in steps)
    woken = sum(isinstance(step, Thaw | Resume) for step in steps)
    awake = sum(one.state in AWAKE for one in there)
    named = [step.replica for step in steps if not isinstance(step, Start)]
    assert len(named) == len(set(named)), "one step for a replica"
    assert starts + woken <= max(count - awake, 0) if rung is Rung.RUNNING else starts + woken == 0
    assert may_start or not starts
    if exclusive and any(one.state is not ENDED for one in there):
        assert not starts
    carried_out(there, steps)


@given(st.lists(st.tuples(RUNGS, STATES), max_size=12), st.lists(st.sampled_from(ReplicaState), max_size=1))
def test_a_fixed_port_has_one_replica_at_any_time(history, states: list[ReplicaState]) -> None:
    """Whatever the target does, and at whatever moment what is under way comes to its end."""
    there = replicas(*states)
    for rung, chances in history:
        steps = reconcile(target(rung, 1), there, may_start=True, exclusive=True)
        there = carried_out(there, steps)
        assert sum(one.state is not ENDED for one in there) <= 1
        there = settled(there, rung) if len(chances) % 2 else there
