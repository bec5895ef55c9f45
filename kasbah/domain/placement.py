"""A placement: which sites run a service, with the reason for every site, chosen or refused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kasbah.domain.ids import ServiceId, SiteId


class Verdict(StrEnum):
    """A site is chosen, possible (lawful and able, but not needed), or refused."""

    CHOSEN = "chosen"
    POSSIBLE = "possible"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteVerdict:
    """What was decided about one site, and why; `hint` says what would change it."""

    site: SiteId
    verdict: Verdict
    reason: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a service runs. `valid_until` is the earliest expiry the decision used."""

    service: ServiceId
    verdicts: tuple[SiteVerdict, ...]
    valid_until: datetime | None = None

    @property
    def chosen(self) -> tuple[SiteId, ...]:
        """The sites that run it."""
        return tuple(one.site for one in self.verdicts if one.verdict is Verdict.CHOSEN)
