"""The ladder of sleep and the number of replicas: cases from the file, and what holds whatever happens."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kasbah.decide.scaling import DEPTH, Delays, Load, Rung, ScalingMemory, Target, scale
from kasbah.domain.service import Command, Scaling, Sleep

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
IDLE = Load()
NEVER = Sleep(freeze_after=None, stop_after=None)
FREEZES = Sleep(freeze_after=MINUTE, stop_after=10 * MINUTE)
DELAY = Delays().scale_down
UNFROZEN_DELAY = Delays().starts * Delays().start


@dataclass
class Walk:
    """A revision whose replicas always become what the target says, and that is looked at when a test says so."""

    scaling: Scaling = field(default_factory=Scaling)
    sleep: Sleep = field(default_factory=Sleep)
    rung: Rung = Rung.RUNNING
    now: datetime = START
    replicas: int = 1
    start: timedelta | None = None

    def __post_init__(self) -> None:
        self.memory = ScalingMemory(rung=self.rung, last_used=self.now)
        if self.rung is not Rung.RUNNING:
            self.replicas = 0

    def look(self, load: Load = IDLE, *, after: timedelta = timedelta(0), command: Command | None = None) -> Target:
        self.now += after
        if command is not None:
            self.memory = replace(self.memory, command=command)
        target, self.memory = scale(
            self.scaling,
            self.sleep,
            replicas=self.replicas,
            load=load,
            memory=self.memory,
            now=self.now,
            start=self.start,
        )
        self.replicas, self.rung = target.replicas, target.rung
        return target

    def sleep_walk(self, target: Target, *, most: int = 1_000) -> list[tuple[timedelta, Rung, int]]:
        """What is seen from here on when nothing happens and it is looked at only when `look_again` says so."""
        seen = []
        for _ in range(most):
            if target.look_again is None:
                return seen
            target = self.look(after=target.look_again - self.now)
            seen.append((self.now - START, target.rung, target.replicas))
        raise AssertionError(f"it is looked at for ever: {seen[-3:]}")


# --- the ladder -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sleep", "scaling", "rungs"),
    [
        (Sleep(), Scaling(), [(1, Rung.FROZEN), (30, Rung.STOPPED)]),
        (Sleep(freeze_after=None), Scaling(), [(30, Rung.STOPPED)]),
        (Sleep(stop_after=None), Scaling(), [(1, Rung.FROZEN)]),
        (Sleep(freeze_after=2 * MINUTE, stop_after=MINUTE), Scaling(), [(1, Rung.STOPPED)]),
        (NEVER, Scaling(), []),
        (Sleep(), Scaling(min=1), []),
    ],
)
def test_unused_it_descends_rung_by_rung_at_its_times(sleep, scaling, rungs) -> None:
    walk = Walk(scaling, sleep)
    seen = walk.sleep_walk(walk.look())
    assert [(at, rung) for at, rung, _ in seen] == [(minutes * MINUTE, rung) for minutes, rung in rungs]


@pytest.mark.parametrize("load", [Load(in_flight=1), Load(begun=1), Load(waiting=1)])
@pytest.mark.parametrize("rung", Rung)
def test_any_use_wakes_it_and_the_time_counts_from_the_last(load: Load, rung: Rung) -> None:
    walk = Walk(rung=rung)
    target = walk.look(load)
    assert (target.rung, target.replicas) == (Rung.RUNNING, 1)
    assert walk.look(after=59 * SECOND).rung is Rung.RUNNING
    walk.look(load)
    assert walk.look(after=59 * SECOND).rung is Rung.RUNNING
    assert walk.look(after=SECOND).rung is Rung.FROZEN


def test_a_wake_that_nobody_uses_ends_again() -> None:
    walk = Walk(rung=Rung.STOPPED)
    target = walk.look(command=Command.WAKE)
    assert (target.rung, target.replicas) == (Rung.RUNNING, 1)
    assert [rung for _, rung, _ in walk.sleep_walk(target)] == [Rung.FROZEN, Rung.STOPPED]


@pytest.mark.parametrize(
    ("command", "rung", "deeper"), [(Command.SLEEP, Rung.FROZEN, [Rung.STOPPED]), (Command.STOP, Rung.STOPPED, [])]
)
def test_a_sleep_asked_for_waits_for_the_first_idle_moment_and_lasts_until_the_next_use(command, rung, deeper) -> None:
    walk = Walk(Scaling(min=1), Sleep())
    assert walk.look(Load(in_flight=1), command=command).rung is Rung.RUNNING
    assert walk.look(Load(in_flight=1), after=10 * MINUTE).rung is Rung.RUNNING
    target = walk.look(after=SECOND)
    assert (target.rung, target.replicas) == (rung, 0)
    assert [rung for _, rung, _ in walk.sleep_walk(target)] == deeper
    assert walk.look(Load(waiting=1), after=MINUTE).rung is Rung.RUNNING
    assert walk.look(after=10 * MINUTE).rung is Rung.RUNNING, "with min: 1 it sleeps only when it is told to"


def test_what_began_before_a_sleep_asked_for_does_not_undo_it() -> None:
    walk = Walk()
    assert walk.look(command=Command.STOP).rung is Rung.STOPPED
    assert walk.look(Load(in_flight=1, begun=1), after=SECOND).rung is Rung.STOPPED, "it is drained, not called"
    assert walk.look(Load(arrived=1), after=SECOND).rung is Rung.RUNNING


def test_the_first_idle_moment_is_looked_for() -> None:
    """The only request was short: it has begun and ended, and nothing else will ever happen."""
    walk = Walk(sleep=NEVER)
    target = walk.look(Load(begun=1), command=Command.SLEEP)
    assert [rung for _, rung, _ in walk.sleep_walk(target)] == [Rung.FROZEN]


def test_stop_takes_a_frozen_one_further_and_sleep_leaves_a_stopped_one() -> None:
    walk = Walk(rung=Rung.FROZEN)
    assert walk.look(command=Command.STOP).rung is Rung.STOPPED
    assert walk.look(command=Command.SLEEP).rung is Rung.STOPPED


# --- the number of replicas -------------------------------------------------------------------------------------------

WIDE = Scaling(max=10, concurrency=10)


@pytest.mark.parametrize(("in_flight", "replicas"), [(0, 1), (1, 1), (10, 1), (11, 2), (40, 4), (99, 10), (1_000, 10)])
def test_a_burst_is_met_at_once(in_flight: int, replicas: int) -> None:
    assert Walk(WIDE, NEVER).look(Load(in_flight=in_flight)).replicas == replicas


def test_each_replica_runs_on_for_the_delay_then_is_frozen_then_ends() -> None:
    walk = Walk(WIDE, FREEZES)
    assert walk.look(Load(in_flight=100)).replicas == 10
    walk.look(Load(in_flight=30), after=5 * SECOND)
    target = walk.look(Load(in_flight=1), after=4 * SECOND)
    assert (target.replicas, target.frozen, target.look_again) == (10, 0, START + DELAY)
    target = walk.look(Load(in_flight=1), after=SECOND)
    assert (target.replicas, target.frozen, target.look_again) == (3, 7, START + 5 * SECOND + DELAY)
    target = walk.look(Load(in_flight=1), after=5 * SECOND)
    assert (target.replicas, target.frozen) == (1, 9)
    for _ in range(9 * 60):
        target = walk.look(Load(in_flight=1), after=SECOND)
    assert (target.replicas, target.frozen) == (1, 9)
    assert target.look_again == START + 10 * MINUTE, "the first that were not needed end first"
    target = walk.look(Load(in_flight=1), after=target.look_again - walk.now)
    assert (target.replicas, target.frozen) == (1, 2)
    target = walk.look(Load(in_flight=1), after=5 * SECOND)
    assert (target.replicas, target.frozen) == (1, 0)


def test_a_spike_within_the_delay_begins_it_anew() -> None:
    walk = Walk(Scaling(max=2, concurrency=10), FREEZES)
    assert walk.look(Load(in_flight=20)).replicas == 2
    for _ in range(3):
        assert walk.look(Load(in_flight=1), after=DELAY - SECOND).replicas == 2
        assert walk.look(Load(in_flight=20), after=SECOND / 2).replicas == 2
    assert walk.look(Load(in_flight=1), after=DELAY).replicas == 1


@pytest.mark.parametrize(
    ("sleep", "start", "delay"),
    [
        (FREEZES, 60 * SECOND, DELAY),
        (NEVER, None, UNFROZEN_DELAY),
        (NEVER, SECOND / 10, DELAY),
        (NEVER, 5 * SECOND, 75 * SECOND),
        (NEVER, 60 * SECOND, 15 * MINUTE),
        (replace(NEVER, stop_after=5 * MINUTE), 60 * SECOND, 5 * MINUTE),
    ],
)
def test_what_is_not_frozen_runs_on_the_longer_the_dearer_a_start_is(sleep, start, delay) -> None:
    walk = Walk(WIDE, sleep, start=start)
    walk.look(Load(in_flight=20))
    assert walk.look(Load(in_flight=10), after=delay - SECOND).replicas == 2
    target = walk.look(Load(in_flight=10), after=SECOND)
    assert (target.replicas, target.frozen) == (1, 1 if sleep is FREEZES else 0)


def test_a_new_agent_gives_what_it_finds_its_time() -> None:
    """Its memory is empty: what runs may have been needed just now, what is frozen was not for a while."""
    memory = ScalingMemory(rung=Rung.RUNNING, last_used=START)
    arguments = {"replicas": 3, "frozen": 2, "load": Load(in_flight=1)}
    target, memory = scale(WIDE, FREEZES, **arguments, memory=memory, now=START)
    assert (target.replicas, target.frozen) == (3, 2)
    target, _ = scale(WIDE, FREEZES, **arguments, memory=memory, now=START + DELAY)
    assert (target.replicas, target.frozen) == (1, 4)


def test_a_clock_that_is_set_back_keeps_nothing_for_longer() -> None:
    walk = Walk(WIDE, FREEZES)
    walk.look(Load(in_flight=50))
    walk.look(Load(in_flight=1), after=-timedelta(hours=1))
    assert walk.look(Load(in_flight=1), after=DELAY).replicas == 1


def test_what_sleeps_as_a_whole_is_thawed_as_far_as_it_is_needed() -> None:
    walk = Walk(WIDE, FREEZES)
    walk.look(Load(in_flight=50))
    assert walk.look(after=MINUTE).rung is Rung.FROZEN
    target = walk.look(Load(waiting=11), after=MINUTE)
    assert (target.replicas, target.frozen) == (2, 3)


def test_a_lower_max_holds_at_once() -> None:
    walk = Walk(WIDE, NEVER)
    assert walk.look(Load(in_flight=100)).replicas == 10
    walk.scaling = replace(WIDE, max=3)
    assert walk.look(Load(in_flight=100), after=SECOND).replicas == 3


def test_a_higher_min_wakes_it() -> None:
    walk = Walk(rung=Rung.STOPPED)
    assert walk.look().rung is Rung.STOPPED
    walk.scaling = Scaling(min=2, max=4)
    assert (walk.look().rung, walk.replicas) == (Rung.RUNNING, 2)


@pytest.mark.parametrize("scaling", [WIDE, replace(WIDE, min=1), replace(WIDE, min=4)])
def test_what_a_burst_grew_shrinks_though_nothing_happens_any_more(scaling: Scaling) -> None:
    walk = Walk(scaling, NEVER)
    seen = walk.sleep_walk(walk.look(Load(in_flight=100)))
    counts = [count for _, _, count in seen]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == max(scaling.min, 1)
    assert seen[-1][0] < 10 * MINUTE


# --- what holds whatever happens --------------------------------------------------------------------------------------

SCALINGS = st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(1, 60)).map(
    lambda one: Scaling(min=one[0], max=max(one[0] + one[1], 1), concurrency=one[2])
)
TIMES = st.none() | st.integers(1, 7_200).map(lambda seconds: timedelta(seconds=seconds))
SLEEPS = st.builds(Sleep, freeze_after=TIMES, stop_after=TIMES)
COUNTS = st.just(0) | st.integers(0, 300)
LOADS = st.just(IDLE) | st.builds(Load, in_flight=COUNTS, begun=COUNTS, waiting=COUNTS, arrived=COUNTS)
HAPPENINGS = st.lists(
    st.tuples(
        st.floats(0, 4_000).map(lambda seconds: timedelta(seconds=seconds)),
        LOADS,
        st.sampled_from([None] * 8 + list(Command)),
    ),
    max_size=40,
)


@given(SCALINGS, SLEEPS, st.sampled_from(Rung), st.integers(0, 12), HAPPENINGS)
@example(
    Scaling(min=0, max=2, concurrency=1),
    replace(NEVER, stop_after=SECOND),
    Rung.RUNNING,
    0,
    [(timedelta(), Load(waiting=2), None), (SECOND, IDLE, Command.WAKE)],
)
def test_whatever_happens(scaling: Scaling, sleep: Sleep, rung: Rung, replicas: int, happenings) -> None:
    walk = Walk(scaling, sleep, rung=rung, replicas=replicas)
    asked, needs = False, []
    last_stops_at = sleep.stop_after if sleep.freeze_after is None else None
    delay = DELAY if last_stops_at is None else min(DELAY, last_stops_at)
    for after, load, command in happenings:
        before, had = walk.rung, walk.replicas
        asked = (asked or command in (Command.SLEEP, Command.STOP)) and command is not Command.WAKE
        target = walk.look(load, after=after, command=command)
        assert target.look_again is None or target.look_again > walk.now
        if target.rung is Rung.RUNNING:
            assert max(scaling.min, 1) <= target.replicas <= scaling.max
        else:
            assert target.replicas == 0
            assert load.idle or (asked and not load.called), "what is used is awake, unless it is being put to sleep"
            assert scaling.min == 0 or asked, "min above 0 never sleeps unless it is told to"
        if load.idle and command is not Command.WAKE and not scaling.min:
            assert DEPTH[target.rung] >= DEPTH[before], "unused, it only descends"
        if before is target.rung is Rung.RUNNING and target.replicas < had <= scaling.max:
            recent = [need for at, need in needs if walk.now - at < delay]
            assert target.replicas >= max(recent, default=0), "it shrinks only after the delay"
        needs.append((walk.now, min(-(-(load.in_flight + load.waiting) // scaling.concurrency), scaling.max)))
        assert list(walk.memory.needed) == sorted(walk.memory.needed, reverse=True)
        assert len(walk.memory.needed) <= scaling.max, "what it remembers is bounded"
        assert target.replicas + (target.frozen or 0) <= scaling.max
        asked = asked and not (target.rung is Rung.RUNNING and before is not Rung.RUNNING)


@given(SCALINGS, SLEEPS, HAPPENINGS)
def test_left_alone_it_comes_to_rest_as_deep_as_it_may(scaling: Scaling, sleep: Sleep, happenings) -> None:
    """Looked at only when `look_again` says so, the ladder is walked to its end, each rung at its time."""
    walk = Walk(scaling, sleep)
    target = walk.look()
    for after, load, command in happenings:
        target = walk.look(load, after=after, command=command)
    used, told = walk.memory.last_used, walk.memory.command
    walk.sleep_walk(target)
    reached = {Rung.RUNNING}
    if not scaling.min or told:
        reached |= {Rung.FROZEN} if sleep.freeze_after or told else set()
        reached |= {Rung.STOPPED} if sleep.stop_after or told is Command.STOP else set()
    deepest = max(reached | {target.rung}, key=DEPTH.__getitem__)
    assert walk.rung is deepest
    assert walk.replicas == (max(scaling.min, 1) if deepest is Rung.RUNNING else 0)
    if deepest is Rung.STOPPED and target.rung is not deepest and told is None:
        assert sleep.stop_after is not None
        assert walk.now == used + sleep.stop_after


@given(SCALINGS, SLEEPS, LOADS, HAPPENINGS)
def test_it_is_a_function_of_what_it_is_given(scaling: Scaling, sleep: Sleep, load: Load, happenings) -> None:
    first, second = Walk(scaling, sleep), Walk(scaling, sleep)
    for after, each, command in happenings:
        assert first.look(each, after=after, command=command) == second.look(each, after=after, command=command)
    assert first.memory == second.memory
