"""Nobody gives more than he has: what he gives lasts no longer, reaches no higher, and may no more."""

from __future__ import annotations

from datetime import datetime, timedelta

from kasbah.control.store.records import TokenRecord
from kasbah.control.usecases.work import Work
from kasbah.domain.access import Principal
from kasbah.domain.label import Level, LevelName
from kasbah.errors import Denied


def expiry(work: Work, giver: TokenRecord, seconds: int | None) -> datetime | None:
    """When what is given expires; where that is not said, it goes with its giver."""
    return giver.expires_at if seconds is None else work.now + timedelta(seconds=seconds)


def ceiling(giver: TokenRecord, asked: LevelName | None) -> Level | None:
    """The ceiling of what is given; where that is not said, it is its giver's."""
    return giver.max_level if asked is None else Level[asked.name]


def refuse_more(work: Work, giver: TokenRecord, given: Principal) -> None:
    """Refuse to give what the giver has not."""
    more = work.access.exceeds(giver.principal, given, work.now)
    if more:
        raise Denied(
            f"the token {giver.name!r} may not give what it has not: {more}",
            hint="leave it out, or have somebody who has it give it",
            code="gives_more",
        )
