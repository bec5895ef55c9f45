"""Where does a new law go next: to another site, not yet, no further, or back?

One site after the other, each only once the one before has taken it and goes on well. A law that only opens something
turns back when it goes wrong there; one that closes anything halts and stays where it is, strict, until a person
decides: a site that was made strict is never made loose again by a machine.

A site that cannot be reached holds up nobody: it is told last, and takes it when it is back; one that is lost once it
was told is not late, whenever it is back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from kasbah.domain.ids import ServiceId, SiteId

WATCH = timedelta(seconds=10)
"""How long a site is watched with a new law before the next gets it: as long as what is unlawful may take to end."""
PATIENCE = timedelta(minutes=2)
"""How long a site that is connected may take to accept it."""


class Act(StrEnum):
    """What is done next."""

    ARRIVE = "arrive"
    WAIT = "wait"
    DONE = "done"
    HALT = "halt"
    TURN_BACK = "turn back"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteProgress:
    """A site on the way of a new law. `arrived_at` is when it was told (None: not yet); `accepted`: it acts on it.
    `failing` are services that fail there now, `before` those that failed when it was told; `error` is the site's own
    trouble that it did not have then."""

    site: SiteId
    name: str
    connected: bool
    arrived_at: datetime | None = None
    accepted: bool = False
    failing: frozenset[ServiceId] = frozenset()
    before: frozenset[ServiceId] = frozenset()
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LawStep:
    """What is done, and why in words. `sites` are those that are told now."""

    act: Act
    reason: str = ""
    sites: tuple[SiteId, ...] = ()


def next_step(sites: Sequence[SiteProgress], *, loosens: bool, now: datetime) -> LawStep:
    """The next step of a law's way through these sites, in their order."""
    told = [one for one in sites if one.arrived_at is not None]
    wrong = next(filter(None, (_wrong(one, now) for one in told)), "")
    if wrong:
        return LawStep(act=Act.TURN_BACK if loosens else Act.HALT, reason=wrong)
    waits = next((one for one in told if one.connected and not _well(one, now)), None)
    left = [one for one in sites if one.arrived_at is None]
    lost = tuple(one.site for one in told if _lost(one, now))
    if lost and (waits is not None or left):
        return LawStep(act=Act.ARRIVE, sites=lost)
    if waits is not None:
        return LawStep(act=Act.WAIT, reason=f"site {waits.name} has it, and is watched")
    reached = next((one.site for one in left if one.connected), None)
    if reached is not None:
        return LawStep(act=Act.ARRIVE, sites=(reached,))
    if left:
        return LawStep(act=Act.ARRIVE, sites=tuple(one.site for one in left))
    return LawStep(act=Act.DONE)


def _wrong(one: SiteProgress, now: datetime) -> str:
    """What went wrong at a site; empty where nothing did."""
    if one.arrived_at is None or not one.connected:
        return ""
    if one.error:
        return f"site {one.name}: {one.error}"
    worse = len(one.failing - one.before)
    if worse:
        return f"site {one.name}: {worse} service{'' if worse == 1 else 's'} failed there that did not before"
    if not one.accepted and now - one.arrived_at > PATIENCE:
        return f"site {one.name} did not accept it within {int(PATIENCE.total_seconds())} s"
    return ""


def _lost(one: SiteProgress, now: datetime) -> bool:
    """Whether a site was cut off before it took it: it is told again from time to time, so that it has all its patience
    once it is back."""
    told_long_ago = one.arrived_at is not None and now - one.arrived_at > PATIENCE / 2
    return told_long_ago and not one.connected and not one.accepted


def _well(one: SiteProgress, now: datetime) -> bool:
    return one.accepted and one.arrived_at is not None and now - one.arrived_at >= WATCH
