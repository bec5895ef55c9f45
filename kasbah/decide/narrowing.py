"""What is left of a gateway that works, where the one that is wanted cannot be brought into force?

What was to come must wait for whoever mends it. What was to go may not: a site that keeps the last good configuration
whole would go on sending where it may not any more, for as long as one fault lasts. So of the last good one stays what
is wanted still, no wider than it is wanted; nothing in it is new.
"""

from __future__ import annotations

from dataclasses import replace

from kasbah.domain.gateway import Elsewhere, Gateway, Inside, VirtualHost
from kasbah.domain.ids import ServiceId, SiteId


def narrowed(good: Gateway, wanted: Gateway) -> Gateway:
    """The last good gateway without what is wanted no more."""
    peers = tuple(one for one in good.peers if one in wanted.peers)
    met = frozenset(one.site for one in peers)
    return replace(
        good,
        hosts=_hosts(good.hosts, wanted.hosts, met),
        credentials=tuple(one for one in good.credentials if one in wanted.credentials),
        peers=peers,
        inside=_inside(good.inside, wanted.inside, met),
        cut=wanted.cut,
    )


def _inside(good: Inside | None, wanted: Inside | None, met: frozenset[SiteId]) -> Inside | None:
    if good is None:
        return None
    return replace(good, hosts=() if wanted is None else _hosts(good.hosts, wanted.hosts, met))


def _hosts(
    good: tuple[VirtualHost, ...], wanted: tuple[VirtualHost, ...], met: frozenset[SiteId]
) -> tuple[VirtualHost, ...]:
    known: dict[ServiceId, VirtualHost] = {one.service: one for one in wanted}
    pairs = ((one, known.get(one.service)) for one in good)
    found = (_host(one, other, met) for one, other in pairs if other is not None)
    return tuple(one for one in found if one is not None)


def _host(good: VirtualHost, wanted: VirtualHost, met: frozenset[SiteId]) -> VirtualHost | None:
    """One service, for those who may call it by both and at the places that both name. None: it is served elsewhere
    now, or here now."""
    hosts = tuple(one for one in good.hosts if one in wanted.hosts)
    if (good.here, good.project) != (wanted.here, wanted.project) or not hosts:
        return None
    to = wanted.elsewhere.sites if wanted.elsewhere is not None else ()
    return replace(
        good,
        hosts=hosts,
        public=good.public and wanted.public,
        allowed_keys=tuple(one for one in good.allowed_keys if one in wanted.allowed_keys),
        level=max(good.level, wanted.level),
        elsewhere=_elsewhere(good.elsewhere, met.intersection(to)),
        entries=tuple(one for one in good.entries if one in wanted.entries and one in met),
    )


def _elsewhere(good: Elsewhere | None, sites: frozenset[SiteId]) -> Elsewhere | None:
    return None if good is None else replace(good, sites=tuple(one for one in good.sites if one in sites))
