"""Commands inside replicas, carried by the agent's side of them with a caller of the test's own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from site_runner import SERVICE, Site, site_in, until
from starlette.websockets import WebSocket

from kasbah.agent.visits import Session, carry
from kasbah.api import visits as wire
from kasbah.domain.ids import ReplicaId, RevisionId
from kasbah.drivers.interface import StartOrder
from kasbah.drivers.visits import Ends, RunnerVisit, open_files
from kasbah.errors import Conflict, NotFound, Unavailable

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


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with site_in(tmp_path) as site:
        yield site


async def begin(site: Site, *argv: str, replica: str = A) -> tuple[RunnerVisit, Ends]:
    order = StartOrder(
        replica=ReplicaId(replica),
        service=SERVICE,
        revision=RevisionId("rv-a"),
        argv=argv,
        env={"PATH": "/usr/bin:/bin"},
        app=site.source,
        port=1,
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


def session(visit: RunnerVisit, ends: Ends, caller: Caller) -> Session:
    return Session(websocket=cast(WebSocket, caller), visit=visit, ends=ends, terminal=False)


async def test_the_last_output_comes_before_the_end(site: Site) -> None:
    await site.start(A, "sleep", "600")
    visit, ends = await begin(site, "sh", "-c", "head -c 60000 /dev/zero; echo late >&2; exit 3")
    caller = Caller()
    await carry(session(visit, ends, caller), 30)
    assert sum(len(payload) for kind, payload in caller.heard if kind == wire.OUTPUT) == 60_000
    assert (wire.ERRORS, b"late\n") in caller.heard
    assert caller.heard[-1] == (wire.CONTROL, {"exit": 3})
    visit.close()
    ends.close()


async def test_one_that_does_nothing_is_ended_in_time(site: Site) -> None:
    await site.start(A, "sleep", "600")
    visit, ends = await begin(site, "sleep", "599")
    with pytest.raises(Unavailable, match=r"nothing was read or written for 0\.1 s"):
        await carry(session(visit, ends, Caller()), 0.1)
    visit.close()
    ends.close()
    await until(lambda: not any(b"599" in words for words in commands()))


async def test_only_a_replica_that_runs_is_visited(site: Site) -> None:
    with pytest.raises(NotFound, match="rp-b is not known"):
        await begin(site, "true", replica="rp-b")
    await site.start(A, "sleep", "600")
    await site.driver.freeze(ReplicaId(A))
    with pytest.raises(Conflict, match="frozen"):
        await begin(site, "true")


def commands() -> list[list[bytes]]:
    """The words of every process on this machine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found.append((folder / "cmdline").read_bytes().split(b"\0"))
        except OSError:
            continue
    return found
