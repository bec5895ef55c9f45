"""Pages: a limit, and a cursor that names the last object of the page before. Cursors are opaque to callers."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Annotated, TypeVar

from fastapi import Query

from kasbah.control.store.interface import Cursor
from kasbah.domain.listed import Listed
from kasbah.errors import Invalid

MOST = 200

Limit = Annotated[int, Query(ge=1, le=MOST, description="How many at most.")]
After = Annotated[str | None, Query(max_length=400, description="`next` of the page before.")]

L = TypeVar("L", bound=Listed)


def read_cursor(text: str | None) -> Cursor | None:
    """The cursor a caller sent back."""
    if text is None:
        return None
    try:
        name, identity = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        f"{name}{identity}".encode()  # halves of surrogate pairs, which JSON can spell and no store can look for
    except (binascii.Error, ValueError, TypeError, RecursionError) as error:
        raise Invalid(
            "this cursor is not one of ours", where="cursor", hint="send `next` of the page before, or none"
        ) from error
    return str(name), str(identity)


def cut(found: Sequence[L], limit: int) -> tuple[Sequence[L], str | None]:
    """The page, of one more than `limit` that were read, and the cursor of the next."""
    if len(found) <= limit:
        return found, None
    last = found[limit - 1]
    text = json.dumps([last.name, last.id], separators=(",", ":"))
    return found[:limit], base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
