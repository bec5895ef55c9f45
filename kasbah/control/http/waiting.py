"""Long polls: read, and where there is nothing new, wait for a change and read again, no longer than was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, TypeVar

from fastapi import Query
from starlette.concurrency import run_in_threadpool

from kasbah.api.agent import MAX_WAIT_SECONDS
from kasbah.control.changes import Changes

T = TypeVar("T")

Wait = Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS, description="How long to wait for a change, in seconds.")]
After = Annotated[int | None, Query(description="Answer once the version is another than this.")]


async def until(
    changes: Changes, topics: tuple[str, ...], read: Callable[[], T], is_new: Callable[[T], bool], wait: float
) -> T:
    """What `read` gives once it is new, or when the wait is over. Nothing that is announced meanwhile is missed."""
    now = asyncio.get_running_loop().time
    deadline = now() + wait
    with changes.watching(*topics) as changed:
        while True:
            changed.clear()
            found = await run_in_threadpool(read)
            if is_new(found) or changes.closed or now() >= deadline:
                return found
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await changed.wait()
