"""Whoever runs a command in a replica hears how it ended, also where many do and the runner is slow to listen."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from site_runner import Site, site_in

from kasbah.agent.runner.visits import MOST_PER_REPLICA
from kasbah.domain.ids import ReplicaId, RevisionId
from kasbah.domain.revision import Resources
from kasbah.drivers.interface import StartOrder
from kasbah.drivers.visits import open_files

pytestmark = pytest.mark.real

REPLICA = "rp-a"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with site_in(tmp_path) as site:
        await site.python(REPLICA, "print('up')\nimport time; time.sleep(1000)")
        await site.said(REPLICA, "up")
        yield site


async def told(site: Site, *argv: str) -> Any:
    """How a command ended, as the runner says it."""
    order = StartOrder(
        replica=ReplicaId(REPLICA),
        service="sv-a",  # type: ignore[arg-type]
        revision=RevisionId("rv-a"),
        argv=argv,
        env={"PATH": "/usr/bin:/bin"},
        app=site.source,
        port=1,
        resources=Resources(),
    )
    ends, theirs = open_files(None)
    try:
        visit = await site.driver.visit(order, theirs, terminal=False)
        try:
            async with asyncio.timeout(30):
                return await visit.line()
        finally:
            visit.close()
    finally:
        ends.close()
        for fd in theirs:
            os.close(fd)


async def test_why_a_command_did_not_begin(site: Site) -> None:
    """Two words come then, of the command and of its warden; the second as late as not to be read, or both at once."""
    for _ in range(4):
        found = await asyncio.gather(*(told(site, "no-such-program") for _ in range(MOST_PER_REPLICA)))
        assert {one["error"]["code"] for one in found} == {"command_not_found"}


async def test_how_a_command_ended(site: Site) -> None:
    found = await asyncio.gather(*(told(site, "/bin/sh", "-c", f"exit {code}") for code in range(MOST_PER_REPLICA)))
    assert [one["visit"] for one in found] == [{"code": code} for code in range(MOST_PER_REPLICA)]
