"""Where do services run that are placed at the same moment, and take room from each other?

Each is placed as it would be alone, but room that one was given is not given to the next. Who stays where it is takes
nothing. Of those that need room somewhere else, first who has the fewest sites to choose from, then who needs least:
who fits in few places finds room before who fits anywhere, and many before few. Where that leaves some with nothing,
they come first in the next try, and in the last one nobody is given a second site before all have one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from kasbah.decide.needs import NOWHERE, Current, Needs, SiteFacts
from kasbah.decide.placer import Lawful, Placer
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.placement import Placement

TRIES = 3
"""How often all is begun anew for who was left with nothing. More was measured to help little (bench/optimum.py)."""

Placements = dict[ServiceId, Placement]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A service that is to be placed, as `Placer.place` is asked about it."""

    service: ServiceId
    needs: Needs
    lawful: Lawful
    now: Current = NOWHERE
    alone: bool = False
    turned_away: Mapping[SiteId, str] = field(default_factory=dict)


def place_together(asked: Sequence[Asked], placer: Placer) -> Placements:
    """Where each runs. The placer's sites have less room afterwards."""
    found = {one.service: place_alone(one, placer) for one in asked}
    coming = [one for one in asked if one.needs.takes_room and _comes(one, found[one.service])]
    if not coming:
        return found
    coming.sort(key=lambda one: (_choices(found[one.service]), *one.needs.room, one.service))
    most, before = max(one.needs.constraints.sites for one in coming), placer.sites
    best: tuple[tuple[int, int], Placements, tuple[SiteFacts, ...]] | None = None
    for rounds in (*[(most,)] * TRIES, range(1, most + 1)):
        placer.reset(before)
        settled, given = _settle(coming, placer, rounds)
        served = sum(bool(sites) for sites in given.values())
        worth = (served, sum(len(sites) for sites in given.values()))
        if best is None or worth > best[0]:
            best = (worth, settled, placer.sites)
        if served == len(coming):
            break
        coming.sort(key=lambda one: bool(given[one.service]))
    assert best is not None, "there is a first try"
    placer.reset(best[2])
    return found | best[1]


def _settle(
    coming: Sequence[Asked], placer: Placer, rounds: Sequence[int]
) -> tuple[Placements, dict[ServiceId, frozenset[SiteId]]]:
    """Have each placed in its turn, at so many sites at the most in each round; and the sites that each comes to."""
    found: Placements = {}
    given: dict[ServiceId, frozenset[SiteId]] = {}
    for most in rounds:
        for one in coming:
            if one.service in found:
                if one.needs.constraints.sites < most:
                    continue
                placer.give_back(one.needs, given[one.service])
            placement = found[one.service] = place_alone(_at_most(one, most), placer)
            given[one.service] = _comes(one, placement)
            placer.take(one.needs, given[one.service])
    return found, given


def _at_most(one: Asked, sites: int) -> Asked:
    if one.needs.constraints.sites <= sites:
        return one
    return replace(one, needs=replace(one.needs, constraints=replace(one.needs.constraints, sites=sites)))


def place_alone(one: Asked, placer: Placer) -> Placement:
    """Where one runs, whatever the others do."""
    return placer.place(one.service, one.needs, one.lawful, one.now, alone=one.alone, turned_away=one.turned_away)


def _comes(one: Asked, placement: Placement) -> frozenset[SiteId]:
    """The sites that it is not at yet."""
    return frozenset(placement.chosen).difference(one.now.at)


def _choices(placement: Placement) -> int:
    """How many sites may and can run it."""
    return sum(one.rank is not None for one in placement.verdicts)
