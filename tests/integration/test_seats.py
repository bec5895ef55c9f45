"""Processes that stand ready to become replicas: what becomes of them, taken or not."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from site_runner import Site, site_in, until

from kasbah import proc
from kasbah.agent.runner import cgroups
from kasbah.agent.runner.launch import layout_of
from kasbah.agent.runner.spawn import INIT, SEAT
from kasbah.settings import Limits

pytestmark = pytest.mark.real

SALAM = "print('salam')"


def seats(site: Site) -> list[int]:
    """The processes of this site's runner that wait, and the first ones of their pid namespaces."""
    names = {SEAT, INIT}
    children = [one.pid for one in proc.everyone() if one.parent == site.runner_pid and not one.ended]
    return [pid for pid in children if name_of(pid) in names]


def name_of(pid: int) -> str:
    """What a process calls itself; "" for one that has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


async def full(site: Site) -> list[int]:
    """The seats, once there are as many as there should be."""
    own_processes = "own-processes" in (await site.driver.isolation()).mechanisms
    await until(lambda: len(seats(site)) == site.limits.ready_seats * (1 + own_processes))
    return seats(site)


async def test_seats_that_ended_are_not_given(tmp_path: Path) -> None:
    async with site_in(tmp_path) as site:
        ready = await full(site)
        for pid in ready:
            with suppress(ProcessLookupError):  # the first of a pid namespace takes the other with it
                os.kill(pid, signal.SIGKILL)
        await until(lambda: not [pid for pid in ready if proc.runs(pid)])
        assert await site.run("rp-a", SALAM) == ["salam"]
        assert await site.run("rp-b", SALAM) == ["salam"]
        assert "Traceback" not in layout_of(site.paths, site.limits).log.read_text()


async def test_seats_end_with_their_runner(tmp_path: Path) -> None:
    async with site_in(tmp_path) as site:
        left = await full(site)
        await site.kill_runner()
        await until(lambda: not [pid for pid in left if proc.runs(pid)])


async def test_a_seat_taken_is_made_again(tmp_path: Path) -> None:
    async with site_in(tmp_path) as site:
        before = await full(site)
        await site.run("rp-a", SALAM)
        assert len(before) > len(set(before) & set(seats(site)))
        assert len(await full(site)) == len(before)


@pytest.mark.parametrize("ready", [0, 1])
async def test_as_many_start_as_are_asked_for(tmp_path: Path, ready: int) -> None:
    async with site_in(tmp_path, Limits(ready_seats=ready)) as site:
        names = [f"rp-{letter}" for letter in "abcde"]
        assert await asyncio.gather(*(site.run(name, SALAM) for name in names)) == [["salam"]] * len(names)


async def test_nothing_is_left_of_them(tmp_path: Path) -> None:
    async with site_in(tmp_path) as site:
        pids = await full(site)
        groups = cgroups.Groups(layout_of(site.paths, site.limits).tag)
        assert len(groups.leftovers(frozenset())) == site.limits.ready_seats * len(groups.available)
    assert not [pid for pid in pids if proc.runs(pid)]
    assert groups.leftovers(frozenset()) == []
