"""A TLS certificate as it was found at a site: what it says of itself, never the key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

UNREAD = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate and the key beside it. `file` names them, without an ending; `digest` is that of both.

    `names` are the hosts it vouches for, wildcards (`*.example.org`) included. `problem`: why it cannot be read or
    used, empty where it can; then nothing else of it is known.
    """

    file: str
    digest: str = ""
    names: tuple[str, ...] = ()
    not_before: datetime = UNREAD
    not_after: datetime = UNREAD
    fits_key: bool = False
    problem: str = ""
