"""A request that found no replica: forwarded, held within bounds, or refused with a reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.activation import (
    AT_LIMIT,
    Candidate,
    Decision,
    Forward,
    Hold,
    Refuse,
    Waiting,
    activate,
    start_failed,
    too_late,
)
from kasbah.domain.ids import ReplicaId

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
STARTUP = timedelta(seconds=20)
MINUTE = timedelta(minutes=1)
ROOM = Waiting(for_service=0, at_site=0, per_service=10, per_site=20)


def decide(
    *candidates: Candidate,
    waiting: Waiting = ROOM,
    broken: str = "",
    until: timedelta | None = None,
    line: int | None = None,
) -> Decision:
    return activate(
        candidates,
        waiting,
        startup=STARTUP,
        broken=broken,
        broken_until=None if until is None else NOW + until,
        most_in_line=line,
        now=NOW,
    )


def candidate(name: str, assigned: int = 0) -> Candidate:
    return Candidate(replica=ReplicaId(name), address=f"{name}:1", assigned=assigned)


def test_the_least_burdened_replica_takes_it() -> None:
    decision = decide(candidate("a", 3), candidate("b", 1), candidate("c", 2))
    assert decision == Forward(replica=ReplicaId("b"), address="b:1")


def test_without_a_replica_it_waits_no_longer_than_a_start_may_take() -> None:
    assert decide() == Hold(deadline=NOW + STARTUP)


@pytest.mark.parametrize(
    ("for_service", "at_site", "held"), [(9, 9, True), (10, 10, False), (0, 19, True), (0, 20, False), (11, 30, False)]
)
def test_the_queue_has_bounds(for_service: int, at_site: int, held: bool) -> None:
    decision = decide(waiting=Waiting(for_service=for_service, at_site=at_site, per_service=10, per_site=20))
    if held:
        assert isinstance(decision, Hold)
    else:
        assert isinstance(decision, Refuse)
        assert (decision.status, decision.code) == (429, "waking")
        assert decision.retry_after


@pytest.mark.parametrize(("waiting", "held"), [(0, True), (3, True), (4, False), (9, False)])
def test_at_its_hard_limit_only_a_short_line_waits(waiting: int, held: bool) -> None:
    decision = decide(waiting=Waiting(for_service=waiting, at_site=waiting, per_service=10, per_site=20), line=4)
    assert isinstance(decision, Hold) if held else decision == AT_LIMIT


def test_while_a_start_that_failed_is_not_tried_again_nobody_waits_for_it() -> None:
    decision = decide(broken="exited with code 1", until=timedelta(seconds=4))
    assert isinstance(decision, Refuse)
    assert (decision.status, decision.code, decision.retry_after) == (503, "start_failed", timedelta(seconds=4))
    assert "exited with code 1" in decision.message


def test_once_it_may_be_tried_again_they_wait() -> None:
    assert isinstance(decide(broken="exited with code 1", until=timedelta(0)), Hold)


def test_a_replica_that_serves_counts_more_than_one_that_failed() -> None:
    assert isinstance(decide(candidate("a"), broken="exited with code 1", until=MINUTE), Forward)


def test_refusals_say_when_to_come_back_and_never_at_once() -> None:
    assert start_failed("", timedelta(0)).retry_after == timedelta(seconds=1)
    late = too_late(timedelta(seconds=20))
    assert (late.status, late.retry_after) == (503, timedelta(seconds=5))
    assert "20 s" in late.message


CANDIDATES = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 50)), max_size=6, unique_by=lambda one: one[0])
BOUNDS = st.integers(0, 30)


@given(CANDIDATES, BOUNDS, BOUNDS, BOUNDS, BOUNDS, st.none() | st.integers(-60, 60))
def test_whatever_the_gate_looks_like(candidates, for_service, at_site, per_service, per_site, broken) -> None:
    known = [candidate(f"rp-{number}", assigned) for number, assigned in candidates]
    waiting = Waiting(for_service=for_service, at_site=at_site, per_service=per_service, per_site=per_site)
    until = None if broken is None else timedelta(seconds=broken)
    decision = decide(*known, waiting=waiting, broken="it ended", until=until)
    is_broken = broken is not None and broken > 0
    match decision:
        case Forward():
            chosen = next(one for one in known if one.replica == decision.replica)
            assert chosen.assigned == min(one.assigned for one in known)
        case Hold():
            assert not known
            assert not is_broken
            assert for_service < per_service
            assert at_site < per_site
            assert NOW < decision.deadline <= NOW + STARTUP
        case Refuse():
            assert not known
            assert is_broken or for_service >= per_service or at_site >= per_site
            assert decision.retry_after is not None
            assert decision.retry_after >= timedelta(seconds=1)
