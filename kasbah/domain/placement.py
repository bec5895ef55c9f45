"""A placement: which sites run a service, with the reason for every site, chosen or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.law import Rule


class Verdict(StrEnum):
    """A site is chosen, possible (lawful and able, but not needed), or refused."""

    CHOSEN = "chosen"
    POSSIBLE = "possible"
    REFUSED = "refused"


class Objective(StrEnum):
    """What lawful sites are ranked by: what an hour costs, what a kWh costs there, what it emits, or how far callers
    are."""

    PRICE = "price"
    ENERGY = "energy"
    CARBON = "carbon"
    LATENCY = "latency"


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What a service asks of its placement, beyond the law. `sites`: how many run it, at operators and in countries as
    different as can be had. `weights` say how much each objective counts; none: whichever is first by name. `only` and
    `avoid` are names of sites, and so are `callers`: where its callers are, whatever was counted."""

    sites: int = 1
    weights: tuple[tuple[Objective, float], ...] = ()
    only: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()
    callers: tuple[str, ...] = ()


ANYWHERE = Constraints()


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteVerdict:
    """What was decided about one site, and why; `hint` says what would change it. `rules` are those of the law that
    refuse it; `unmet` is what it would have to be where no rule allows it. `until`: it is chosen only until another
    site serves. `rank`: its place among those that may and can, from 1."""

    site: SiteId
    verdict: Verdict
    reason: str
    hint: str = ""
    rules: tuple[Rule, ...] = ()
    unmet: tuple[Rule, ...] = ()
    until: bool = False
    rank: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a service runs. `valid_until` is the earliest expiry the decision used."""

    service: ServiceId
    verdicts: tuple[SiteVerdict, ...]
    valid_until: datetime | None = None

    @property
    def moving(self) -> bool:
        """Whether a site still runs it only until another does."""
        return any(one.until for one in self.verdicts)

    @property
    def chosen(self) -> tuple[SiteId, ...]:
        """The sites that run it."""
        chosen = Verdict.CHOSEN
        return tuple([one.site for one in self.verdicts if one.verdict is chosen])

    def told(self, names: Mapping[SiteId, str]) -> str:
        """For each site why, and what would change it."""
        return "; ".join(f"{names.get(one.site, one.site)}: {one.reason} ({one.hint})" for one in self.verdicts)
