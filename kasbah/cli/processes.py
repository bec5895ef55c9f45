"""Facts about processes and ports of this machine, read from /proc. A process is known by its pid and its start time,
because a pid alone may have become somebody else's.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from kasbah import proc

LISTENING = "0A"
"""The state of a listening socket in /proc/net/tcp."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process. `started` is its start time in clock ticks since boot."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process `pid`; None where there is none, or only its remains."""
        found = proc.look(pid)
        return None if found is None or found.ended else cls(pid, found.start_time)

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return Process.of(self.pid) == self

    def end(self, *, grace: float) -> None:
        """Ask it to end, and end it after `grace` seconds. Returns when it is gone."""
        for sign, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
            if not self.alive:
                return
            try:
                os.kill(self.pid, sign)
            except ProcessLookupError:
                return
            self.wait(patience)

    def wait(self, patience: float) -> bool:
        """Wait until it is gone, for `patience` seconds at most; whether it is."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            give_up = time.monotonic() + patience
            while self.alive and time.monotonic() < give_up:
                poll.poll(min(250, max(1, 1_000 * (give_up - time.monotonic()))))
        finally:
            os.close(handle)
        return not self.alive


def listener(port: int) -> tuple[int, str] | None:
    """Who listens on TCP `port`: its pid and command line; None where it cannot be seen."""
    wanted = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not wanted:
        return None
    for handles in Path("/proc").glob("[0-9]*/fd"):
        try:
            if any(os.readlink(one) in wanted for one in os.scandir(handles)):
                return int(handles.parent.name), command_line(int(handles.parent.name))
        except OSError:
            continue
    return None


def command_line(pid: int) -> str:
    """The command line of a process, its words separated by spaces; empty where it cannot be seen."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def mentioning(text: str) -> list[int]:
    """The processes, but this one, whose command line holds `text`."""
    pids = [int(one.name) for one in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if pid != os.getpid() and text in command_line(pid)]


def bind_error(host: str, port: int) -> OSError | None:
    """Why nothing could listen on `host:port` now; None where something could."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        return error
    return None


def free_port(host: str) -> int:
    """A port on `host` that is free now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def last_lines(file: Path, count: int, *, since: int = 0) -> tuple[str, ...]:
    """The last lines of a file, reading from byte `since` and 64 KB at most."""
    try:
        with file.open("rb") as opened:
            size = opened.seek(0, os.SEEK_END)
            opened.seek(max(since, size - 65_536))
            return tuple(opened.read().decode(errors="replace").splitlines()[-count:])
    except OSError:
        return ()


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, rows):
            if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found
