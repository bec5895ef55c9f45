"""Callers who come again and again while something happens to what they call."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from demo.load import Outcome, Request, Tally, Target, call


def none_failed(tally: Tally) -> None:
    assert tally.failed == 0, f"{tally.failed} of {tally.requests} failed, {tally.faults}: {tally.example}"


@asynccontextmanager
async def trickle(
    target: Target, *, callers: int, pause: float, request: Request | None = None
) -> AsyncIterator[list[Outcome]]:
    """Callers, each after a random pause, for as long as the block runs."""
    outcomes: list[Outcome] = []
    over = asyncio.Event()
    chance = random.Random(2)

    async def caller() -> None:
        while not over.is_set():
            outcomes.append(await call(target, request or Request()))
            await asyncio.sleep(chance.uniform(0, pause))

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
        try:
            yield outcomes
        finally:
            over.set()
