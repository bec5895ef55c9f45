"""Placed at the same moment, no two services are given the same room; and who can be served is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.needs import NOWHERE, Current, Needs, SiteFacts
from kasbah.decide.placer import Placer
from kasbah.decide.together import Asked, place_together
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.label import Label, Level
from kasbah.domain.law import Admission
from kasbah.domain.placement import Constraints, Objective, Verdict
from kasbah.domain.revision import Resources, Runtime

ALL = ("a", "b", "c")


def site(name: str, cpus: float, *, cpu_hour: float = 0.05, used: float = 0.0) -> SiteFacts:
    return SiteFacts(
        site=SiteId(name), name=name, seen=True, connected=True, cpus=cpus, memory=2**40, used_cpus=used,
        country=name.upper(), cpu_hour=cpu_hour, gib_hour=0.0,
    )  # fmt: skip


def asked(
    name: str, cpu: float, *, may: Collection[str] = ALL, sites: int = 1, at: tuple[str, ...] = (), replicas: int = 1
) -> Asked:
    needs = Needs(
        label=Label(level=Level.PUBLIC),
        runtime=Runtime.COMMAND,
        resources=Resources(cpu=cpu, memory=2**20),
        constraints=Constraints(sites=sites, weights=((Objective.PRICE, 1.0),)),
        replicas=replicas,
    )
    answers = {SiteId(one): Admission(allowed=one in may, problem="no") for one in ALL}
    now = Current(at=tuple(SiteId(one) for one in at)) if at else NOWHERE
    return Asked(service=ServiceId(name), needs=needs, lawful=lambda: answers, now=now, alone=True)


def chosen(wanted: list[Asked], *sites: SiteFacts) -> dict[str, tuple[str, ...]]:
    found = place_together(wanted, Placer(sites=sites))
    return {service: placement.chosen for service, placement in found.items()}


def test_room_is_given_once() -> None:
    found = place_together([asked("one", 3), asked("two", 3)], Placer(sites=(site("a", 4),)))
    assert [len(found[ServiceId(one)].chosen) for one in ("one", "two")] == [1, 0]
    (verdict,) = found[ServiceId("two")].verdicts
    assert verdict.reason == "it asks for 3 CPUs, and 3 of 4 are taken"


def test_what_always_runs_nowhere_takes_no_room() -> None:
    assert chosen([asked("one", 3, replicas=0), asked("two", 3)], site("a", 4)) == {"one": ("a",), "two": ("a",)}


def test_who_may_be_at_one_site_only_finds_room_there() -> None:
    cheap, dear = site("a", 4, cpu_hour=0.01), site("b", 4, cpu_hour=0.09)
    assert chosen([asked("anywhere", 3), asked("tied", 3, may="a")], cheap, dear) == {
        "anywhere": ("b",),
        "tied": ("a",),
    }


def test_each_has_a_site_before_any_has_a_second() -> None:
    wanted = [*(asked(name, 2, sites=2) for name in ("one", "two", "three")), asked("four", 2)]
    found = chosen(wanted, site("a", 4), site("b", 4))
    assert {one: len(sites) for one, sites in found.items()} == {"one": 1, "two": 1, "three": 1, "four": 1}


def test_who_was_left_with_nothing_comes_first_the_next_time() -> None:
    wanted = [asked("one", 1), asked("two", 2), asked("too", 2), asked("three", 3)]
    found = chosen(wanted, site("a", 4, cpu_hour=0.01), site("b", 4, cpu_hour=0.09))
    assert found == {"one": ("a",), "two": ("b",), "too": ("b",), "three": ("a",)}


def test_who_is_there_stays_there_whoever_comes() -> None:
    found = chosen([asked("comes", 3, may="a"), asked("stays", 3, at=("a",))], site("a", 4, used=3.0), site("b", 9))
    assert found == {"comes": (), "stays": ("a",)}


ASKED = st.builds(
    asked,
    st.just("?"),
    st.sampled_from((0.1, 1.0, 2.5)),
    may=st.sampled_from(("abc", "ab", "c")),
    sites=st.integers(1, 3),
    replicas=st.integers(0, 2),
)
SITES = st.tuples(*(st.builds(site, st.just(name), st.sampled_from((1.0, 3.0, 6.0))) for name in ALL))


@given(drawn=st.lists(ASKED, max_size=12), sites=SITES, chance=st.randoms(use_true_random=False))
def test_whatever_is_asked(drawn: list[Asked], sites: tuple[SiteFacts, ...], chance) -> None:  # type: ignore[no-untyped-def]
    wanted = [replace(one, service=ServiceId(f"sv-{number}")) for number, one in enumerate(drawn)]
    found = place_together(wanted, Placer(sites=sites))
    for one in sites:
        taken = sum(one_.needs.room[0] for one_ in wanted if one.site in found[one_.service].chosen)
        assert taken <= one.cpus + 1e-5, "no site is given more than it has"
    for one_ in wanted:
        verdicts = {verdict.site: verdict.verdict for verdict in found[one_.service].verdicts}
        unlawful = [one for one, answer in one_.lawful().items() if not answer.allowed]
        assert all(verdicts[one] is Verdict.REFUSED for one in unlawful), "need is no reason to break the law"
    shuffled = list(wanted)
    chance.shuffle(shuffled)
    assert place_together(shuffled, Placer(sites=sites)) == found, "in whatever order they are asked about"
