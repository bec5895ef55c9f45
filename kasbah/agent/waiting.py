"""The callers who wait for one revision, in order, and the waking they wait for. No decision is made here."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime

from kasbah.decide.activation import Forward, Refuse
from kasbah.decide.scaling import Rung
from kasbah.domain.ids import ReplicaId, WakeId
from kasbah.domain.observed import Wake
from kasbah.domain.revision import Protocol

KEPT_WAKES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A caller let through to a replica; `wake` where it waited for one."""

    forward: Forward
    protocol: Protocol
    wake: WakeId | None = None


Answer = Released | Refuse


@dataclass(slots=True, eq=False)
class Held:
    """One caller who waits."""

    answer: asyncio.Future[Answer]
    timer: asyncio.TimerHandle | None = None

    def settle(self, answer: Answer) -> None:
        """Answer, unless the caller has left or was answered."""
        if self.timer is not None:
            self.timer.cancel()
        if not self.answer.done():
            self.answer.set_result(answer)


class Queue:
    """Callers in the order they came."""

    def __init__(self) -> None:
        self._held: OrderedDict[Held, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def add(self, held: Held) -> None:
        """One more, at the end; it leaves by itself when answered or when its caller goes."""
        self._held[held] = None
        held.answer.add_done_callback(lambda _: self._held.pop(held, None))

    def first(self) -> Held | None:
        """Who waits longest."""
        return next(iter(self._held), None)

    def take(self, held: Held, answer: Answer) -> None:
        """Answer one and drop it."""
        self._held.pop(held, None)
        held.settle(answer)

    def take_all(self, answer: Answer) -> None:
        """Answer all the same."""
        for held in list(self._held):
            self.take(held, answer)


@dataclass(slots=True, kw_only=True)
class OpenWake:
    """A waking under way; times are the event loop's, in seconds."""

    id: WakeId
    at: datetime
    rung: Rung
    arrived: float
    ordered: float | None = None
    existing: float | None = None
    ready: float | None = None
    replica: ReplicaId | None = None
    held: int = 0

    def closed(self, *, error: str = "") -> Wake:
        """The record of this waking, now that it has ended."""
        ordered = self.ordered if self.ordered is not None else self.arrived
        existing = self.existing if self.existing is not None else ordered
        ready = self.ready if self.ready is not None else existing
        return Wake(
            id=self.id,
            replica=self.replica,
            at=self.at,
            rung=self.rung,
            queue_ms=_milliseconds(ordered - self.arrived),
            start_ms=_milliseconds(existing - ordered),
            ready_ms=_milliseconds(ready - existing),
            held=self.held,
            error=error,
        )


@dataclass(slots=True)
class Wakes:
    """The last wakings, and when each let its first caller through (seconds since the epoch), so that the first byte,
    which only the gateway's log knows, finds its waking."""

    closed: list[Wake] = field(default_factory=list)
    released_at: dict[WakeId, float] = field(default_factory=dict)

    def add(self, wake: Wake, released_at: float) -> None:
        """One more; the oldest are dropped."""
        self.closed = [*self.closed, wake][-KEPT_WAKES:]
        self.released_at = {one.id: self.released_at.get(one.id, released_at) for one in self.closed}


def _milliseconds(seconds: float) -> float:
    return round(max(seconds, 0.0) * 1_000, 3)
