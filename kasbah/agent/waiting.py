"""The callers who wait for one revision, in order, and the waking they wait for. No decision is made here."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from dataclasses import dataclass, field, replace
from datetime import datetime

from kasbah.decide.activation import Forward, Refuse
from kasbah.decide.scaling import Rung
from kasbah.domain.ids import ReplicaId, WakeId
from kasbah.domain.observed import Wake

KEPT_WAKES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A caller let through to a replica, by way of the cluster `upstream`; `wake` where it waited for one."""

    forward: Forward
    upstream: str
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

    def leave(self) -> list[Held]:
        """All of them, who wait elsewhere from now on."""
        held = list(self._held)
        self._held.clear()
        return held

    def take_all(self, answer: Answer) -> None:
        """Answer all the same."""
        for held in list(self._held):
            self.take(held, answer)


@dataclass(slots=True, kw_only=True)
class OpenWake:
    """A waking under way; times are the clock's steady seconds."""

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
    """The last wakings, what all of them took, and when each let its first caller through (seconds since the epoch):
    the first byte, which only the gateway's log knows, finds its waking by it."""

    closed: list[Wake] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    seconds: dict[tuple[str, str], float] = field(default_factory=dict)
    _released_at: dict[WakeId, float] = field(default_factory=dict)

    def add(self, wake: Wake, released_at: float) -> None:
        """One more; the oldest are dropped."""
        self.closed = [*self.closed, wake][-KEPT_WAKES:]
        self._released_at = {one.id: self._released_at.get(one.id, released_at) for one in self.closed}
        self.counts[wake.rung] += 1
        for phase, spent in (("queue", wake.queue_ms), ("start", wake.start_ms), ("ready", wake.ready_ms)):
            self._spend(wake.rung, phase, spent)

    def first_byte(self, wake: WakeId, at: float) -> bool:
        """The first byte of an answer to somebody who waited for `wake`; the earliest counts. Whether it was news."""
        for index, one in enumerate(self.closed):
            if one.id == wake:
                spent = _milliseconds(at - self._released_at[wake])
                if one.first_byte_ms is not None and one.first_byte_ms <= spent:
                    return False
                self._spend(one.rung, "first_byte", spent - (one.first_byte_ms or 0.0))
                self.closed[index] = replace(one, first_byte_ms=spent)
                return True
        return False

    def _spend(self, rung: str, phase: str, milliseconds: float) -> None:
        self.seconds[rung, phase] = self.seconds.get((rung, phase), 0.0) + milliseconds / 1_000


def _milliseconds(seconds: float) -> float:
    return round(max(seconds, 0.0) * 1_000, 3)
