"""Asked about many services, the answer is the one that each would get alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.egress import Reach
from kasbah.decide.needs import NOWHERE, Current, Needs, SiteFacts
from kasbah.decide.placement import place
from kasbah.decide.placer import Placer
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.label import Label, Level
from kasbah.domain.law import Admission
from kasbah.domain.placement import Constraints, Objective, Verdict
from kasbah.domain.revision import Resources, Runtime

SITES = tuple(
    SiteFacts(
        site=SiteId(f"st-{name}"),
        name=name,
        seen=True,
        connected=True,
        runtimes=("python",),
        cpus=8.0,
        memory=2**33,
        carbon=float(carbon),
    )
    for name, carbon in (("a", 300), ("b", 60), ("c", 120))
)
NEEDS = st.builds(
    Needs,
    label=st.builds(Label, level=st.sampled_from(Level)),
    runtime=st.sampled_from((Runtime.PYTHON, Runtime.NODE)),
    resources=st.builds(Resources, cpu=st.sampled_from((None, 2.0, 16.0))),
    constraints=st.builds(
        Constraints, sites=st.integers(1, 3), weights=st.sampled_from(((), ((Objective.CARBON, 1.0),)))
    ),
)
CURRENT = st.sampled_from((NOWHERE, Current(at=(SiteId("st-a"),)), Current(at=(SiteId("st-c"),))))


def lawful(needs: Needs) -> Mapping[SiteId, Admission]:
    """Higher levels may be at fewer sites."""
    return {
        site.site: Admission(allowed=needs.label.level + number < 5, problem="no") for number, site in enumerate(SITES)
    }


@given(asked=st.lists(st.tuples(NEEDS, CURRENT), min_size=1, max_size=30))
def test_it_answers_as_each_alone_would_be_answered(asked: list[tuple[Needs, Current]]) -> None:
    placer = Placer(sites=SITES)
    for number, (needs, now) in enumerate(asked):
        service = ServiceId(f"sv-{number}")
        alone = place(service, needs, SITES, lawful(needs), now)
        assert placer.place(service, needs, lambda needs=needs: lawful(needs), now) == alone  # type: ignore[misc]


ROOMY = st.builds(
    Needs,
    label=st.just(Label(level=Level.PUBLIC)),
    runtime=st.just(Runtime.PYTHON),
    resources=st.builds(Resources, cpu=st.sampled_from((2.0, 3.0))),
    constraints=st.builds(Constraints, sites=st.integers(1, 2)),
    replicas=st.integers(0, 1),
)


@given(asked=st.lists(st.tuples(ROOMY, st.booleans()), min_size=8, max_size=30))
def test_it_answers_as_one_that_remembers_nothing_whatever_room_is_taken(asked: list[tuple[Needs, bool]]) -> None:
    placer, held = Placer(sites=SITES), list[tuple[Needs, tuple[SiteId, ...]]]()
    for number, (needs, back) in enumerate(asked):
        service = ServiceId(f"sv-{number}")
        found = placer.place(service, needs, lambda needs=needs: lawful(needs))  # type: ignore[misc]
        verdicts = {one.site: one.verdict for one in found.verdicts}
        fresh = place(service, needs, placer.sites, lawful(needs))
        assert verdicts == {one.site: one.verdict for one in fresh.verdicts}
        placer.take(needs, found.chosen)
        held.append((needs, found.chosen))
        if back:
            placer.give_back(*held.pop(0))


def test_the_law_is_asked_once_for_all_that_are_alike() -> None:
    placer, times = Placer(sites=SITES), []
    needs = Needs(label=Label(level=Level.PUBLIC), runtime=Runtime.PYTHON)

    def once() -> Mapping[SiteId, Admission]:
        times.append(1)
        return lawful(needs)

    for number in range(5):
        placer.place(ServiceId(f"sv-{number}"), needs, once)
    placer.place(ServiceId("sv-9"), replace(needs, reach=Reach.NOWHERE), once)
    placer.place(ServiceId("sv-10"), replace(needs, label=Label(level=Level.INTERNAL)), once)
    assert len(times) == 2, "once for each label"


def test_who_is_asked_about_alone_is_not_taken_for_another() -> None:
    placer = Placer(sites=SITES)
    needs = Needs(label=Label(level=Level.PUBLIC), runtime=Runtime.PYTHON)
    first = placer.place(ServiceId("sv-1"), needs, lambda: lawful(needs))
    none = placer.place(ServiceId("sv-2"), needs, dict, alone=True)
    assert first.chosen
    assert {one.verdict for one in none.verdicts} == {Verdict.REFUSED}
