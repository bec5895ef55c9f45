"""A control plane goes back to a backup while its services are called: none of those calls fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from apart import Apart, callers, parts_apart, traffic
from support import probe

from demo.load import Request, call
from kasbah import proc

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

AWAKE = {"sleep": {"freeze_after": "never", "stop_after": "never"}}
DROWSY = {"sleep": {"freeze_after": "200ms", "stop_after": "2s"}}
CONFLICT = 6


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    with parts_apart(tmp_path_factory.mktemp("restore")) as site:
        site.deploy(probe(site.home / "app", {"kept": AWAKE, "drowsy": DROWSY, "ordered": AWAKE}))
        yield site


async def test_back_to_a_backup_under_load(apart: Apart) -> None:
    file = apart.home / "backup.tar.gz"
    where = ("--data-dir", apart.data_dir)
    async with traffic(callers(apart.target("kept"), apart.target("drowsy"))) as seen:
        await asyncio.to_thread(apart.ok, "backup", file, *where)
        made_later = await asyncio.to_thread(_made_later, apart)
        for rung in ("frozen", "stopped"):  # orders that the backup does not know
            await asyncio.to_thread(apart.sleep, "ordered", rung)
        refused = await asyncio.to_thread(apart.run, "restore", file, *where)
        assert (refused.code, "runs on" in refused.err) == (CONFLICT, True), refused.said
        apart.kill("control")
        restored = await asyncio.to_thread(apart.json, "restore", file, *where)
        assert restored["epoch"] == 2
        await asyncio.to_thread(apart.start, "control")
        await asyncio.to_thread(apart.ends, made_later)
        await seen.reaches(2, "get", "slow", "upload", "events", "socket", "sleeper")
    assert seen.failed() == []
    assert {one["name"] for one in apart.json("ps")} == {"kept", "drowsy", "ordered"}
    assert apart.get("later").status_code == 404
    apart.sleep("ordered", "frozen")
    assert (await call(apart.target("ordered"), Request())).fault is None


def _made_later(site: Apart) -> int:
    """Deploy a service that the backup does not know; its process."""
    site.deploy(probe(site.home / "later", {"later": AWAKE}))
    pid = site.process_of(site.get("later").json()["replica"])
    assert proc.runs(pid)
    return pid
