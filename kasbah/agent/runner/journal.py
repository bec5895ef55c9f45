"""A replica's log: lines in the CRI format, in a file that is rotated by size.

    2026-11-20T23:00:00.123456Z stdout F text

`F` ends a line, `P` is a part of one longer than 16 KiB. What is not UTF-8 is replaced. `SERVICE/REPLICA.log` is the
newest file, `.log.1` the one before. A full disk loses lines and says how many; it never stops a replica.
"""

from __future__ import annotations

import os
import time
from collections import deque
from pathlib import Path
from typing import BinaryIO

LONGEST_LINE = 16 * 1024
REMEMBERED_LINES = 20
REMEMBERED_WIDTH = 2_000
BLOCK = 64 * 1024


class Journal:
    """Writes one replica's log."""

    def __init__(self, path: Path, *, file_bytes: int, files: int) -> None:
        self.path = path
        self.recent: deque[str] = deque(maxlen=REMEMBERED_LINES)
        self._file_bytes = file_bytes
        self._files = files
        self._unfinished = {"stdout": bytearray(), "stderr": bytearray()}
        self._lost = 0
        self._fd: int | None = None
        self._size = 0

    def take(self, stream: str, data: bytes) -> None:
        """Write what a stream has said; the end of an unfinished line waits for more."""
        waiting = self._unfinished[stream]
        waiting += data
        *lines, rest = waiting.split(b"\n")
        pieces = [piece for line in lines for piece in _pieces(bytes(line))]
        while len(rest) > LONGEST_LINE:
            end = _character_end(rest, LONGEST_LINE)
            pieces.append(("P", bytes(rest[:end])))
            rest = rest[end:]
        self._unfinished[stream] = bytearray(rest)
        self._write(stream, pieces)

    def finish(self) -> None:
        """Write what is unfinished: nothing more will come."""
        for stream, rest in self._unfinished.items():
            if rest:
                self._write(stream, _pieces(bytes(rest)))
                rest.clear()

    def close(self) -> None:
        """Let go of the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _file(self) -> int:
        """The file, made when there is something to write."""
        if self._fd is None:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._size = os.fstat(self._fd).st_size
        return self._fd

    def _write(self, stream: str, pieces: list[tuple[str, bytes]]) -> None:
        if not pieces:
            return
        stamp = now()
        texts = [(tag, piece.decode("utf-8", "replace").rstrip("\r")) for tag, piece in pieces]
        self.recent.extend(text[:REMEMBERED_WIDTH] for _, text in texts[-REMEMBERED_LINES:])
        for tag, text in texts:
            note = f"{stamp} stderr F [{self._lost} lines were lost: the disk was full]\n" if self._lost else ""
            self._append(f"{note}{stamp} {stream} {tag} {text}\n".encode())

    def _append(self, line: bytes) -> None:
        try:
            file = self._file()
            if self._size and self._size + len(line) > self._file_bytes:
                self._rotate()
                file = self._file()
            self._size += os.write(file, line)
            self._lost = 0
        except OSError:
            self._lost += 1

    def _rotate(self) -> None:
        for number in range(self._files - 1, 0, -1):
            older = rotated(self.path, number)
            newer = rotated(self.path, number - 1)
            if newer.exists():
                newer.replace(older)
        self.close()


def rotated(path: Path, number: int) -> Path:
    """The name of the file rotated `number` times; 0 is the newest."""
    return path if number == 0 else path.with_name(f"{path.name}.{number}")


def chain(path: Path) -> list[Path]:
    """The files of a log that exist, the oldest first."""
    files = []
    number = 0
    while (one := rotated(path, number)).exists() or number == 0:
        files.append(one)
        number += 1
    return [one for one in reversed(files) if one.exists()]


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a log as they stand in its files, the oldest first."""
    lines: list[str] = []
    for file in reversed(chain(path)):
        missing = count - len(lines)
        if missing <= 0:
            break
        try:
            lines = _last_of(file, missing) + lines
        except FileNotFoundError:  # rotated away meanwhile
            continue
    return lines


def split(line: str) -> tuple[str, str, str] | None:
    """The time, stream and text of a line, or None where it is not one."""
    parts = line.rstrip("\n").split(" ", 3)
    if len(parts) < 4 or parts[1] not in ("stdout", "stderr") or parts[2] not in ("F", "P"):
        return None
    return parts[0], parts[1], parts[3]


def now() -> str:
    """The time in UTC, to the microsecond."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds // 1000:06d}Z"


def _pieces(line: bytes) -> list[tuple[str, bytes]]:
    """An ended line, cut to the longest length."""
    pieces = []
    while len(line) > LONGEST_LINE:
        end = _character_end(line, LONGEST_LINE)
        pieces.append(("P", line[:end]))
        line = line[end:]
    return [*pieces, ("F", line)]


def _character_end(line: bytes | bytearray, at: int) -> int:
    """The nearest place at or before `at` that is not inside a UTF-8 character, which has 4 bytes at most."""
    for end in range(at, at - 4, -1):
        if line[end] & 0xC0 != 0x80:
            return end
    return at


def start_of_last(handle: BinaryIO, count: int) -> tuple[int, int]:
    """Where the last `count` lines of a file begin, and how many there are, if fewer."""
    found = 0
    position = handle.seek(0, os.SEEK_END)
    while position:
        step = min(BLOCK, position)
        position -= step
        handle.seek(position)
        block = handle.read(step)
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            found += 1
            if found > count:
                return position + at + 1, count
    return 0, found


def _last_of(file: Path, count: int) -> list[str]:
    with file.open("rb") as handle:
        start, _ = start_of_last(handle, count)
        handle.seek(start)
        data = handle.read()
    return [line.decode("utf-8", "replace") for line in data.split(b"\n")[:-1]]
