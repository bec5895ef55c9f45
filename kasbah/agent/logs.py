"""What replicas wrote: the last lines, and those still to come, of one replica or of a whole service.

Reads the files the runner writes (see `runner/journal.py`); the runner is not asked, so logs can be read while it is
away. Rotation loses nothing as long as a file is not rotated out of existence between two looks.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from heapq import merge
from pathlib import Path

from kasbah.agent.paths import Paths
from kasbah.agent.runner import journal
from kasbah.domain.ids import ReplicaId, ServiceId
from kasbah.drivers.interface import LogLine

LOOK_EVERY = timedelta(milliseconds=200)
MOST_PER_LOOK = 2**20
"""Bytes read from one replica's log in one look: a replica that floods its log does not fill the memory."""

MOST_LOOKS = 32
"""Looks before the first lines are told, for logs that grow faster than they are read."""


def parse_line(replica: ReplicaId, line: str) -> LogLine | None:
    """A line of a replica's log file, or None where it is not one."""
    parts = journal.split(line)
    if parts is None:
        return None
    at, stream, text = parts
    try:
        return LogLine(at=datetime.fromisoformat(at), replica=replica, stream=stream, text=text)
    except ValueError:
        return None


def tail(paths: Paths, service: ServiceId, replica: ReplicaId | None, lines: int) -> tuple[LogLine, ...]:
    """The last lines of a replica, or of all replicas of a service (None), the oldest first."""
    if lines <= 0:
        return ()
    logs = [_parsed(ReplicaId(path.stem), journal.last_lines(path, lines)) for path in _files(paths, service, replica)]
    return tuple(merge(*logs, key=_when))[-lines:]


async def follow(paths: Paths, service: ServiceId, replica: ReplicaId | None, tail: int) -> AsyncIterator[LogLine]:
    """The last `tail` lines, then each new one, until cancelled. Replicas that start meanwhile are followed too."""
    followed = Followed(paths, service, replica)
    for line in await asyncio.to_thread(followed.begin, tail):
        yield line
    while True:
        for line in await asyncio.to_thread(followed.look):
            yield line
        await asyncio.sleep(LOOK_EVERY.total_seconds())


class Followed:
    """The logs of one replica or of a service, and how far each was read."""

    def __init__(self, paths: Paths, service: ServiceId, replica: ReplicaId | None) -> None:
        self._paths = paths
        self._service = service
        self._replica = replica
        self._places: dict[Path, Place] = {}

    def begin(self, lines: int) -> list[LogLine]:
        """The last lines; what is written from now on comes with `look`."""
        for path in _files(self._paths, self._service, self._replica):
            place = self._places[path] = Place(path)
            place.skip_to_last(lines)
        found: list[LogLine] = []
        for _ in range(MOST_LOOKS if lines else 0):
            more = self.look()
            found += more
            if not more:
                break
        return sorted(found, key=_when)[-lines:]

    def look(self) -> list[LogLine]:
        """What was written since, of all replicas, in the order of time."""
        for path in _files(self._paths, self._service, self._replica):
            self._places.setdefault(path, Place(path))
        logs = [_parsed(ReplicaId(path.stem), place.read()) for path, place in self._places.items()]
        self._places = {path: place for path, place in self._places.items() if not place.gone}
        return list(merge(*logs, key=_when))


class Place:
    """How far one log was read, over its rotated files: a file is known by its inode, whatever its name is now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode: int | None = None
        self._offset = 0
        self.gone = False

    def skip_to_last(self, lines: int) -> None:
        """Begin so near the end that the last `lines` lines are still to be read."""
        left = lines
        for file in reversed(journal.chain(self._path)):
            with file.open("rb") as handle:
                self._inode = os.fstat(handle.fileno()).st_ino
                self._offset, counted = journal.start_of_last(handle, left)
            left -= counted
            if left <= 0:
                return

    def read(self) -> list[str]:
        """The whole lines written since the last read, MOST_PER_LOOK bytes at most."""
        lines: list[str] = []
        room = MOST_PER_LOOK
        for file in self._unread():
            data = self._read(file, room)
            room -= len(data)
            lines += [line.decode("utf-8", "replace") for line in data.split(b"\n")[:-1]]
            if room <= 0:
                break
        return lines

    def _unread(self) -> list[Path]:
        """The files from the one read last on, the oldest first."""
        files = journal.chain(self._path)
        self.gone = not files
        inodes = [_inode(file) for file in files]
        return files[inodes.index(self._inode) :] if self._inode in inodes else files

    def _read(self, file: Path, room: int) -> bytes:
        """The next whole lines of one file, moving the place behind them."""
        try:
            with file.open("rb") as handle:
                inode = os.fstat(handle.fileno()).st_ino
                if inode != self._inode:
                    self._inode, self._offset = inode, 0
                handle.seek(self._offset)
                data = handle.read(room)
        except FileNotFoundError:
            return b""
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole


def _files(paths: Paths, service: ServiceId, replica: ReplicaId | None) -> list[Path]:
    folder = paths.logs / service
    if replica is not None:
        return [folder / f"{replica}.log"]
    return sorted(path for path in folder.glob("*.log") if not path.name.startswith("build-"))


def _parsed(replica: ReplicaId, lines: list[str]) -> list[LogLine]:
    return [parsed for line in lines if (parsed := parse_line(replica, line)) is not None]


def _inode(file: Path) -> int | None:
    try:
        return file.stat().st_ino
    except FileNotFoundError:
        return None


def _when(line: LogLine) -> datetime:
    return line.at
