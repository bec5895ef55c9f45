"""One replica as the runner holds it: its processes, its pipes and its log."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from kasbah import proc
from kasbah.agent.runner import processes, records
from kasbah.agent.runner.journal import Journal
from kasbah.agent.runner.reactor import Reactor, Timer
from kasbah.agent.runner.records import Record
from kasbah.agent.runner.seats import Seat
from kasbah.agent.runner.spawn import Child
from kasbah.agent.runner.workdir import Workdir

READ_SIZE = 64 * 1024
LAST_READS = 64
"""Reads from a pipe once all writers should be gone: more than a pipe holds, and an end for a writer that is not."""


class Held:
    """A replica. Its record says what it is; here is what cannot be written down."""

    def __init__(self, record: Record, *, workdir: Workdir, log: Journal, reactor: Reactor) -> None:
        self.record = record
        self.workdir = workdir
        self.log = log
        self.cause = ""
        """Why we killed it, where we did."""
        self.deadline: Timer | None = None
        self.pidfd: int | None = None
        """Set where it is not our child: an earlier runner started it."""
        self.ending = False
        """Whether its first process has ended, and what it left is being seen to."""
        self.seat: Seat | None = None
        """What it was given, until its child is told what to be."""
        self.child: Child | None = None
        self.said = bytearray()
        """While it is being started: the child that was told, and what it has said so far."""
        self.started: list[Callable[[object], None]] = []
        """Who waits for its program to have been started."""
        self._reactor = reactor
        self._pipes: dict[int, str] = {}

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.record.state != records.ENDED

    @property
    def runs(self) -> bool:
        """Whether its first process is there to be signalled."""
        return self.alive and not self.ending

    @property
    def groups(self) -> tuple[Path, ...]:
        """Its control groups."""
        return tuple(Path(folder) for folder in self.record.groups)

    def change(self, **changes: object) -> Record:
        """Change the record in memory; the caller saves it."""
        self.record = replace(self.record, **changes)  # type: ignore[arg-type]  # fields by name, checked on call
        return self.record

    def listen(self, pipes: tuple[Path, Path]) -> None:
        """Read its pipes into its log. Opened for writing too: a pipe without writers would be ready for ever."""
        for path, stream in zip(pipes, ("stdout", "stderr"), strict=True):
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            self._pipes[fd] = stream
            self._reactor.watch(fd, partial(self._ready, fd))

    def drain(self) -> None:
        """Read what is left in the pipes, and write the unfinished lines: nothing more will come."""
        for fd in self._pipes:
            for _ in range(LAST_READS):
                if not self._read(fd):
                    break
        self.log.finish()

    def close(self) -> None:
        """Let go of pipes, log and timer."""
        for fd in self._pipes:
            self._reactor.unwatch(fd)
            os.close(fd)
        self._pipes.clear()
        self.log.close()
        if self.deadline:
            self.deadline.cancel()
        if self.pidfd is not None:
            self._reactor.unwatch(self.pidfd)
            os.close(self.pidfd)
            self.pidfd = None

    def members(self) -> list[proc.Process]:
        """Its living processes, the init of its pid namespace included."""
        if self.record.init:
            return processes.inhabitants(self.record.init, self.record.init_start_time)
        return processes.members(self.record.replica, self.record.pid, self.record.start_time, self.groups)

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to its process group, where there still is one."""
        if not self.record.pid:
            return
        try:
            os.killpg(self.record.pid, number)
        except (ProcessLookupError, PermissionError):
            pass

    def kill(self) -> None:
        """Kill its process group, and with its init all of its pid namespace."""
        self.signal_group(signal.SIGKILL)
        init = proc.look(self.record.init) if self.record.init else None
        if init is not None and init.start_time == self.record.init_start_time:
            send(init, signal.SIGKILL)

    def signal_members(self, number: signal.Signals) -> int:
        """Send a signal to each of its processes, wherever they went; how many there were."""
        found = [one for one in self.members() if one.pid != self.record.init]
        for one in found:
            send(one, number)
        return len(found)

    def _ready(self, fd: int, _events: int) -> None:
        self._read(fd)

    def _read(self, fd: int) -> bool:
        try:
            data = os.read(fd, READ_SIZE)
        except BlockingIOError:
            return False
        self.log.take(self._pipes[fd], data)
        return bool(data)


def send(process: proc.Process, number: signal.Signals) -> None:
    """Send a signal to a process, unless its pid is another's by now."""
    try:
        fd = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        found = proc.look(process.pid)
        if found is not None and found.start_time == process.start_time:
            signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)
