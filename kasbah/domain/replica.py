"""A replica: one running copy of a revision, as the agent knows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kasbah.domain.ids import ReplicaId, RevisionId, ServiceId


class ReplicaState(StrEnum):
    """`starting` until its startup probe succeeds; `ready` takes traffic; `unready` fails its readiness probe;
    `draining` finishes what is in flight, and may still be called back; `frozen` keeps its memory and gets no CPU;
    `stopping` has been told to end; `ended` is gone, and says how."""

    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"
    DRAINING = "draining"
    FROZEN = "frozen"
    STOPPING = "stopping"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a replica ended: an exit code or the name of a signal, why as far as we know, and its last log lines."""

    code: int | None = None
    signal: str | None = None
    reason: str = ""
    tail: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.reason:
            return self.reason
        if self.signal:
            return f"killed by {self.signal}"
        return f"exited with code {self.code}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One replica, observed. `address` is `host:port`, the place only the gateway is meant to reach."""

    id: ReplicaId
    service: ServiceId
    revision: RevisionId
    state: ReplicaState
    address: str
    since: datetime
    in_flight: int = 0
    pid: int | None = None
    exit: Exit | None = None
