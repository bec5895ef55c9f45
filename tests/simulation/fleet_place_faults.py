"""Faults in what sites' own owners pin, and in room that is given (see `fleet_faults.py`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fleet_draw import Theme
from fleet_faults import ALLOWED, Faults, Patch, allow_everywhere, marks

from kasbah.agent import last_word as site_word
from kasbah.control.loops import rollout
from kasbah.control.loops.rollout import Rollouts
from kasbah.decide import last_word, placement, placer, refusals
from kasbah.domain.label import Level

# --- packs that a site's own owner pins -------------------------------------------------------------------------------


def own_packs_are_not_asked(patch: Patch) -> None:
    patch.setattr(site_word, "_stricter", lambda law, pinned: None)


def own_packs_are_not_asked_about_public_data(patch: Patch) -> None:
    asked = last_word.Judge._pins
    patch.setattr(
        last_word.Judge,
        "_pins",
        lambda self, service, label, *more: (
            ALLOWED if label.level is Level.PUBLIC else asked(self, service, label, *more)
        ),
    )


def own_packs_are_asked_about_what_runs_alone(patch: Patch) -> None:
    """What passes is asked about by the law alone."""
    asked = last_word.Judge._pins

    def at_home(self: Any, service: Any, label: Any, site: Any, place: Any, purpose: Any) -> Any:
        return asked(self, service, label, site, place, purpose) if purpose == "place" else ALLOWED

    patch.setattr(last_word.Judge, "_pins", at_home)


# --- room -------------------------------------------------------------------------------------------------------------


def what_always_runs_has_room_nowhere(patch: Patch) -> None:
    patch.setattr(
        refusals, "_full", lambda needs, site: (needs.takes_room and refusals._refused(site, "full", "")) or None
    )


def where_all_is_full_the_law_gives_way(patch: Patch) -> None:
    """And nobody asks when that is published."""
    made = placement.place_among

    def anywhere(service: Any, needs: Any, sites: Any, unlawful: Any, now: Any) -> Any:
        found = made(service, needs, sites, unlawful, now)
        return found if found.chosen else made(service, needs, sites, {}, now)

    for module in (placement, placer):
        patch.setattr(module, "place_among", anywhere)
    allow_everywhere(patch, "place")


def room_that_was_seen_is_there(patch: Patch) -> None:
    """Rollouts that begin at the same moment are each given the room that there was before."""

    def commit_as_seen(self: Rollouts, seen: Any, move: Any) -> None:
        with self._office.write() as work:
            rollout.commit(work, seen, move)

    patch.setattr(Rollouts, "_commit", commit_as_seen)


RESTRICTED = (marks(1, "financial"), marks(2), marks(2, "personal", "gdpr"))
PINNED = Theme(
    marks=(marks(0), *RESTRICTED, marks(3)), often={"pin": 16, "deploy": 8}, most_sites=4, beside=frozenset({"pins"})
)
FULL = Theme(marks=RESTRICTED, often={"burst": 20, "deploy": 12, "drain": 6}, most_sites=4, beside=frozenset({"room"}))
HONEST_PLACES: Faults = {
    own_packs_are_not_asked: PINNED,
    own_packs_are_not_asked_about_public_data: replace(PINNED, pins=("nothing-public",), marks=(marks(0), marks(1))),
    own_packs_are_asked_about_what_runs_alone: replace(
        PINNED, pins=("no-money-here", "money-passes-at-home"), marks=(marks(1, "financial"), marks(1)), most_sites=5
    ),
    what_always_runs_has_room_nowhere: FULL,
    where_all_is_full_the_law_gives_way: FULL,
    room_that_was_seen_is_there: replace(FULL, first=1, often={**FULL.often, "lose": 30, "power": 8}, most_sites=3),
}
