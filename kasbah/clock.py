"""The one reader of wall time. Everything else receives a clock, so that tests can bend time.

Loops and deadlines measure with the event loop's own time (`asyncio.get_running_loop().time()`), which can be bent too;
what is reported in fractions of a millisecond is measured with `steady`, since an event loop may count in whole ones.
How long ago something was is asked of `even`, never of `now`: a machine's clock is set while it runs, back as well.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time, in UTC; the time as it would be had nobody set the clock since the process began, which passes
    evenly and may be wrong; and seconds that only ever pass (from no particular beginning)."""

    def now(self) -> datetime: ...

    def even(self) -> datetime: ...

    def steady(self) -> float: ...


class SystemClock:
    """The machine's own clock."""

    def __init__(self) -> None:
        self._began, self._began_steady = self.now(), self.steady()

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 the one place

    def even(self) -> datetime:
        return self._began + timedelta(seconds=self.steady() - self._began_steady)

    def steady(self) -> float:
        return time.perf_counter()


class ManualClock:
    """A clock that moves only when told: for tests and the simulator."""

    def __init__(self, start: datetime) -> None:
        self._even = start
        self._set = timedelta()

    def now(self) -> datetime:
        return self._even + self._set

    def even(self) -> datetime:
        return self._even

    def steady(self) -> float:
        return self._even.timestamp()

    def advance(self, by: timedelta) -> None:
        """Move forward by `by`."""
        self._even += by

    def set(self, by: timedelta) -> None:
        """Set it, as a person or a time server does: no time passes."""
        self._set += by
