"""A real runner in a folder of its own, and what tests need around it. Ends whatever it started."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from kasbah import proc
from kasbah.agent.paths import Paths
from kasbah.agent.runner.launch import ensure_runner, process_driver
from kasbah.domain.ids import ReplicaId, RevisionId, ServiceId
from kasbah.domain.replica import Exit
from kasbah.domain.revision import Resources, Volume
from kasbah.drivers.interface import Running, StartOrder
from kasbah.drivers.process import ProcessDriver
from kasbah.settings import Limits

DEADLINE = 30.0
SERVICE = ServiceId("sv-a")
Found = TypeVar("Found")


class Site:
    """A runner and its driver. `source` is the app folder that replicas are started from."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self.paths = Paths(root / "data")
        self.paths.make()
        self.limits = limits
        self.source = root / "source"
        self.source.mkdir()
        self.driver: ProcessDriver = process_driver(self.paths, limits)

    @property
    def runner_pid(self) -> int:
        return int(json.loads((self.paths.runner / "runner.json").read_text())["pid"])

    async def ensure(self) -> None:
        await ensure_runner(self.paths, self.limits)

    async def kill_runner(self) -> None:
        """As a crash would: with no time to tidy up."""
        os.kill(self.runner_pid, signal.SIGKILL)
        await until(lambda: not proc.runs(self.runner_pid))

    async def start(
        self,
        replica: str,
        *argv: str,
        env: dict[str, str] | None = None,
        port: int = 1,
        readable: tuple[Path, ...] = (),
        resources: Resources = Resources(),  # noqa: B008 frozen
        egress: tuple[str, ...] | None = None,
        service: ServiceId = SERVICE,
        volumes: tuple[Volume, ...] = (),
    ) -> Running:
        return await self.driver.start(
            StartOrder(
                replica=ReplicaId(replica),
                service=service,
                revision=RevisionId("rv-a"),
                argv=argv,
                env={"PATH": "/usr/bin:/bin", **(env or {})},
                app=self.source,
                port=port,
                readable=readable,
                resources=resources,
                egress=egress,
                volumes=volumes,
            )
        )

    async def python(self, replica: str, code: str, *arguments: str, **options: object) -> Running:
        """Start a replica that runs `code` with the Python of these tests."""
        venv = (Path(sys.prefix),)
        argv = (sys.executable, "-u", "-c", code, *arguments)
        return await self.start(replica, *argv, readable=venv, **options)  # type: ignore[arg-type]

    async def lines(self, replica: str, count: int = 100) -> list[str]:
        return [line.text for line in await self.driver.tail(ReplicaId(replica), count)]

    async def said(self, replica: str, text: str) -> list[str]:
        """Its lines, once one of them is `text`."""

        async def look() -> list[str]:
            lines = await self.lines(replica)
            return lines if text in lines else []

        return await until_async(look)

    async def the(self, replica: str) -> Running:
        return next(one for one in await self.driver.list() if one.replica == replica)

    async def ended(self, replica: str) -> Exit:
        async def look() -> Exit | None:
            return (await self.the(replica)).exit

        return await until_async(look)

    async def run(self, replica: str, code: str, *arguments: str, **options: object) -> list[str]:
        """The lines of a Python program that ends well."""
        await self.python(replica, code, *arguments, **options)
        ending = await self.ended(replica)
        assert ending.code == 0, ending
        return await self.lines(replica)


@asynccontextmanager
async def site_in(root: Path, limits: Limits = Limits()) -> AsyncIterator[Site]:  # noqa: B008 frozen
    """A site below `root`; its replicas and its runner end with the block."""
    site = Site(root, limits)
    await site.ensure()
    try:
        yield site
    finally:
        await site.ensure()
        await site.driver.shutdown(drain=timedelta())
        await site.driver.close()


async def until(true: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(DEADLINE):
        while not true():  # noqa: ASYNC110 another process tells no event
            await asyncio.sleep(0.01)


async def until_async(look: Callable[[], Awaitable[Found | None]]) -> Found:
    """What a look finds, once it finds something."""
    async with asyncio.timeout(DEADLINE):
        while not (found := await look()):  # noqa: ASYNC110 another process tells no event
            await asyncio.sleep(0.01)
        return found


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def threads_of(pid: int) -> list[str]:
    """The state of each thread of a process; none of one that is gone."""
    found = []
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            found.append(stat.read_text().rsplit(")", 1)[1].split()[0])
    return found
