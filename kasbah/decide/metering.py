"""What was used, and how long did the first caller wait? Read from the gateway's log, line by line.

A line that cannot be read counts nothing and is counted as such: a log is never trusted to be whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kasbah.domain.ids import KeyId, RevisionId, ServiceId, WakeId
from kasbah.domain.usage import Usage, UsageKey

UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError, OSError)
"""What a line that is not what the gateway writes can raise while it is read."""
CUT = frozenset({"UC", "UPE", "UR"})
"""Envoy's flags: the replica's side closed the connection, broke off a message, or reset the stream."""
SWITCHED = 101
MOST = 2**53
"""Eight petabytes, or 285,000 years in milliseconds: no request counts more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """What some lines of the gateway's log amount to."""

    usage: dict[UsageKey, Usage]
    unreadable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstByte:
    """When the first byte of an answer came, for a request that waited for `wake`; seconds since the epoch."""

    wake: WakeId
    at: float


def meter(lines: Iterable[bytes]) -> Metered:
    """The usage in some lines of the gateway's log. What reached no service (401, 404) is nobody's usage."""
    usage: dict[UsageKey, Usage] = {}
    unreadable = 0
    for line in lines:
        try:
            found = _read(line)
        except UNREADABLE:
            unreadable += 1
            continue
        if found is not None:
            key, one = found
            usage[key] = usage.get(key, Usage()) + one
    return Metered(usage=usage, unreadable=unreadable)


def _read(line: bytes) -> tuple[UsageKey, Usage] | None:
    fields = json.loads(line)
    service, slash, revision = _text(fields["cluster"]).partition("/")
    status = int(fields["status"] or 0)
    if not slash or status in (401, 403):
        return None
    minute = datetime.fromtimestamp(float(fields["at"]) // 60 * 60, UTC)
    key = UsageKey(
        service=ServiceId(service),
        revision=RevisionId(revision),
        key=KeyId(_text(fields["key"])) if fields["key"] else None,
        minute=minute,
    )
    return key, Usage(
        requests=1,
        failed=int(status >= 500 or _cut(status, _text(fields.get("flags")))),
        bytes_in=_count(fields["bytes_in"]),
        bytes_out=_count(fields["bytes_out"]),
        milliseconds=_count(fields["milliseconds"]),
    )


def _cut(status: int, flags: str) -> bool:
    """Whether an answer began and the replica did not end it. A WebSocket's end looks the same however it came about,
    so that none counts."""
    return status != SWITCHED and not CUT.isdisjoint(flags.split(","))


def _text(value: object) -> str:
    """A field that holds text or nothing."""
    if not isinstance(value, str | None):
        raise TypeError(f"{value!r} is no text")
    return value or ""


def _count(value: Any) -> int:
    """A field that holds a number, never below nothing."""
    count = int(value)
    if not 0 <= count < MOST:
        raise ValueError(f"{count} is no count")
    return count


def first_bytes(lines: Iterable[bytes]) -> tuple[FirstByte, ...]:
    """The first bytes in some lines of the cold listener's log."""
    found = []
    for line in lines:
        try:
            fields = json.loads(line)
            if fields["wake"] and fields["first_byte_milliseconds"] is not None:
                at = float(fields["at"]) + float(fields["first_byte_milliseconds"]) / 1_000
                found.append(FirstByte(wake=WakeId(_text(fields["wake"])), at=at))
        except UNREADABLE:
            continue
    return tuple(found)
