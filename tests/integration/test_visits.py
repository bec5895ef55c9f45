"""Commands inside replicas, carried by the agent's side of them with a caller of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from site_runner import Site, site_in, until
from visitor import Caller, begin, session, stays

from kasbah.agent.visits import carry
from kasbah.api import visits as wire
from kasbah.domain.ids import ReplicaId
from kasbah.errors import Conflict, Denied, NotFound, Unavailable

A = "rp-a"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with site_in(tmp_path) as site:
        yield site


async def test_the_last_output_comes_before_the_end(site: Site) -> None:
    await site.start(A, "sleep", "600")
    visit, ends = await begin(site, "sh", "-c", "head -c 60000 /dev/zero; echo late >&2; exit 3")
    caller = Caller()
    await carry(session(visit, ends, caller), 30, stays())
    assert sum(len(payload) for kind, payload in caller.heard if kind == wire.OUTPUT) == 60_000
    assert (wire.ERRORS, b"late\n") in caller.heard
    assert caller.heard[-1] == (wire.CONTROL, {"exit": 3})
    visit.close()
    ends.close()


async def test_one_that_does_nothing_is_ended_in_time(site: Site) -> None:
    await site.start(A, "sleep", "600")
    visit, ends = await begin(site, "sleep", "599")
    with pytest.raises(Unavailable, match=r"nothing was read or written for 0\.1 s"):
        await carry(session(visit, ends, Caller()), 0.1, stays())
    visit.close()
    ends.close()
    await until(lambda: not any(b"599" in words for words in commands()))


async def test_who_is_sent_away_takes_his_command_along(site: Site) -> None:
    await site.start(A, "sleep", "600")
    visit, ends = await begin(site, "sleep", "598")
    away = stays()
    asyncio.get_running_loop().call_soon(away.set_result, "not allowed any more")
    with pytest.raises(Denied, match="not allowed any more"):
        await carry(session(visit, ends, Caller()), 30, away)
    visit.close()
    ends.close()
    await until(lambda: not any(b"598" in words for words in commands()))


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
