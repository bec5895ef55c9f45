"""The tools of a build are run in the agent's own loop, beside all that it has open."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
import uvloop

from kasbah.agent.build.buildlog import BuildLog
from kasbah.agent.build.process import run
from kasbah.clock import SystemClock

pytestmark = pytest.mark.real


class Opening(BuildLog):
    """A log that has others open files the moment that all was read."""

    opened: tuple[int, ...] = ()

    async def copy(self, source: Any) -> None:
        await super().copy(source)
        asyncio.get_running_loop().call_soon(self._open)

    def _open(self) -> None:
        self.opened = tuple(os.open(os.devnull, os.O_RDONLY) for _ in range(20))


def test_what_is_opened_as_a_tool_ends_stays_open(tmp_path: Path) -> None:
    """The pipe is closed once: closed again a moment later, its number is another file's by then."""

    async def build() -> None:
        with Opening(tmp_path / "log", SystemClock(), limit=10_000, report=lambda _: None) as log:
            for _ in range(3):
                assert await run(["true"], cwd=tmp_path, env=dict(os.environ), log=log, record=tmp_path / "group") == 0
                for _ in range(10):
                    await asyncio.sleep(0)
                for descriptor in log.opened:
                    os.close(descriptor)

    uvloop.run(build())


def test_all_that_a_tool_says_is_in_the_log(tmp_path: Path) -> None:
    async def build() -> tuple[str, ...]:
        with BuildLog(tmp_path / "log", SystemClock(), limit=10**8, report=lambda _: None) as log:
            said = ["sh", "-c", "seq 200000; printf unended"]
            await run(said, cwd=tmp_path, env=dict(os.environ), log=log, record=tmp_path / "group")
            return log.tail

    assert uvloop.run(build())[-2:] == ("200000", "unended")
    assert len((tmp_path / "log").read_text().splitlines()) == 200_001
