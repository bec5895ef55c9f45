"""Usage: what was served, counted from the gateway's own log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kasbah.domain.ids import KeyId, RevisionId, ServiceId, SiteId


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageKey:
    """What usage is counted by: a service's revision, a caller's key (None: a public call), and a minute (UTC)."""

    service: ServiceId
    revision: RevisionId
    key: KeyId | None
    minute: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryKey:
    """What entries are counted by: a service, the site whose gateway its caller reached ("": the one that counts), and
    an hour (UTC)."""

    service: ServiceId
    site: SiteId
    hour: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Counts for one UsageKey. `failed` are answers of 500 and above; bytes are bodies; `milliseconds` the sum of
    the requests' durations."""

    requests: int = 0
    failed: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    milliseconds: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            requests=self.requests + other.requests,
            failed=self.failed + other.failed,
            bytes_in=self.bytes_in + other.bytes_in,
            bytes_out=self.bytes_out + other.bytes_out,
            milliseconds=self.milliseconds + other.milliseconds,
        )
