"""Who made whose token? Asked where a second person is needed."""

from __future__ import annotations

from kasbah.control.store.records import TokenRecord
from kasbah.control.usecases.work import Work


def makers_of(work: Work) -> dict[str, str | None]:
    """By token, the one that it was made with; None where nobody's is noted."""
    return {one.id: maker_of(one) for one in work.tx.tokens.all()}


def maker_of(token: TokenRecord) -> str | None:
    """The token that this one was made with, as far as the record says."""
    return token.created_by
