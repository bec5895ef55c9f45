"""Follows the cold listener's log for first bytes: how long the first caller of each waking really waited.

Nothing is kept: what was written while no agent listened is of no use to anybody, and the log is emptied as it grows.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from kasbah.decide.metering import first_bytes
from kasbah.domain.ids import WakeId

PERIOD = 0.25
LARGEST = 4 * 2**20


class ColdLog:
    """Calls `found` with each wake and the time of a first byte, in seconds since the epoch."""

    def __init__(self, path: Path, found: Callable[[WakeId, float], None]) -> None:
        self._path = path
        self._found = found
        self._position = path.stat().st_size if path.exists() else 0

    async def follow(self) -> None:
        """Until cancelled."""
        while True:
            self.read()
            await asyncio.sleep(PERIOD)

    def read(self) -> None:
        """Take in what is new. The gateway appends, so emptying the file under it is safe."""
        try:
            size = self._path.stat().st_size
        except OSError:
            return
        if size == self._position:
            return
        with self._path.open("rb") as file:
            file.seek(self._position if size > self._position else 0)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._position += len(whole)
        for one in first_bytes(whole.splitlines()):
            self._found(one.wake, one.at)
        if self._position > LARGEST:
            os.truncate(self._path, 0)
            self._position = 0
