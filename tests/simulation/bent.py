"""Bent time: an event loop whose clock stands still while anything is ready, and jumps to the next timer otherwise.

Hours pass in milliseconds, in the same order as they would. While a thread works for the loop (a store's transaction, a
file), time stands still too, so that nothing times out that would not. The idea is trio's autojump clock.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import anyio.to_thread

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
PATIENCE = 30.0
"""Real seconds that a thread may work, or a loop without timers may wait, before the test is given up."""

Result = TypeVar("Result")


class Stuck(Exception):
    """Nothing is ready, nothing will be: everybody waits for somebody."""


class BentSelector(selectors.DefaultSelector):
    """Finds what is ready; where nothing is, moves the time on instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.threads_at_work: Callable[[], bool] = lambda: False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or (timeout is not None and timeout <= 0):
            return found
        if self.threads_at_work():
            return super().select(PATIENCE)
        if timeout is None:
            raise Stuck("nothing is ready and no timer is set")
        self.now += timeout
        return []


class BentLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self.bent = BentSelector()
        self._threads = 0
        super().__init__(self.bent)

    def time(self) -> float:
        return self.bent.now

    def run_in_executor(self, executor: Any, func: Callable[..., Result], *args: Any) -> asyncio.Future[Result]:
        working = super().run_in_executor(executor, func, *args)
        self._threads += 1
        working.add_done_callback(lambda _: self._came_back())
        return working

    def watch_threads(self) -> None:
        """Know of the threads that anyio lends (and with it Starlette), too. To be called on the loop."""
        limiter = anyio.to_thread.current_default_thread_limiter()
        self.bent.threads_at_work = lambda: self._threads > 0 or limiter.borrowed_tokens > 0

    def _came_back(self) -> None:
        self._threads -= 1


class LoopClock:
    """The clock of what runs on a bent loop: the same time, as a date."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._set = timedelta()

    def now(self) -> datetime:
        return self.even() + self._set

    def set(self, by: timedelta) -> None:
        """Set it, as a person or a time server does: no time passes."""
        self._set += by

    def even(self) -> datetime:
        return START + timedelta(seconds=self.steady())

    def steady(self) -> float:
        return self._loop.time()


def run(main: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run `main` to its end in bent time."""

    async def watched() -> Result:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, BentLoop)
        loop.watch_threads()
        return await main()

    with asyncio.Runner(loop_factory=BentLoop) as runner:
        return runner.run(watched())
