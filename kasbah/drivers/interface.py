"""What a driver does: start, freeze, thaw and end replicas, and tell what became of them.

A driver decides nothing. Every call is idempotent: starting a replica that runs, freezing a frozen one or ending one
that is gone succeeds. Replicas outlive the agent: a new agent's driver lists what the old one started.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from kasbah.domain.ids import ReplicaId, RevisionId, ServiceId
from kasbah.domain.replica import Exit
from kasbah.domain.revision import Resources, Volume
from kasbah.domain.site import Isolation


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOrder:
    """Everything needed to start a replica, with nothing left to choose.

    `argv` is an argument vector, its first element an absolute path or a name to be found on `env["PATH"]`.
    `readable` are folders it may read and execute from beyond the system's own; its private working folder is made by
    the driver, and it may write nowhere else. `egress` is what it may call, as its file has it (`domain/egress.py`);
    where that cannot be kept, the order is refused.
    """

    replica: ReplicaId
    service: ServiceId
    revision: RevisionId
    argv: tuple[str, ...]
    env: Mapping[str, str]
    app: Path
    port: int
    readable: tuple[Path, ...] = ()
    resources: Resources = Resources()
    egress: tuple[str, ...] | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Files it gets in its private folder, by the variable that holds the path of each."""
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Names that it finds at these addresses, whatever the machine's resolver knows; where its mounts are its own."""
    volumes: tuple[Volume, ...] = ()
    """Its service's volumes. KASBAH_VOLUME_<NAME> holds the path of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A replica the driver holds. `exit` is set once it has ended, and kept until it is forgotten. `egress` is what it
    may call, as its order had it."""

    replica: ReplicaId
    service: ServiceId
    revision: RevisionId
    address: str
    started_at: datetime
    pid: int | None = None
    frozen: bool = False
    exit: Exit | None = None
    egress: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A line a replica wrote. `stream` is `stdout` or `stderr`; `text` has no line end."""

    at: datetime
    replica: ReplicaId
    stream: str
    text: str


class Driver(Protocol):
    """One way of running replicas."""

    name: str

    async def isolation(self) -> Isolation:
        """What keeps replicas apart here, measured on this machine."""
        ...

    async def list(self) -> tuple[Running, ...]:
        """Every replica not yet forgotten, those of an earlier agent included."""
        ...

    async def start(self, order: StartOrder) -> Running:
        """Start a replica; answers once the process exists. Raises KasbahError where it cannot be started."""
        ...

    async def freeze(self, replica: ReplicaId) -> None:
        """Take the CPU from it; memory stays."""
        ...

    async def thaw(self, replica: ReplicaId) -> None:
        """Give the CPU back."""
        ...

    async def stop(self, replica: ReplicaId, *, drain: timedelta) -> None:
        """Ask it to end (SIGTERM), thawing it first, and end it (SIGKILL) after `drain`. Does not wait."""
        ...

    async def forget(self, replica: ReplicaId) -> None:
        """Drop the record of a replica that has ended, and its working folder. Logs stay until they are pruned."""
        ...

    async def events(self) -> AsyncIterator[ReplicaId]:
        """The ids of replicas that have ended, as they end. One consumer."""
        ...

    async def tail(self, replica: ReplicaId, lines: int) -> tuple[LogLine, ...]:
        """The last lines it wrote, oldest first; empty where nothing is known of it."""
        ...
