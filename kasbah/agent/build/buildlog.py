"""A build's log: every line its tools print, in a file and, for the last ones, at hand for whoever asks why it failed.

A line in the file is `TIME STREAM F TEXT`, as the replicas' logs have it. What tools print is made safe to show: no
control characters, no line without end. Past its limit the file says so and takes no more.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from kasbah.clock import Clock

TAIL = 30
LONGEST_LINE = 8_192
CHUNK = 64 * 2**10
_LINE_ENDS = re.compile(rb"\r\n|\n|\r")
_NOT_TEXT = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07|[\x00-\x08\x0b-\x1f\x7f]")
"""Colours, window titles and other control sequences."""


class Source(Protocol):
    """Bytes as they come, b"" at their end."""

    async def read(self, most: int) -> bytes: ...


class BuildLog:
    """The log of one build, written to `path` from its start."""

    def __init__(self, path: Path, clock: Clock, *, limit: int, report: Callable[[str], None]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8", buffering=1)
        self._clock = clock
        self._left = limit
        self._report = report
        self._tail: deque[str] = deque(maxlen=TAIL)

    def __enter__(self) -> BuildLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines the tools printed."""
        return tuple(self._tail)

    def step(self, text: str) -> None:
        """Begin a step: told to whoever waits, and a heading in the log."""
        self._report(text)
        self.note(text)

    def note(self, text: str) -> None:
        """Say something in the log."""
        self._write(f"-- {text}")

    def line(self, text: str) -> None:
        """Take a line that a tool printed."""
        self._tail.append(text)
        self._write(text)

    async def copy(self, source: Source) -> None:
        """Take every line of `source`, until it ends."""
        rest = b""
        while chunk := await source.read(CHUNK):
            *lines, rest = _LINE_ENDS.split(rest + chunk)
            for raw in lines:
                self._take(raw)
            if len(rest) > LONGEST_LINE:
                self._take(rest)
                rest = b""
        self._take(rest)

    def _take(self, raw: bytes) -> None:
        text = _NOT_TEXT.sub("", raw.decode("utf-8", "replace")).rstrip()
        for start in range(0, len(text), LONGEST_LINE):
            self.line(text[start : start + LONGEST_LINE])

    def _write(self, text: str) -> None:
        if self._left <= 0:
            return
        self._left -= len(text)
        if self._left <= 0:
            text = "-- the log is full: what follows is not written"
        stamp = self._clock.now().isoformat(timespec="microseconds").replace("+00:00", "Z")
        self._file.write(f"{stamp} stdout F {text}\n")
