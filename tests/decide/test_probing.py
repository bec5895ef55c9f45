"""When a replica that starts is asked again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.probing import FIRST_SECONDS, LONGEST_SECONDS, pause

SECONDS = st.floats(0, 3_600)
STARTS = st.floats(0.02, 60)


def asked(start: float, usual: float | None) -> list[float]:
    """When it is asked, until it answers `start` seconds after it began."""
    times = [0.0]
    while times[-1] < start:
        times.append(times[-1] + pause(times[-1], usual))
    return times


@given(SECONDS, st.none() | SECONDS)
def test_a_pause_is_never_longer_or_shorter_than_it_may_be(passed: float, usual: float | None) -> None:
    assert FIRST_SECONDS <= pause(passed, usual) <= LONGEST_SECONDS


@given(STARTS, st.floats(0.75, 1.5))
def test_a_start_much_like_the_last_is_noticed_within_a_hundredth_of_it(usual: float, part: float) -> None:
    start = usual * part
    assert asked(start, usual)[-1] - start <= max(start / 100, FIRST_SECONDS)


@given(STARTS, st.none() | STARTS)
def test_any_other_is_noticed_within_an_eighth_and_soon(start: float, usual: float | None) -> None:
    late = max(start / 8, (usual or 0) / 32, FIRST_SECONDS)
    assert asked(start, usual)[-1] - start <= min(late, LONGEST_SECONDS)


@pytest.mark.parametrize(("usual", "most"), [(None, 90), (0.3, 55)])
def test_a_start_of_a_third_of_a_second_is_not_asked_about_too_often(usual: float | None, most: int) -> None:
    assert len(asked(0.3, usual)) <= most
