"""Of the sites that may and can, which run it: by the objective, apart from each other, and moving for enough only."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.needs import NOWHERE, Current, Needs, SiteFacts
from kasbah.decide.placement import MARGIN, place
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.label import Label, Level
from kasbah.domain.law import Admission
from kasbah.domain.placement import Constraints, Objective, Placement, Verdict
from kasbah.domain.revision import Resources, Runtime

SERVICE = ServiceId("sv-1")
ALLOWED, DENIED = Admission(allowed=True), Admission(allowed=False, problem="the law says no")


def site(name: str, **more: object) -> SiteFacts:
    plain = SiteFacts(site=SiteId(f"st-{name}"), name=name, seen=True, connected=True, cpus=8.0, memory=2**34)
    return replace(plain, **more)  # type: ignore[arg-type]


def needs(**more: object) -> Needs:
    constraints = Constraints(**more)  # type: ignore[arg-type]
    return Needs(label=Label(level=Level.PUBLIC), runtime=Runtime.COMMAND, constraints=constraints)


def placed(wanted: Needs, sites: tuple[SiteFacts, ...], now: Current = NOWHERE, *, unlawful: str = "") -> Placement:
    lawful = {one.site: DENIED if one.name == unlawful else ALLOWED for one in sites}
    return place(SERVICE, wanted, sites, lawful, now)


def names(found: Placement) -> list[str]:
    return [one.removeprefix("st-") for one in found.chosen]


def at(*names: str, ready: tuple[str, ...] = ()) -> Current:
    ids = [SiteId(f"st-{name}") for name in names]
    return Current(at=tuple(ids), ready=frozenset(SiteId(f"st-{name}") for name in ready))


PRICE, CARBON = ((Objective.PRICE, 1.0),), ((Objective.CARBON, 1.0),)
CHEAP = site("cheap", cpu_hour=0.02, gib_hour=0.002, carbon=600.0)
CLEAN = site("clean", cpu_hour=0.05, gib_hour=0.005, carbon=50.0)
SILENT = site("a-silent")


@pytest.mark.parametrize(
    ("weights", "first"),
    [
        pytest.param(PRICE, "cheap", id="price"),
        pytest.param(CARBON, "clean", id="carbon"),
        pytest.param(((Objective.PRICE, 1.0), (Objective.CARBON, 3.0)), "clean", id="carbon counts more"),
        pytest.param(((Objective.PRICE, 3.0), (Objective.CARBON, 1.0)), "cheap", id="price counts more"),
        pytest.param((), "a-silent", id="nothing counts: by name"),
    ],
)
def test_the_objective_ranks_them(weights: tuple[tuple[Objective, float], ...], first: str) -> None:
    assert names(placed(needs(weights=weights), (CHEAP, CLEAN, SILENT))) == [first]


def test_what_nobody_declared_is_not_cheap() -> None:
    ranks = {one.site: one.rank for one in placed(needs(weights=PRICE), (SILENT, CHEAP, CLEAN)).verdicts}
    assert ranks == {"st-cheap": 1, "st-a-silent": 2, "st-clean": 3}, "it counts as the worst, and ties go by name"


def test_the_cheapest_is_not_chosen_where_the_law_refuses_it() -> None:
    assert names(placed(needs(weights=PRICE), (CHEAP, CLEAN), unlawful="cheap")) == ["clean"]


def test_what_a_replica_asks_for_decides_what_is_cheap() -> None:
    lean = replace(CHEAP, name="lean", site=SiteId("st-lean"), cpu_hour=0.01, gib_hour=0.1)
    hungry = replace(needs(weights=PRICE), resources=Resources(cpu=1, memory=64 * 2**30))
    sites = tuple(replace(one, memory=2**40) for one in (lean, CLEAN))
    assert names(placed(hungry, sites)) == ["clean"]
    assert names(placed(replace(hungry, resources=Resources(cpu=8, memory=2**20)), sites)) == ["lean"]


@pytest.mark.parametrize(("better", "moves"), [(MARGIN - 0.05, False), (MARGIN + 0.05, True)])
def test_it_moves_only_for_enough(better: float, moves: bool) -> None:
    here, there = site("here", carbon=100.0), site("there", carbon=100.0 * (1 - better))
    found = placed(needs(weights=CARBON), (here, there), at("here", ready=("there",)))
    assert names(found) == (["there"] if moves else ["here"])


def test_for_what_is_better_a_site_is_left_only_once_that_serves() -> None:
    dirty, wanted = site("dirty", carbon=600.0), needs(weights=CARBON)
    found = placed(wanted, (dirty, CLEAN), at("dirty"))
    assert (names(found), found.moving) == (["dirty", "clean"], True)
    found = placed(wanted, (dirty, CLEAN), at("dirty", "clean"))
    assert (names(found), found.moving) == (["dirty", "clean"], True)
    found = placed(wanted, (dirty, CLEAN), at("dirty", "clean", ready=("clean", "dirty")))
    assert (names(found), found.moving) == (["clean"], False)


def test_where_nothing_counts_it_stays() -> None:
    assert names(placed(needs(), (site("a"), site("b")), at("b"))) == ["b"]


def test_several_stand_with_others_and_elsewhere() -> None:
    sites = (
        site("a", country="FR", operator="one"),
        site("b", country="FR", operator="one"),
        site("c", country="FR", operator="two"),
        site("d", country="DE", operator="three"),
    )
    assert names(placed(needs(sites=2), sites)) == ["a", "d"]
    assert names(placed(needs(sites=3), sites)) == ["a", "c", "d"]
    assert names(placed(needs(sites=9), sites)) == ["a", "b", "c", "d"], "as many as there are"


def test_files_name_sites_and_avoid_others() -> None:
    sites = (site("a"), site("b"), site("c"))
    assert names(placed(needs(only=("b", "c")), sites)) == ["b"]
    assert names(placed(needs(avoid=("a",)), sites)) == ["b"]


def test_room_that_is_taken_is_not_given_twice() -> None:
    wanted = replace(needs(), resources=Resources(cpu=2), replicas=2)
    full, free = site("a-full", cpus=8.0, used_cpus=5.0), site("b-free", cpus=8.0, used_cpus=4.0)
    found = placed(wanted, (full, free))
    assert names(found) == ["b-free"]
    assert "5 of 8 are taken" in found.verdicts[0].reason
    assert names(placed(wanted, (full, free), at("a-full"))) == ["a-full"], "its own share is its own"
    assert names(placed(replace(wanted, replicas=0), (full, free))) == ["a-full"], "what sleeps takes no room"


# --- leaving --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaves", [{"draining": True}, {"lost": True, "connected": False}], ids=["drained", "lost"])
def test_a_site_is_left_only_once_another_serves(leaves: dict[str, bool]) -> None:
    sites = (replace(site("a"), **leaves), site("b"))
    found = placed(needs(), sites, at("a"))
    assert (names(found), found.moving) == (["a", "b"], True)
    found = placed(needs(), sites, at("a", "b"))
    assert (names(found), found.moving) == (["a", "b"], True)
    found = placed(needs(), sites, at("a", "b", ready=("b",)))
    assert (names(found), found.moving) == (["b"], False)


def test_with_no_other_place_a_drained_site_lets_go_and_a_lost_one_does_not() -> None:
    drained = placed(needs(), (site("a", draining=True), site("b")), at("a"), unlawful="b")
    assert (names(drained), drained.verdicts[0].reason) == ([], "it is drained")
    assert "kasbah sites drain a --undo" in drained.verdicts[0].hint
    lost = placed(needs(), (site("a", lost=True, connected=False), site("b")), at("a"), unlawful="b")
    assert names(lost) == ["a"], "what serves keeps serving"


def test_a_silent_moment_moves_nothing() -> None:
    assert names(placed(needs(), (site("a", connected=False), site("b")), at("a"))) == ["a"]
    assert names(placed(needs(), (site("a", connected=False), site("b")))) == ["b"], "but nothing new goes there"


def test_where_it_became_unlawful_it_is_left_at_once() -> None:
    assert names(placed(needs(), (site("a"), site("b")), at("a"), unlawful="a")) == ["b"]


# --- always ---------------------------------------------------------------------------------------------------------

BOOLS = st.booleans()
SITES = st.lists(
    st.builds(
        site,
        st.sampled_from("abcdefgh"),
        draining=BOOLS,
        lost=BOOLS,
        connected=BOOLS,
        carbon=st.none() | st.floats(0, 900),
        country=st.sampled_from(["MA", "FR", None]),
    ),
    unique_by=lambda one: one.name,
    max_size=8,
)


@given(sites=SITES, wanted=st.integers(1, 4), here=st.sets(st.sampled_from("abcdefgh")), unlawful=st.sets(st.sampled_from("abcdefgh")))  # fmt: skip # noqa: E501
def test_whatever_happens(sites: list[SiteFacts], wanted: int, here: set[str], unlawful: set[str]) -> None:
    """Every site has a verdict, none is chosen that may not, asking twice gives the same, and a placement that was
    carried out is stable."""
    asked = needs(sites=wanted, weights=CARBON)
    lawful = {one.site: DENIED if one.name in unlawful else ALLOWED for one in sites}
    now = at(*sorted(here))
    found = place(SERVICE, asked, tuple(sites), lawful, now)
    assert [one.site for one in found.verdicts] == [one.site for one in sites]
    assert all(lawful[one].allowed for one in found.chosen)
    assert (
        len([one for one in found.verdicts if one.verdict is Verdict.CHOSEN and one.rank and not one.until]) <= wanted
    )
    assert found == place(SERVICE, asked, tuple(sites), lawful, now)
    again = place(SERVICE, asked, tuple(sites), lawful, Current(at=found.chosen, ready=frozenset(found.chosen)))
    staying = {one.site for one in found.verdicts if one.verdict is Verdict.CHOSEN and not one.until}
    assert staying == set(again.chosen), "no flapping"
