"""How long does it take to decide where 1,000 services may be, of 100 sites?

An estate as they are: 60 different labels and 25 different sets of facts, drawn with a fixed seed. Beside it, the same
policies asked pair by pair with nothing remembered, on a sample, for as many pairs.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from statistics import median

from bench.figures import spread
from bench.rows import Row
from kasbah.decide.admission import Admissions, admit
from kasbah.decide.opening import CERTIFICATES
from kasbah.domain.ids import SiteId
from kasbah.domain.label import CATEGORIES, Label, Level
from kasbah.domain.law import Data, Place, Purpose
from kasbah.domain.site import SiteKind
from kasbah.packs import shipped_law

SERVICES, SITES = 1_000, 100
LABELS, KINDS_OF_SITE = 60, 25
MOST_SECONDS = 0.5
ROUNDS, QUICK_ROUNDS = 9, 3
SAMPLE = 500
SEED = 20_261_126
COUNTRIES = ("MA", "FR", "DE", "CH", "US")


def measure(*, quick: bool) -> Iterator[Row]:
    """The rows of this group."""
    services, sites = estate(random.Random(SEED))
    law = shipped_law()
    rounds = QUICK_ROUNDS if quick else ROUNDS
    there = {SiteId(f"st-{number}"): place for number, place in enumerate(sites)}
    cold, alone = [], []
    for _ in range(rounds):
        admissions = Admissions(law=law)
        began = time.perf_counter()
        for data in services:
            admissions.admit_all(data, there, Purpose.PLACE)
        cold.append(time.perf_counter() - began)
        began = time.perf_counter()
        for number in range(SAMPLE):
            admit(law, services[number % SERVICES], sites[number % SITES], Purpose.PLACE)
        alone.append((time.perf_counter() - began) / SAMPLE * SERVICES * SITES)
    yield Row(
        name=f"admission of {SERVICES:,} services at {SITES} sites, nothing known before",
        ours=median(cold),
        reference=median(alone),
        reference_name="each pair asked by itself (of a sample)",
        ratio=median(cold) / median(alone),
        unit="s",
        spread=spread(cold),
        goal=f"<= {MOST_SECONDS:g} s",
        ok=median(cold) <= MOST_SECONDS,
        note=f"{LABELS} labels, {KINDS_OF_SITE} kinds of site, {len(law.rules)} policies",
    )


def estate(chance: random.Random, services: int = SERVICES) -> tuple[list[Data], list[Place]]:
    """Services' data and sites, drawn."""
    regimes = sorted(shipped_law().regimes - {"base"})
    labels = [
        Label(
            level=chance.choice(list(Level)),
            categories=tuple(sorted(chance.sample(sorted(CATEGORIES), chance.randint(0, 3)))),
            regimes=tuple(sorted(chance.sample(regimes, chance.randint(0, 3)))),
        )
        for _ in range(LABELS)
    ]
    places = [
        Place(
            kind=chance.choice(list(SiteKind)),
            country=chance.choice(COUNTRIES),
            exposure=frozenset(chance.sample(COUNTRIES, chance.randint(1, 2))),
            certificates=frozenset(chance.sample(CERTIFICATES, chance.randint(0, 2))),
        )
        for _ in range(KINDS_OF_SITE)
    ]
    return [Data(label=chance.choice(labels)) for _ in range(services)], [chance.choice(places) for _ in range(SITES)]
