"""The control plane's loops, running: started together, ended together, and asked whether they still do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from kasbah.control.changes import Changes
from kasbah.loop import Loop


class Running:
    """Owns the loops' tasks."""

    def __init__(self, loops: Sequence[Loop], changes: Changes) -> None:
        self._loops = tuple(loops)
        self._changes = changes
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """The loops run until the block ends. Where one of them ends by itself, the block is cancelled."""
        self._changes.bind()
        async with asyncio.TaskGroup() as group:
            self._tasks = {loop.name: group.create_task(loop.run(), name=loop.name) for loop in self._loops}
            try:
                yield
            finally:
                self._changes.close()
                for task in self._tasks.values():
                    task.cancel()

    def stopped(self) -> tuple[str, ...]:
        """The loops that do not run."""
        return tuple(loop.name for loop in self._loops if loop.name not in self._tasks or self._tasks[loop.name].done())
