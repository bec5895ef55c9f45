"""The order in which other sites are tried: nearest first, and at rest while little changes."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.nearness import LEAST, PART, nearest, steady
from kasbah.domain.ids import SiteId

sites = st.sampled_from([SiteId(f"st-{name}") for name in "abcde"])


@pytest.mark.parametrize(
    ("before", "took", "after"),
    [
        pytest.param("", {"a": 20, "b": 5, "c": 90}, "bac", id="nearest first"),
        pytest.param("ab", {"a": 20, "b": 18}, "ab", id="hardly nearer"),
        pytest.param("ab", {"a": 0.5, "b": 0.1}, "ab", id="nearer by nothing"),
        pytest.param("ab", {"a": 20, "b": 10}, "ba", id="much nearer"),
        pytest.param("abc", {"a": 20, "c": 21}, "ac", id="one is away"),
        pytest.param("ac", {"a": 20, "b": 2, "c": 21}, "bac", id="one is back"),
        pytest.param("ab", {}, "", id="nobody answers"),
    ],
)
def test_order(before: str, took: dict[str, float], after: str) -> None:
    times = {SiteId(name): timedelta(milliseconds=one) for name, one in took.items()}
    assert nearest([SiteId(one) for one in before], times) == tuple(after)


@pytest.mark.parametrize(
    ("told", "took", "then"),
    [
        pytest.param(None, 20, 20, id="new"),
        pytest.param(20, 24, 20, id="hardly farther"),
        pytest.param(20, 17, 20, id="hardly nearer"),
        pytest.param(0.2, 0.9, 0.2, id="by less than anybody notices"),
        pytest.param(20, 40, 40, id="much farther"),
        pytest.param(20, 10, 10, id="much nearer"),
    ],
)
def test_what_is_told_rests_while_little_changes(told: float | None, took: float, then: float) -> None:
    before = {} if told is None else {SiteId("a"): timedelta(milliseconds=told), SiteId("b"): timedelta(1)}
    found = steady(before, {SiteId("a"): timedelta(milliseconds=took)})
    assert found == {SiteId("a"): timedelta(milliseconds=then)}, "and of who does not answer nothing is told"


@given(
    before=st.lists(sites, unique=True),
    took=st.dictionaries(sites, st.integers(0, 10**6).map(lambda one: timedelta(microseconds=one))),
)
def test_it_rests_and_nobody_much_nearer_comes_later(before: list[SiteId], took: dict[SiteId, timedelta]) -> None:
    order = nearest(before, took)
    assert sorted(order) == sorted(took)
    assert nearest(order, took) == order
    assert not any(took[b] * PART + LEAST < took[a] for a, b in itertools.pairwise(order))
