"""How long does it take to place 1,000 services, and 10,000, among 100 sites, with nothing known before?

The estate of `admission.py`, with prices and carbon drawn besides; services ask for one of three objectives and one of
three sizes. Beside it, each service of a sample placed by itself, for as many.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from functools import partial
from statistics import median

from bench.admission import QUICK_ROUNDS, ROUNDS, SEED, SITES, estate
from bench.figures import spread
from bench.rows import Row
from kasbah.decide.admission import Admissions
from kasbah.decide.needs import Needs, SiteFacts
from kasbah.decide.placement import place
from kasbah.decide.placer import Placer
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.law import Admission, Data, Place, Purpose
from kasbah.domain.placement import Constraints, Objective
from kasbah.domain.revision import Resources, Runtime
from kasbah.packs import shipped_law

GOALS = {1_000: 0.5, 10_000: 5.0}
SAMPLE = 50
WEIGHTS = ((), ((Objective.PRICE, 1.0),), ((Objective.PRICE, 1.0), (Objective.CARBON, 1.0)))
SIZES = (Resources(), Resources(cpu=1.0, memory=2**30), Resources(cpu=4.0, memory=2**33))


def measure(*, quick: bool) -> Iterator[Row]:
    """The rows of this group."""
    for count, goal in GOALS.items():
        yield _row(count, goal, QUICK_ROUNDS if quick else ROUNDS)


def _row(count: int, goal: float, rounds: int) -> Row:
    chance = random.Random(SEED)
    services, places = estate(chance, count)
    sites = tuple(_site(number, chance) for number in range(SITES))
    needs = [_needs(data, chance) for data in services]
    there = dict(zip((site.site for site in sites), places, strict=True))
    whole, alone = [], []
    for _ in range(rounds):
        law = Admissions(law=shipped_law())
        placer = Placer(sites=sites)
        began = time.perf_counter()
        for number, one in enumerate(needs):
            placer.place(ServiceId(f"sv-{number}"), one, partial(_ask, law, one, there))
        whole.append(time.perf_counter() - began)
        began = time.perf_counter()
        for number, one in enumerate(needs[:SAMPLE]):
            place(ServiceId(f"sv-{number}"), one, sites, _ask(law, one, there))
        alone.append((time.perf_counter() - began) / SAMPLE * count)
    return Row(
        name=f"placement of {count:,} services among {SITES} sites, nothing known before",
        ours=median(whole),
        reference=median(alone),
        reference_name="each by itself (of a sample, admission known)",
        ratio=median(whole) / median(alone),
        unit="s",
        spread=spread(whole),
        goal=f"<= {goal:g} s",
        ok=median(whole) <= goal,
        note=f"{len({*needs}):,} kinds of service",
    )


def _ask(law: Admissions, needs: Needs, places: dict[SiteId, Place]) -> dict[SiteId, Admission]:
    data = Data(label=needs.label)
    return {site: law.admit(data, place, Purpose.PLACE) for site, place in places.items()}


def _site(number: int, chance: random.Random) -> SiteFacts:
    return SiteFacts(
        site=SiteId(f"st-{number}"),
        name=f"site-{number}",
        seen=True,
        connected=True,
        runtimes=("python", "node", "command"),
        cpus=64.0,
        memory=2**38,
        country=chance.choice(("MA", "FR", "DE")),
        operator=chance.choice("abcdefgh"),
        cpu_hour=chance.uniform(0.01, 0.1),
        gib_hour=chance.uniform(0.001, 0.01),
        carbon=chance.uniform(20, 700),
    )


def _needs(data: Data, chance: random.Random) -> Needs:
    return Needs(
        label=data.label,
        runtime=Runtime.PYTHON,
        resources=chance.choice(SIZES),
        constraints=Constraints(weights=chance.choice(WEIGHTS)),
    )
