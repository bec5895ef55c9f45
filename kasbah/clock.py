"""The one reader of wall time. Everything else receives a clock, so that tests can bend time.

Loops and deadlines measure with the event loop's own time (`asyncio.get_running_loop().time()`), never with this.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time, in UTC."""

    def now(self) -> datetime: ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 the one place


class ManualClock:
    """A clock that moves only when told: for tests and the simulator."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> None:
        """Move forward by `by`."""
        self._now += by
