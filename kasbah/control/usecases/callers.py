"""Where are a service's callers? Where its file says, or else where its requests came in over the last day; and how far
are sites from each other, by what their agents measured.

Asked only where it counts for a service: it is one of its objectives.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from kasbah.control.store.interface import Transaction
from kasbah.control.store.records import ServiceRecord, SiteRecord
from kasbah.decide.latency import both_ways, callers_of
from kasbah.decide.needs import Callers
from kasbah.domain.crossing import Neighbour, address_error
from kasbah.domain.ids import SiteId
from kasbah.domain.placement import Constraints, Objective

WINDOW = timedelta(hours=24)
"""For so long back requests are counted: a day has every hour of the day in it."""


def asks_latency(constraints: Constraints) -> bool:
    """Whether it counts for a service how far its callers are."""
    return any(objective is Objective.LATENCY for objective, _ in constraints.weights)


def callers(tx: Transaction, now: datetime, sites: Sequence[SiteRecord], service: ServiceRecord) -> Callers:
    """Where the service's callers are; nobody knows, or it does not count, where it is empty."""
    if not asks_latency(service.constraints):
        return ()
    if service.constraints.callers:
        return tuple(sorted((one.id, 1.0) for one in sites if one.name in service.constraints.callers))
    return callers_of(tx.usage.entered(service.id, since=now - WINDOW))


def distances(sites: Sequence[SiteRecord]) -> dict[SiteId, dict[SiteId, float]]:
    """By site, the milliseconds of a round trip to others."""
    return both_ways({one.id: dict(one.report.near) for one in sites if one.report is not None})


def neighbours(sites: Sequence[SiteRecord], services: Sequence[ServiceRecord]) -> tuple[Neighbour, ...]:
    """The sites that all others measure: those that can be dialled, if that counts for any service."""
    if not any(asks_latency(one.constraints) for one in services):
        return ()
    addresses = ((one.id, one.report.peers_address) for one in sites if one.report is not None)
    return tuple(Neighbour(site=site, address=address) for site, address in addresses if not address_error(address))
