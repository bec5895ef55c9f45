"""How far is the placement from the best there is? Random instances with too little room, solved exactly by HiGHS.

An instance is some services that always run, at one to three sites each that must stand in as many countries, and sites
that have only so much room, of which the law leaves some to each service. What is best is found in two steps: how many
of the sites that were asked for can be given at all, and for what each service got from us, what is the least that this
could cost. Ours is placed twice: each service as it comes, knowing nothing of those after it, and all at once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor
from statistics import mean
from typing import Any

from bench.errors import Unmeasured
from bench.figures import spread
from bench.rows import Row
from kasbah.decide.needs import Needs, SiteFacts
from kasbah.decide.placer import Placer
from kasbah.decide.ranking import cost_of_an_hour
from kasbah.decide.together import Asked, place_together
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.label import Label, Level
from kasbah.domain.law import Admission
from kasbah.domain.placement import Constraints, Objective
from kasbah.domain.revision import Resources, Runtime

SERVICES, SITES = 60, 12
COUNTRIES = ("MA", "FR", "DE", "ES")
SEED = 20_261_127
INSTANCES, QUICK_INSTANCES = 20, 3
GIB = 2**30
SIZES = (Resources(cpu=1.0, memory=2 * GIB), Resources(cpu=2.0, memory=8 * GIB), Resources(cpu=4.0, memory=4 * GIB))
TIGHT = {"with room to spare": 0.6, "with little room": 0.9, "with too little room": 1.1}
"""What all services ask for together, as a part of what all sites have."""
LEAST_SERVED, MOST_COST = 0.99, 1.1
LEAST_GIVEN = {"with room to spare": 0.99, "with little room": 0.95, "with too little room": 0.8}
"""With too little room every service has a site before any has a second, which costs some of the sites."""
SECONDS = 1.0
"""The most that one exact solution may take."""
PROVED = 0.005
"""How close to the best that could be an exact solution is proved to be, in parts of it."""

ROUNDING = 1e-6

Chosen = dict[ServiceId, frozenset[SiteId]]


@dataclass(frozen=True, kw_only=True)
class Instance:
    """Services, sites, and where each service may be."""

    sites: tuple[SiteFacts, ...]
    needs: Mapping[ServiceId, Needs]
    lawful: Mapping[ServiceId, frozenset[SiteId]]

    def asked(self) -> list[Asked]:
        """As placement is asked."""
        return [
            Asked(service=service, needs=needs, lawful=lambda service=service: self._answers(service), alone=True)  # type: ignore[misc]
            for service, needs in self.needs.items()
        ]

    def _answers(self, service: ServiceId) -> dict[SiteId, Admission]:
        return {one.site: Admission(allowed=one.site in self.lawful[service]) for one in self.sites}

    def cost(self, chosen: Chosen) -> float:
        """What an hour of all of it costs."""
        by_id = {one.site: one for one in self.sites}
        return sum(self.price(self.needs[one], by_id[site]) for one, sites in chosen.items() for site in sites)

    def price(self, needs: Needs, site: SiteFacts) -> float:
        """What an hour of a service costs at a site."""
        return (cost_of_an_hour(needs.resources, site) or 0.0) * needs.replicas


def measure(*, quick: bool) -> Iterator[Row]:
    """The rows of this group."""
    try:
        import highspy  # noqa: F401
    except ImportError:
        raise Unmeasured("HiGHS is not installed: make setup-dev") from None
    for name, load in TIGHT.items():
        count = QUICK_INSTANCES if quick else INSTANCES
        drawn = [instance(random.Random(SEED + number), load) for number in range(count)]
        ours, coming = [at_once(one) for one in drawn], [one_by_one(one) for one in drawn]
        note = f"{count} instances of {SERVICES} services and {SITES} sites; "
        yield _part(f"services that run, of those that could, {name}", drawn, ours, coming, LEAST_SERVED, note, most=1)
        yield _part(f"sites given, of those that could be, {name}", drawn, ours, coming, LEAST_GIVEN[name])
        yield _price(f"what those cost, of the least that they could, {name}", drawn, ours)


def _part(
    name: str,
    drawn: Sequence[Instance],
    ours: Sequence[Chosen],
    coming: Sequence[Chosen],
    least: float,
    note: str = "",
    most: int = 3,
) -> Row:
    """How many sites services were given, of the most that they could be; at the most this many each."""
    best = [most_given(one, most) for one in drawn]
    parts, others = (
        [_given(one, most) / other for one, other in zip(found, best, strict=True)] for found in (ours, coming)
    )
    return Row(
        name=name,
        ours=mean(_given(one, most) for one in ours),
        reference=mean(best),
        reference_name="HiGHS",
        ratio=mean(parts),
        spread=spread(parts),
        goal=f">= {least:g}",
        ok=mean(parts) >= least,
        note=f"{note}each as it comes: {mean(others):.3f}",
    )


def _given(chosen: Chosen, most: int) -> int:
    return sum(min(len(sites), most) for sites in chosen.values())


def _price(name: str, drawn: Sequence[Instance], ours: Sequence[Chosen]) -> Row:
    """What an hour costs, of the least that as many sites for each service could cost."""
    costs = [instance.cost(one) for instance, one in zip(drawn, ours, strict=True)]
    least = [least_cost(instance, one) for instance, one in zip(drawn, ours, strict=True)]
    gaps = [cost / other for cost, other in zip(costs, least, strict=True)]
    return Row(
        name=name,
        ours=mean(costs),
        reference=mean(least),
        reference_name="HiGHS",
        ratio=mean(gaps),
        spread=spread(gaps),
        goal=f"<= {MOST_COST:g}",
        ok=mean(gaps) <= MOST_COST,
    )


def instance(chance: random.Random, load: float) -> Instance:
    """An instance whose services ask, all in all, for this part of what its sites have."""
    needs = {ServiceId(f"sv-{number:02}"): _needs(chance) for number in range(SERVICES)}
    asked = sum(one.room[0] * one.constraints.sites for one in needs.values())
    memory = sum(one.room[1] * one.constraints.sites for one in needs.values())
    sizes = [chance.uniform(0.5, 1.5) for _ in range(SITES)]
    sites = tuple(
        SiteFacts(
            site=SiteId(f"st-{number:02}"),
            name=f"site-{number:02}",
            seen=True,
            connected=True,
            runtimes=("python",),
            cpus=round(size / sum(sizes) * asked / load, 1),
            memory=int(size / sum(sizes) * memory / load),
            country=COUNTRIES[number % len(COUNTRIES)],
            operator=COUNTRIES[number % len(COUNTRIES)],
            cpu_hour=chance.uniform(0.01, 0.1),
            gib_hour=chance.uniform(0.001, 0.01),
        )
        for number, size in enumerate(sizes)
    )
    return Instance(sites=sites, needs=needs, lawful={name: _lawful(chance, one, sites) for name, one in needs.items()})


def _needs(chance: random.Random) -> Needs:
    return Needs(
        label=Label(level=Level.INTERNAL),
        runtime=Runtime.PYTHON,
        resources=chance.choice(SIZES),
        constraints=Constraints(sites=chance.choice((1, 1, 2, 3)), weights=((Objective.PRICE, 1.0),)),
        replicas=chance.choice((1, 1, 2)),
    )


def _lawful(chance: random.Random, needs: Needs, sites: Sequence[SiteFacts]) -> frozenset[SiteId]:
    """Where a service may be: anywhere, or in few countries, as labels differ in what they permit."""
    countries = chance.sample(COUNTRIES, max(needs.constraints.sites, chance.choice((1, 2, 4))))
    return frozenset(one.site for one in sites if one.country in countries)


def one_by_one(drawn: Instance) -> Chosen:
    """Each as it comes."""
    placer, found = Placer(sites=drawn.sites), {}
    for one in drawn.asked():
        found.update(place_together([one], placer))
    return {service: _apart(drawn, frozenset(placement.chosen)) for service, placement in found.items()}


def at_once(drawn: Instance) -> Chosen:
    """All in one decision."""
    found = place_together(drawn.asked(), Placer(sites=drawn.sites))
    return {service: _apart(drawn, frozenset(placement.chosen)) for service, placement in found.items()}


def _apart(drawn: Instance, chosen: frozenset[SiteId]) -> frozenset[SiteId]:
    """Of sites in one country, the cheapest counts and no other: nothing is won by them when that country fails."""
    price = {one.site: (one.cpu_hour or 0.0, one.site) for one in drawn.sites}
    first: dict[str | None, SiteId] = {}
    country = {one.site: one.country for one in drawn.sites}
    for site in sorted(chosen, key=lambda one: price[one]):
        first.setdefault(country[site], site)
    return frozenset(first.values())


def most_given(drawn: Instance, most: int) -> int:
    """How many of the sites that services ask for they can be given; at the most this many each."""
    solver, given = _model(drawn, {one: min(needs.constraints.sites, most) for one, needs in drawn.needs.items()})
    return floor(-_solved(solver, -solver.qsum(given.values())) + ROUNDING)


def least_cost(drawn: Instance, ours: Chosen) -> float:
    """The least that giving each service as many sites as it has with us can cost."""
    solver, given = _model(drawn, {one: len(sites) for one, sites in ours.items()}, exactly=True)
    by_id = {one.site: one for one in drawn.sites}
    cost = solver.qsum(drawn.price(drawn.needs[service], by_id[site]) * one for (service, site), one in given.items())
    return _solved(solver, cost)


def _model(drawn: Instance, asked: Mapping[ServiceId, int], *, exactly: bool = False) -> tuple[Any, dict[Any, Any]]:
    """A solver that knows what is allowed, and a variable for each service at each site where it may be: 1, it runs."""
    import highspy

    solver = highspy.Highs()
    solver.silent()
    given = {
        (service, one.site): solver.addBinary()
        for service, sites in drawn.lawful.items()
        for one in drawn.sites
        if one.site in sites
    }
    for service, count in asked.items():
        at = {site: one for (whose, site), one in given.items() if whose == service}
        total = solver.qsum(at.values())
        solver.addConstr(total == count if exactly else total <= count)
        for country in COUNTRIES:
            there = [at[one.site] for one in drawn.sites if one.country == country and one.site in at]
            if there:
                solver.addConstr(solver.qsum(there) <= 1)
    for site in drawn.sites:
        here = [(drawn.needs[service].room, one) for (service, at), one in given.items() if at == site.site]
        solver.addConstr(solver.qsum(cpus * one for (cpus, _), one in here) <= site.cpus)
        solver.addConstr(solver.qsum(memory / GIB * one for (_, memory), one in here) <= site.memory / GIB)
    return solver, given


def _solved(solver: Any, objective: Any) -> float:
    """What the objective cannot be less than, proved."""
    solver.setOptionValue("time_limit", SECONDS)
    solver.setOptionValue("mip_rel_gap", PROVED)
    solver.minimize(objective)
    return float(solver.getInfo().mip_dual_bound)
