"""The traffic: recorded traces in a reduced form (`bench/data`, made by `bench.scaling.reduce`), and two made ones.

A trace is what a scaling rule meets: when each request came, and how long it is served. Whole milliseconds.
"""

from __future__ import annotations

import gzip
import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from random import Random

DATA = Path(__file__).parent.parent / "data"
RECORDED = ("azure-code", "servegen-days", "mooncake-conversation", "servegen-bursts", "servegen-quiet")
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests, by when they came and how long each is served, and how long it was watched."""

    name: str
    arrivals: tuple[int, ...]
    services: tuple[int, ...]
    length: int

    def first(self, length: int) -> Trace:
        """Only its beginning."""
        count = bisect_left(self.arrivals, length)
        return replace(self, arrivals=self.arrivals[:count], services=self.services[:count], length=length)


def everything() -> list[Trace]:
    """All of them; the rule was fitted to the first two alone."""
    return [*(recorded(name) for name in RECORDED), step(), diurnal()]


def recorded(name: str) -> Trace:
    """One from `bench/data`: a line for its length, then a line a request: the gap since the last one, its service."""
    length, *lines = gzip.decompress((DATA / f"{name}.csv.gz").read_bytes()).decode().splitlines()
    pairs = [line.split(",") for line in lines]
    arrivals = accumulate(int(gap) for gap, _ in pairs)
    services = tuple(int(took) for _, took in pairs)
    return Trace(name=name, arrivals=tuple(arrivals), services=services, length=int(length))


def step() -> Trace:
    """A request a second, then twelve for twenty minutes, then one again; served for two seconds on average."""
    return drawn("step", 1, HOUR_MS, 12.0, lambda at: 12.0 if 1_200_000 <= at < 2_400_000 else 1.0)


def diurnal() -> Trace:
    """Two days: a request every two seconds at noon, fewer before and after, nobody for ten hours of the night."""
    return drawn("diurnal", 2, 48 * HOUR_MS, 0.5, lambda at: 0.5 * math.sin(math.pi * (at / HOUR_MS % 24 - 5) / 14))


def drawn(name: str, seed: int, length: int, peak: float, rate: Callable[[int], float]) -> Trace:
    """Poisson arrivals of a changing rate (requests a second), thinned from the peak's."""
    chance = Random(seed)
    arrivals: list[int] = []
    services: list[int] = []
    at = 0.0
    while (at := at - math.log(1 - chance.random()) / peak * 1_000) < length:
        if chance.random() * peak < rate(int(at)):
            arrivals.append(int(at))
            services.append(1 + int(-math.log(1 - chance.random()) * 2_000))
    return Trace(name=name, arrivals=tuple(arrivals), services=tuple(services), length=length)
