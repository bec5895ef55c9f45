"""How far is a site from a service's callers? By the sites where their requests enter, and how long a round trip from
each of those takes.

A caller is as near as the gateway that he reached; how far he is from that is nobody's to measure. Of a site that
nobody measured from where some callers are, nothing is known: what is not known is not near.
"""

from __future__ import annotations

from collections.abc import Mapping

from kasbah.decide.needs import Callers, SiteFacts
from kasbah.domain.ids import SiteId

PARTS = 20
"""Callers are told apart in parts of so many: that a few more come from somewhere is no reason to decide anew."""


def expected(callers: Callers, site: SiteFacts) -> float | None:
    """Milliseconds of a round trip to this site, on the average of all callers; None where it is not known."""
    took = [(part, 0.0 if entry == site.site else site.near.get(entry)) for entry, part in callers]
    whole = sum(part for part, _ in took)
    known = [part * milliseconds for part, milliseconds in took if milliseconds is not None]
    return sum(known) / whole if whole and len(known) == len(took) else None


def callers_of(requests: Mapping[SiteId, int]) -> Callers:
    """Which part of these requests entered at each site, in coarse parts; sites with hardly any are left out."""
    whole = sum(requests.values())
    parts = {site: round(PARTS * count / whole) for site, count in requests.items() if whole}
    return tuple(sorted((site, float(part)) for site, part in parts.items() if part))


def both_ways(measured: Mapping[SiteId, Mapping[SiteId, float]]) -> dict[SiteId, dict[SiteId, float]]:
    """How far sites are from each other, in milliseconds: the least that either measured. A site that nobody can dial
    measures the others."""
    found: dict[SiteId, dict[SiteId, float]] = {}
    for one, others in measured.items():
        for other, took in others.items():
            least = min(took, found.get(one, {}).get(other, took))
            found.setdefault(one, {})[other] = found.setdefault(other, {})[one] = least
    return found
