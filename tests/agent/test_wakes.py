"""What is remembered of wakings: the last ones, and what all of them took, phase by phase."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kasbah.agent.waiting import KEPT_WAKES, Wakes
from kasbah.domain.ids import WakeId
from kasbah.domain.observed import Wake

AT = datetime(2026, 3, 1, tzinfo=UTC)


def wake(number: int) -> Wake:
    return Wake(id=WakeId(f"wk-{number}"), replica=None, at=AT, rung="frozen", queue_ms=1.0, start_ms=2.0, ready_ms=3.0)


def test_the_earliest_first_byte_counts_once() -> None:
    wakes = Wakes()
    wakes.add(wake(1), released_at=100.0)
    assert wakes.first_byte(WakeId("wk-1"), 100.5)
    assert wakes.first_byte(WakeId("wk-1"), 100.25)
    assert not wakes.first_byte(WakeId("wk-1"), 100.75), "a later caller's"
    assert wakes.closed[0].first_byte_ms == pytest.approx(250.0)
    assert wakes.seconds["frozen", "first_byte"] == pytest.approx(0.25)
    assert wakes.seconds["frozen", "start"] == pytest.approx(0.002)


def test_the_last_are_kept_and_all_are_counted() -> None:
    wakes = Wakes()
    for number in range(KEPT_WAKES + 5):
        wakes.add(wake(number), released_at=100.0)
    assert wakes.closed[0].id == "wk-5"
    assert wakes.counts["frozen"] == KEPT_WAKES + 5
    assert not wakes.first_byte(WakeId("wk-0"), 101.0), "it was dropped"
