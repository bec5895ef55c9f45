"""The one reader of wall time. Everything else receives a clock, so that tests can bend time.

Loops and deadlines measure with the event loop's own time (`asyncio.get_running_loop().time()`), which can be bent too;
what is reported in fractions of a millisecond is measured with `steady`, since an event loop may count in whole ones.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time, in UTC, and seconds that only ever pass (from no particular beginning)."""

    def now(self) -> datetime: ...

    def steady(self) -> float: ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 the one place

    def steady(self) -> float:
        return time.perf_counter()


class ManualClock:
    """A clock that moves only when told: for tests and the simulator."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def steady(self) -> float:
        return self._now.timestamp()

    def advance(self, by: timedelta) -> None:
        """Move forward by `by`."""
        self._now += by
