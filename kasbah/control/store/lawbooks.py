"""What the store keeps of the law: every lawbook that was signed, how far it has come, and what the owner granted.

What they say is in the signed documents alone; whoever reads one checks its signature first. The columns beside them
say what became of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kasbah.domain.charter import Signed
from kasbah.domain.grant import GrantKind
from kasbah.domain.ids import GrantId, ServiceId, SiteId, TokenId


class LawbookState(StrEnum):
    """What became of a lawbook. `proposed`: it waits for a second person. `rolling`: it goes from site to site.
    `halted`: it went wrong, and stays at the sites that have it. `in-force`: it holds everywhere."""

    PROPOSED = "proposed"
    ROLLING = "rolling"
    HALTED = "halted"
    IN_FORCE = "in-force"
    REPLACED = "replaced"
    TURNED_BACK = "turned-back"
    WITHDRAWN = "withdrawn"


LIVE = (LawbookState.IN_FORCE, LawbookState.ROLLING, LawbookState.HALTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """When a site was told a lawbook, in which desired state, and which services failed there then, and with what
    trouble of its own."""

    site: SiteId
    at: datetime
    epoch: int
    generation: int
    failing: tuple[ServiceId, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LawbookRecord:
    """A lawbook, who signed it in, and what became of it. `based_on` is the version that it was planned against;
    `even_so`: its author said that it may go beyond the limit; `note` says why it stands where it does."""

    version: int
    document: str
    signature: str
    state: LawbookState
    based_on: int | None
    author: str
    author_id: TokenId | None
    at: datetime
    reason: str = ""
    even_so: bool = False
    loosens: bool = False
    arrivals: tuple[Arrival, ...] = ()
    changed_at: datetime
    note: str = ""
    approved_by: str = ""

    @property
    def signed(self) -> Signed:
        """The document, as it was signed."""
        return Signed(document=self.document, signature=self.signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantRecord:
    """What the owner granted, and who brought it here."""

    id: GrantId
    kind: GrantKind
    document: str
    signature: str
    expires_at: datetime
    author: str
    at: datetime
    revoked_at: datetime | None = None

    @property
    def signed(self) -> Signed:
        """The document, as it was signed."""
        return Signed(document=self.document, signature=self.signature)
