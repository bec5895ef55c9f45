"""Waiting for a file that is not the loop's: a pipe, a terminal. Whoever opened it closes it, once.

A transport of the loop's would close it too, a moment after its owner: by then its number may be another file's.
"""

from __future__ import annotations

import asyncio
import os


async def ready(fd: int, *, write: bool = False) -> None:
    """Wait until it can be read, or written. It is watched by a number of its own: a terminal has one for both."""
    loop = asyncio.get_running_loop()
    come: asyncio.Future[None] = loop.create_future()
    watched = os.dup(fd)
    watch, unwatch = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)

    def now() -> None:
        if not come.done():
            come.set_result(None)

    watch(watched, now)
    try:
        await come
    finally:
        unwatch(watched)
        os.close(watched)
