"""In which order are other sites tried, by how long each takes to answer? And how far are they said to be?

The nearest first; but one that is hardly nearer than another does not pass it, so that the order rests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from kasbah.domain.ids import SiteId

NEIGHBOURS = 100
"""How many other sites are measured at the most."""
PART, LEAST = 1.25, timedelta(milliseconds=1)
"""Who passes another is nearer by a fifth, and by so much at the least."""


def nearest(before: Sequence[SiteId], took: Mapping[SiteId, timedelta]) -> tuple[SiteId, ...]:
    """The sites that answered, given the order before. Who did not answer has no place in it."""
    order = [one for one in before if one in took]
    order += sorted(took.keys() - set(order))
    moved = True
    while moved:
        moved = False
        for index in range(len(order) - 1):
            first, second = order[index : index + 2]
            if took[second] * PART + LEAST < took[first]:
                order[index : index + 2] = second, first
                moved = True
    return tuple(order)


def steady(before: Mapping[SiteId, timedelta], took: Mapping[SiteId, timedelta]) -> dict[SiteId, timedelta]:
    """What was measured, as it was told before where it differs by as little as that."""
    return {site: before[site] if site in before and _alike(before[site], now) else now for site, now in took.items()}


def _alike(one: timedelta, other: timedelta) -> bool:
    return max(one, other) <= min(one, other) * PART + LEAST
