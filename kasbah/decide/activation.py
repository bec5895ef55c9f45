"""May this request, which found no replica, go on: forward it, hold it, or refuse it? Asked by the gate, once each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from kasbah.domain.ids import ReplicaId


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A replica that could serve now; `assigned` counts the held requests it was given since it woke."""

    replica: ReplicaId
    address: str
    assigned: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The gate at this moment: what waits and what may."""

    for_service: int
    at_site: int
    per_service: int
    per_site: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """It may go, to this replica."""

    replica: ReplicaId
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """It waits until `deadline` at the latest."""

    deadline: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """It is answered with this, in the OpenAI error shape."""

    status: int
    code: str
    message: str
    retry_after: timedelta | None = None


Decision = Forward | Hold | Refuse

UNKNOWN = Refuse(status=404, code="service_not_found", message="No service answers here: it was deleted or never was.")

AT_LIMIT = Refuse(
    status=429,
    code="too_many_requests",
    message="This service is at its limit of requests.",
    retry_after=timedelta(seconds=1),
)


def activate(
    candidates: tuple[Candidate, ...],
    waiting: Waiting,
    *,
    startup: timedelta,
    broken: str,
    broken_until: datetime | None,
    now: datetime,
    most_in_line: int | None = None,
) -> Decision:
    """Forward to the least burdened replica; else hold, unless the queue is full or the last start failed.

    `broken` says why the last start failed; until `broken_until` nobody is held for a start that is not tried.
    `most_in_line` bounds the queue of a service that is awake, at its hard limit and as large as it may be.
    """
    if candidates:
        best = min(candidates, key=lambda one: (one.assigned, one.replica))
        return Forward(replica=best.replica, address=best.address)
    if broken_until is not None and now < broken_until:
        return start_failed(broken, broken_until - now)
    if most_in_line is not None and waiting.for_service >= most_in_line:
        return AT_LIMIT
    if waiting.for_service >= waiting.per_service or waiting.at_site >= waiting.per_site:
        return Refuse(
            status=429,
            code="waking",
            message="This service is waking and its queue is full.",
            retry_after=timedelta(seconds=1),
        )
    return Hold(deadline=now + startup)


def start_failed(why: str, retry_after: timedelta) -> Refuse:
    """What those who waited for a start that failed are told."""
    message = f"This service could not be started: {why}" if why else "This service could not be started."
    return Refuse(status=503, code="start_failed", message=message, retry_after=max(retry_after, timedelta(seconds=1)))


def too_late(startup: timedelta) -> Refuse:
    """What a request is told whose hold reached its deadline."""
    return Refuse(
        status=503,
        code="waking",
        message=f"This service did not wake within {startup.total_seconds():.0f} s.",
        retry_after=timedelta(seconds=5),
    )
