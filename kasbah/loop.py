"""A loop: one idempotent pass, run on a period and when nudged, one at a time, each within a deadline.

The pass takes no arguments: it reads what it needs again, so that a lost or doubled nudge harms nothing. It does not
retry; the next pass does. An error in a pass is logged and the loop goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any

import structlog

log = structlog.get_logger()


class Loop:
    """Runs `work` every `period`, and at once when nudged.

    `nudge` may be called from the event loop at any time; nudges that arrive during a pass cause one more pass.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], Awaitable[None]],
        *,
        period: timedelta,
        deadline: timedelta = timedelta(seconds=60),
    ) -> None:
        self.name = name
        self.passes = 0
        self.last_error: str = ""
        self._work = work
        self._period = period.total_seconds()
        self._deadline = deadline.total_seconds()
        self._nudged = asyncio.Event()

    def nudge(self) -> None:
        """Ask for a pass as soon as the one under way, if any, has ended."""
        self._nudged.set()

    async def run(self) -> None:
        """Run passes until cancelled."""
        while True:
            self._nudged.clear()
            await self._one_pass()
            try:
                async with asyncio.timeout(self._period):
                    await self._nudged.wait()
            except TimeoutError:
                pass

    async def _one_pass(self) -> None:
        try:
            async with asyncio.timeout(self._deadline):
                await self._work()
            self.last_error = ""
        except Exception as error:  # a loop outlives any one pass
            self.last_error = repr(error)
            log.exception("pass failed", loop=self.name)
        self.passes += 1


async def guarded(work: Coroutine[Any, Any, None]) -> None:
    """Do this; an error in it is logged and ends nothing else."""
    try:
        await work
    except Exception:
        log.exception("a task of the agent failed")
