"""What was used, and how long did the first caller wait? Read from the gateway's log, line by line.

A line that cannot be read counts nothing and is counted as such: a log is never trusted to be whole.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from kasbah.domain.ids import KeyId, RevisionId, ServiceId, SiteId, WakeId
from kasbah.domain.usage import EntryKey, Usage, UsageKey

UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError, OSError)
"""What a line that is not what the gateway writes can raise while it is read."""
CUT = frozenset({"UC", "UPE", "UR"})
"""Envoy's flags: the replica's side closed the connection, broke off a message, or reset the stream."""
SWITCHED = 101
FIELDS = ("at", "cluster", "key", "status", "flags", "milliseconds", "bytes_in", "bytes_out")
MOST = 2**53
"""Eight petabytes, or 285,000 years in milliseconds: no request counts more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """What some lines of the gateway's log amount to."""

    usage: dict[UsageKey, Usage]
    entries: dict[EntryKey, int]
    unreadable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstByte:
    """When the first byte of an answer came, for a request that waited for `wake`; seconds since the epoch."""

    wake: WakeId
    at: float


def meter(lines: Iterable[bytes], behind: timedelta = timedelta()) -> Metered:
    """The usage in some lines of the gateway's log, whose fields a tab parts:

        SECOND  CLUSTER  KEY  STATUS  FLAGS  [ENTRY]  MILLISECONDS  BYTES_IN  BYTES_OUT

    ENTRY is there where another site sent the request: the name in that one's certificate.
    What reached no service (401, 404) is nobody's usage. Under load this is most of what the agent does: lines that
    are the same are read once, and so is what lines that differ only in their counts begin with. SECOND is by the clock
    of the gateway's machine, which is so far `behind` the control plane's: books are kept by that.
    """
    sums: dict[bytes, _Sums] = {}
    unreadable = 0
    for line, times in Counter(lines).items():
        try:
            head, counts = _parse(line)
        except UNREADABLE:
            unreadable += times
            continue
        found = sums.get(head)
        if found is None:
            found = sums[head] = _Sums()
        found.add(times, counts)
    usage: dict[UsageKey, Usage] = {}
    entries: dict[EntryKey, int] = {}
    for head, found in sums.items():
        try:
            whose = _whose(head, behind)
        except UNREADABLE:
            unreadable += found.requests
            continue
        if whose is not None:
            key, failed, site = whose
            usage[key] = usage.get(key, Usage()) + found.usage(failed=failed)
            entry = EntryKey(service=key.service, site=site, hour=key.minute.replace(minute=0))
            entries[entry] = entries.get(entry, 0) + found.requests
    return Metered(usage=usage, entries=entries, unreadable=unreadable)


@dataclass(slots=True)
class _Sums:
    """What lines with one beginning amount to."""

    requests: int = 0
    milliseconds: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def add(self, times: int, counts: tuple[int, int, int]) -> None:
        milliseconds, bytes_in, bytes_out = counts
        self.requests += times
        self.milliseconds += times * milliseconds
        self.bytes_in += times * bytes_in
        self.bytes_out += times * bytes_out

    def usage(self, *, failed: bool) -> Usage:
        return Usage(
            requests=self.requests,
            failed=self.requests if failed else 0,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            milliseconds=self.milliseconds,
        )


def _parse(line: bytes) -> tuple[bytes, tuple[int, int, int]]:
    """A line's beginning and its counts: milliseconds, bytes in, bytes out."""
    head, milliseconds, bytes_in, bytes_out = (_as_text(line) if line.startswith(b"{") else line).rsplit(b"\t", 3)
    return head, (_count(milliseconds), _count(bytes_in), _count(bytes_out))


def _whose(head: bytes, behind: timedelta) -> tuple[UsageKey, bool, SiteId] | None:
    """Whose requests a line tells of, whether they failed, and the site that sent them ("": callers did). None:
    nobody's."""
    second, cluster, key, status, flags, *sent = head.decode().split("\t")
    (entry,) = sent or ("",)
    service, slash, revision = cluster.partition("/")
    minute = datetime.fromtimestamp(max(0, _count(second) + round(behind.total_seconds())) // 60 * 60, UTC)
    code = _count(status)
    if not slash or code in (401, 403):
        return None
    found = UsageKey(
        service=ServiceId(service), revision=RevisionId(revision), key=None if key == "-" else KeyId(key), minute=minute
    )
    return found, code >= 500 or _cut(code, flags), SiteId(entry.rpartition("/")[2])


def _as_text(line: bytes) -> bytes:
    """A line as gateways wrote it before their logs were text, of which an upgraded site may have some unread."""
    fields = {"flags": None, **json.loads(line)}
    fields["at"] = int(float(fields["at"]))
    texts = ["-" if fields[name] is None else str(fields[name]) for name in FIELDS]
    return "\t".join(texts).encode()


def _cut(status: int, flags: str) -> bool:
    """Whether an answer began and the replica did not end it. A WebSocket's end looks the same however it came about,
    so that none counts."""
    return status != SWITCHED and not CUT.isdisjoint(flags.split(","))


def _text(value: object) -> str:
    """A field that holds text or nothing."""
    if not isinstance(value, str | None):
        raise TypeError(f"{value!r} is no text")
    return value or ""


def _count(digits: bytes | str) -> int:
    """A field that holds a number, never below nothing."""
    if not digits.isdigit() or (count := int(digits)) >= MOST:
        raise ValueError(f"{digits!r} is no count")
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
