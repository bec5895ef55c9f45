"""Commands in replicas, as tests run them: through the driver, with a caller of the test's own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, cast

from site_runner import SERVICE, Site
from starlette.websockets import WebSocket

from kasbah.agent.visitors import SentAway
from kasbah.agent.visits import Session
from kasbah.api import visits as wire
from kasbah.domain.ids import ReplicaId, RevisionId
from kasbah.drivers.interface import StartOrder
from kasbah.drivers.visits import Ends, RunnerVisit, open_files

A = "rp-a"


class Caller:
    """The other side of a WebSocket: `heard` is what came, by kind; it says nothing."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, Any]] = []

    async def send_bytes(self, message: bytes) -> None:
        self.heard.append(wire.read(message))

    async def receive_bytes(self) -> bytes:
        await asyncio.Event().wait()
        return b""


async def begin(site: Site, *argv: str, replica: str = A, readable: tuple[Path, ...] = ()) -> tuple[RunnerVisit, Ends]:
    """A command in a replica, and this side's ends of its files."""
    order = StartOrder(
        replica=ReplicaId(replica),
        service=SERVICE,
        revision=RevisionId("rv-a"),
        argv=argv,
        env={"PATH": "/usr/bin:/bin"},
        app=site.source,
        port=1,
        readable=readable,
    )
    ends, theirs = open_files(None)
    try:
        return await site.driver.visit(order, theirs, terminal=False), ends
    except BaseException:
        ends.close()
        raise
    finally:
        for fd in theirs:
            os.close(fd)


def stays() -> SentAway:
    """A caller whom nobody sends away."""
    return asyncio.get_running_loop().create_future()


def session(visit: RunnerVisit, ends: Ends, caller: Caller) -> Session:
    return Session(websocket=cast(WebSocket, caller), visit=visit, ends=ends, terminal=False)
