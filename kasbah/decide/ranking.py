"""How good is each of these sites for a service, by its objective? Only lawful sites come here: legality is no weight.

Each objective is measured in its own unit, as a part of the worst among the sites that are compared, so that weights
mean the same whatever the units. A site of which nobody declared what it costs, or measured how far it is, counts as
the worst: what is not known is not cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from kasbah.decide.latency import expected
from kasbah.decide.needs import Needs, SiteFacts
from kasbah.domain.ids import SiteId
from kasbah.domain.placement import Objective
from kasbah.domain.revision import Resources

GIB = 2**30
USUAL_CPU, USUAL_MEMORY = 1.0, GIB
"""What a replica is taken to use where its file says nothing."""


def scores(needs: Needs, sites: Sequence[SiteFacts]) -> dict[SiteId, float]:
    """By site, from 0 (costs nothing) to 1 (the worst of these by all that counts); 0 for all where nothing does."""
    total = sum(weight for _, weight in needs.constraints.weights)
    found = [0.0] * len(sites)
    for objective, weight in needs.constraints.weights if total else ():
        measured = [_measure(objective, needs, site) for site in sites]
        worst = max((value for value in measured if value is not None), default=0.0)
        parts = [1.0 if value is None else value / worst if worst else 0.0 for value in measured]
        found = [before + part * weight / total for before, part in zip(found, parts, strict=True)]
    return {site.site: value for site, value in zip(sites, found, strict=True)}


def cost_of_an_hour(resources: Resources, site: SiteFacts) -> float | None:
    """What an hour of one replica costs at a site; None where nobody declared it."""
    if site.cpu_hour is None or site.gib_hour is None:
        return None
    memory = USUAL_MEMORY if resources.memory is None else resources.memory
    cpu = USUAL_CPU if resources.cpu is None else resources.cpu
    return cpu * site.cpu_hour + memory / GIB * site.gib_hour


def _measure(objective: Objective, needs: Needs, site: SiteFacts) -> float | None:
    """What an hour of one replica costs there, or the objective's own figure; None where nobody knows it."""
    match objective:
        case Objective.PRICE:
            return cost_of_an_hour(needs.resources, site)
        case Objective.ENERGY:
            return site.energy_price
        case Objective.CARBON:
            return site.carbon
        case Objective.LATENCY:
            return expected(needs.callers, site)
        case _ as never:
            assert_never(never)
