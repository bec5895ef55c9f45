from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.failing import at_least, fails_more
from kasbah.domain.usage import Usage


@pytest.mark.parametrize(
    ("new", "before", "turns_back"),
    [
        ((4, 4), (100, 0), False),
        ((5, 5), (100, 0), True),
        ((5, 5), (0, 0), True),
        ((100, 5), (1_000, 0), False),
        ((1_000, 100), (1_000, 0), True),
        ((1_000, 100), (1_000, 100), False),
        ((20, 20), (20, 20), False),
        ((0, 0), (10, 10), False),
    ],
)
def test_failures_beyond_chance_and_beyond_what_was_usual(new, before, turns_back) -> None:
    counted = [Usage(requests=requests, failed=failed) for requests, failed in (new, before)]
    assert (fails_more(*counted, tolerance=5) is not None) is turns_back


def test_the_interval_is_wilsons() -> None:
    """10 of 100 at 95 %: 0.0552 to 0.1744 (as R's prop.test without continuity correction gives it)."""
    assert at_least(10, 100) == pytest.approx(0.0552, abs=1e-4)


@given(st.integers(1, 10_000), st.data())
def test_the_lower_end_is_below_what_was_seen(requests: int, data: st.DataObject) -> None:
    failed = data.draw(st.integers(0, requests))
    assert 0 <= at_least(failed, requests) <= failed / requests + 1e-12
