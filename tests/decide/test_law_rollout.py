"""A new law goes from site to site: a table of single steps, and whole ways through simulated sites."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.law_rollout import PATIENCE, WATCH, Act, SiteProgress, next_step
from kasbah.domain.ids import ServiceId, SiteId

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WEB, SHOP = ServiceId("sv-web"), ServiceId("sv-shop")


def site(name: str, **more: object) -> SiteProgress:
    plain = SiteProgress(site=SiteId(name), name=name, connected=True)
    return replace(plain, **more)  # type: ignore[arg-type]


def told(name: str, ago: timedelta, **more: object) -> SiteProgress:
    return site(name, **({"arrived_at": NOW - ago, "accepted": True} | more))


WELL, SOON = WATCH, WATCH - timedelta(seconds=1)


@pytest.mark.parametrize(
    ("sites", "act", "words"),
    [
        ([site("a"), site("b")], Act.ARRIVE, "a"),
        ([site("a", connected=False), site("b")], Act.ARRIVE, "b"),
        ([told("a", SOON), site("b")], Act.WAIT, "site a has it, and is watched"),
        ([told("a", WELL, accepted=False), site("b")], Act.WAIT, "site a has it, and is watched"),
        ([told("a", WELL), site("b")], Act.ARRIVE, "b"),
        ([told("a", WELL, failing=frozenset({WEB}), before=frozenset({WEB})), site("b")], Act.ARRIVE, "b"),
        ([told("a", WELL), site("b", connected=False), site("c", connected=False)], Act.ARRIVE, "b c"),
        ([told("a", WELL), told("b", WELL)], Act.DONE, ""),
        ([told("a", SOON, connected=False, accepted=False)], Act.DONE, ""),
        ([told("a", PATIENCE, connected=False, accepted=False)], Act.DONE, ""),
        ([told("a", PATIENCE, connected=False, accepted=False), site("b")], Act.ARRIVE, "a"),
        ([told("a", PATIENCE, connected=False, accepted=False), told("b", SOON)], Act.ARRIVE, "a"),
        ([told("a", PATIENCE, connected=False), told("b", SOON)], Act.WAIT, "site b has it, and is watched"),
        ([told("a", PATIENCE / 2, connected=False, accepted=False), site("b")], Act.ARRIVE, "b"),
        ([], Act.DONE, ""),
    ],
    ids=[
        "first",
        "reached",
        "young",
        "untaken",
        "next",
        "as-before",
        "cut-off",
        "done",
        "left",
        "left-long-ago",
        "lost",
        "lost-beside",
        "taken-and-lost",
        "lost-lately",
        "none",
    ],  # fmt: skip,
)
def test_each_step(sites: list[SiteProgress], act: Act, words: str) -> None:
    for loosens in (True, False):
        step = next_step(sites, loosens=loosens, now=NOW)
        assert (step.act, step.reason or " ".join(step.sites)) == (act, words)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (told("a", SOON, failing=frozenset({WEB, SHOP}), before=frozenset({SHOP})), "1 service failed there"),
        (told("a", SOON, error="no configuration"), "site a: no configuration"),
        (told("a", PATIENCE + WATCH, accepted=False), "did not accept it within 120 s"),
    ],
    ids=["fails", "error", "silent"],
)
def test_what_goes_wrong_turns_a_loosening_back_and_halts_the_rest(wrong: SiteProgress, words: str) -> None:
    sites = [wrong, site("b")]
    back, halt = (next_step(sites, loosens=loosens, now=NOW) for loosens in (True, False))
    assert (back.act, halt.act) == (Act.TURN_BACK, Act.HALT)
    assert words in back.reason
    assert back.reason == halt.reason


# --- whole ways -------------------------------------------------------------------------------------------------------


def travel(sites: list[SiteProgress], *, loosens: bool, fails: Callable[[str], bool]) -> tuple[Act, list[str], int]:
    """A law's way to its end: how it ended, the sites it came to in order, and the most that were new at a time."""
    now, came, most = NOW, [], 0
    for _ in range(10 * len(sites) + 10):
        step = next_step(sites, loosens=loosens, now=now)
        if step.act not in (Act.ARRIVE, Act.WAIT):
            return step.act, came, most
        came += step.sites
        most = max(most, sum(one.connected for one in sites if one.site in step.sites))
        now += WATCH
        sites = [
            replace(
                one,
                arrived_at=one.arrived_at or now - WATCH,
                accepted=one.connected,
                failing=frozenset({WEB}) if fails(one.name) else frozenset(),
            )
            if one.site in came
            else one
            for one in sites
        ]
    raise AssertionError("it never ends")


FLEETS = st.lists(st.booleans(), max_size=8).map(
    lambda connected: [site(f"s{number}", connected=one) for number, one in enumerate(connected)]
)


@given(FLEETS, st.booleans(), st.sets(st.integers(0, 7)))
def test_it_comes_to_one_site_at_a_time_and_stops_where_it_goes_wrong(
    sites: list[SiteProgress], loosens: bool, bad: set[int]
) -> None:
    names = {f"s{number}" for number in bad}
    act, came, most = travel(sites, loosens=loosens, fails=names.__contains__)
    reached = [one.name for one in sites if one.connected]
    first = next((name for name in reached if name in names), None)
    assert most <= 1
    assert len(came) == len(set(came))
    if first is None:
        assert act is Act.DONE
        assert sorted(came) == sorted(one.name for one in sites)
        assert came[: len(reached)] == reached, "those that can be reached come first"
    else:
        assert act is (Act.TURN_BACK if loosens else Act.HALT)
        assert came == reached[: reached.index(first) + 1], "nobody after the one where it went wrong"
