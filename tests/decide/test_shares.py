from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.shares import alone, beside, shift
from kasbah.domain.ids import RevisionId
from kasbah.domain.service import Share

A, B, C, NEW = (RevisionId(f"rv-{name}") for name in ("a", "b", "c", "new"))


def shares(**parts: int) -> tuple[Share, ...]:
    return tuple(Share(revision=RevisionId(f"rv-{name}"), percent=percent) for name, percent in parts.items())


@pytest.mark.parametrize(
    ("before", "percent", "after"),
    [
        ((), 10, shares(new=100)),
        (shares(a=100), 10, shares(new=10, a=90)),
        (shares(a=100), 100, shares(new=100, a=0)),
        (shares(a=100, b=0), 50, shares(new=50, a=50)),
        (shares(a=70, b=30), 50, shares(new=50, a=35, b=15)),
        (shares(a=34, b=33, c=33), 99, shares(new=99, a=1, b=0, c=0)),
        (shares(a=70, b=30), 100, shares(new=100, a=0)),
        (shares(a=60, new=40), 100, shares(new=100, a=0)),
    ],
)
def test_a_part_moves_and_the_rest_keeps_its_proportions(before, percent, after) -> None:
    assert shift(before, NEW, percent) == after


def test_what_is_at_hand_gets_nothing_and_takes_nothing() -> None:
    assert beside(shares(a=100), NEW) == shares(a=100, new=0)
    assert beside(shares(a=90, new=10), NEW) == shares(a=90, new=10)
    assert beside((), NEW) == alone(NEW) == shares(new=100)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=9), st.integers(1, 100))
def test_shares_always_add_up(parts: list[int], percent: int) -> None:
    before = tuple(Share(revision=RevisionId(f"rv-{index}"), percent=part) for index, part in enumerate(parts))
    after = shift(before, NEW, percent)
    assert sum(share.percent for share in after) == 100
    assert all(share.percent >= 0 for share in after)
    wanted = percent if any(parts) else 100
    assert next(share.percent for share in after if share.revision == NEW) == wanted
