"""One replica as the agent follows it: its state, what it carries, and the tasks that look after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kasbah.agent.gateway.clusters import HOST_KEPT
from kasbah.domain.ids import ReplicaId, RevisionId, ServiceId
from kasbah.domain.replica import Exit, Replica, ReplicaState
from kasbah.drivers.interface import Running

STEADY_SECONDS = 30.0
"""A replica that was ready for so long has not failed to start, whatever ends it later."""
IN_LINE = 64
"""Under a hard limit, so many more are let through to each replica than may run on it: they stand in line in the
gateway, which starts the next the moment one ends. It must last from one load report to the next."""
FORGOTTEN_SECONDS = HOST_KEPT.total_seconds() / 2
"""After so long unused, the gateway may have forgotten a replica."""


@dataclass(slots=True, kw_only=True, eq=False)
class LiveReplica:
    """One replica. Times ending in `_at` are the clock's steady seconds; `leases` are commands run in it, `egress` is
    what it may call, and `why_gone` why it was told to end, where it was."""

    id: ReplicaId
    service: ServiceId
    revision: RevisionId
    state: ReplicaState
    address: str
    since: datetime
    pid: int | None = None
    exit: Exit | None = None
    egress: tuple[str, ...] | None = None
    in_flight: int = 0
    leases: int = 0
    assigned: int = 0
    assigned_before: int = 0
    assigned_at: float = float("-inf")
    known: bool = False
    ordered_at: float | None = None
    existing_at: float | None = None
    ready_at: float | None = None
    wanted_gone: bool = False
    why_gone: str = ""
    ending: bool = False
    then_stop: bool = False
    life: asyncio.Task[None] | None = None
    closing: asyncio.Task[None] | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def burden(self) -> int:
        """Requests on it, at the most: those reported, and those given to it that the last report may have missed."""
        return self.in_flight + self.assigned + self.assigned_before

    def room(self, hard: int, now: float) -> int:
        """How many it may be given under a hard limit, those that stand in line in the gateway included. The first
        goes alone: only when the gateway knows the replica does it count what runs there."""
        if now - self.assigned_at > FORGOTTEN_SECONDS:
            self.known = False
        return hard + IN_LINE if self.known else 1

    def report_passed(self) -> None:
        """A load report has come: what was given before the one before it is in it."""
        self.known = self.known or self.assigned_before > 0
        self.assigned, self.assigned_before = 0, self.assigned

    def was_ready_for(self, now: float) -> bool:
        """Whether it had been ready for long."""
        return self.ready_at is not None and now - self.ready_at >= STEADY_SECONDS

    def seen(self) -> Replica:
        """It, as others may see it."""
        return Replica(
            id=self.id,
            service=self.service,
            revision=self.revision,
            state=self.state,
            address=self.address,
            since=self.since,
            in_flight=self.in_flight + self.leases,
            pid=self.pid,
            exit=self.exit,
        )


async def state_of(running: Running, answers: Callable[[str], Coroutine[Any, Any, bool]]) -> ReplicaState:
    """How a replica is that an earlier agent started. `answers` tells whether it accepts connections."""
    if running.exit is not None:
        return ReplicaState.ENDED
    if running.frozen:
        return ReplicaState.FROZEN
    return ReplicaState.READY if await answers(running.address) else ReplicaState.STARTING
