"""A service's whole life with a control plane and an agent in one process: deployed, used, asleep, awake, deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import bent
import pytest
from deployers import signing

from kasbah.dev import Dev, installation
from kasbah.domain.ids import Digest
from kasbah.drivers.interface import StartOrder
from kasbah.drivers.simulated import Program

SOURCE, OTHER = Digest("sha256:" + "a" * 64), Digest("sha256:" + "b" * 64)
MINUTE = 60
WORK = timedelta(milliseconds=30)


def boots(_: StartOrder) -> Program:
    return Program(start_delay=timedelta(milliseconds=20), listens_after=timedelta(seconds=2))


@asynccontextmanager
async def installed(folder: Path) -> AsyncIterator[Dev]:
    async with installation(folder, bent.LoopClock(), Random(1), program=boots) as dev:
        yield signing(dev)


async def deploy(dev: Dev, *, source: Digest = SOURCE, **config: Any) -> Any:
    """Deploy `web`, its source arriving a second later, and follow the rollout to its end."""
    whole = {"runtime": "python", "command": ["python", "app.py"], "access": "public", **config}
    body = {"config": whole, "source": source, "source_size": 1_000}
    answer = await dev.api.post("/services/web/deploys", json=body)
    assert answer.status_code == 202, answer.text
    rollout = answer.json()["rollout"]
    await asyncio.sleep(1)
    dev.site.sources.add(source)
    dev.site.reconciling.nudge()
    seen = [rollout["state"]]
    while rollout["state"] not in ("done", "failed", "superseded"):
        path = f"/rollouts/{rollout['id']}"
        rollout = (await dev.api.get(path, params={"after": rollout["version"], "wait": 20})).json()
        if rollout["state"] != seen[-1]:
            seen.append(rollout["state"])
    return {**rollout, "seen": seen}


async def state(dev: Dev) -> str:
    return str((await dev.api.get("/services/web")).json()["state"])


async def settle(dev: Dev, wanted: str) -> None:
    for _ in range(300):
        if await state(dev) == wanted:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"it is {await state(dev)} for 30 s, not {wanted}")


def test_from_a_deploy_through_every_rung_and_back(tmp_path: Path) -> None:
    async def life() -> None:
        async with installed(tmp_path) as dev:
            done = await deploy(dev, sleep={"freeze_after": "1m", "stop_after": "10m"})
            assert done["seen"] == ["waiting", "building", "starting", "shifting", "done"]
            assert await state(dev) == "running"
            assert (await dev.site.gateway.call("web.localhost", WORK)).status == 200
            assert dev.site.gateway.last_report.number > 0

            await asyncio.sleep(MINUTE + 2)
            assert await state(dev) == "frozen"
            answer = await dev.site.gateway.call("web.localhost", WORK)
            assert answer.status == 200
            await settle(dev, "running")

            await asyncio.sleep(10 * MINUTE + 5)
            assert await state(dev) == "stopped"
            assert [one for one in await dev.site.driver.list() if one.exit is None] == []
            answer = await dev.site.gateway.call("web.localhost", WORK)
            assert answer.status == 200
            await settle(dev, "running")
            wakes = (await dev.api.get("/services/web")).json()["wakes"]
            assert [(one["rung"], one["held"]) for one in wakes] == [("stopped", 1), ("frozen", 1)]
            assert 1_000 < wakes[0]["phases"]["ready"] < 3_000

    bent.run(life)


@pytest.mark.parametrize(("rung", "state_then"), [("frozen", "frozen"), ("stopped", "stopped")])
def test_a_person_puts_it_to_sleep_and_wakes_it(tmp_path: Path, rung: str, state_then: str) -> None:
    async def life() -> None:
        async with installed(tmp_path) as dev:
            await deploy(dev, scaling={"min": 1})
            await asyncio.sleep(45)
            assert await state(dev) == "running"
            assert (await dev.api.post("/services/web/sleep", json={"rung": rung})).status_code == 200
            await settle(dev, state_then)
            assert (await dev.api.post("/services/web/wake")).status_code == 200
            await settle(dev, "running")

    bent.run(life)


def test_a_burst_into_a_sleeping_service_is_one_wake_and_one_start(tmp_path: Path) -> None:
    async def life() -> None:
        async with installed(tmp_path) as dev:
            await deploy(dev)
            await dev.api.post("/services/web/sleep", json={"rung": "stopped"})
            await settle(dev, "stopped")
            before = len(await dev.site.driver.list())
            calls = [dev.site.gateway.call("web.localhost", WORK) for _ in range(500)]
            answers = await asyncio.gather(*calls)
            assert {one.status for one in answers} == {200}
            assert len({one.replica for one in answers}) == 1
            assert len(await dev.site.driver.list()) == before + 1
            (unit,) = dev.site.reconciler.units
            assert unit.wakes.closed[-1].held == 500

    bent.run(life)


def test_what_a_peak_needed_is_frozen_after_it_and_the_next_peak_thaws_it(tmp_path: Path) -> None:
    async def peak(dev: Dev) -> set[Any]:
        calls = [dev.site.gateway.call("web.localhost", timedelta(seconds=5)) for _ in range(30)]
        answers = await asyncio.gather(*calls)
        assert {one.status for one in answers} == {200}
        return {one.replica for one in answers}

    async def life() -> None:
        async with installed(tmp_path) as dev:
            sleep = {"freeze_after": "1m", "stop_after": "5m"}
            await deploy(dev, scaling={"max": 3, "concurrency": 10}, sleep=sleep)
            calm = asyncio.create_task(dev.site.gateway.call("web.localhost", timedelta(minutes=7)))
            await peak(dev)
            (unit,) = dev.site.reconciler.units
            assert (len(unit.replicas.ready), len(unit.replicas.frozen)) == (3, 0)
            await asyncio.sleep(20)
            assert (len(unit.replicas.ready), len(unit.replicas.frozen)) == (1, 2)
            there = {one.id for one in unit.replicas}
            took = unit.replicas.start_took
            assert took is not None
            assert timedelta(seconds=2) < took < timedelta(seconds=3), "measured, to the probe's answer"
            assert await peak(dev) <= there
            assert unit.replicas.start_took == took, "a thaw is no start"
            assert {one.id for one in unit.replicas} == there, "nothing was started"
            await asyncio.sleep(5 * MINUTE + 20)
            assert (len(unit.replicas.alive), len(unit.replicas.frozen)) == (1, 0), "unneeded for too long, they end"
            assert (await calm).status == 200

    bent.run(life)


def test_a_second_revision_takes_over_without_a_failed_request(tmp_path: Path) -> None:
    async def life() -> None:
        async with installed(tmp_path) as dev:
            await deploy(dev)
            answers = []

            async def callers() -> None:
                while True:
                    answers.append(await dev.site.gateway.call("web.localhost", timedelta(seconds=1)))

            calling = [asyncio.create_task(callers()) for _ in range(5)]
            assert (await deploy(dev, source=OTHER))["state"] == "done"
            await asyncio.sleep(10)
            for one in calling:
                one.cancel()
            assert {one.status for one in answers} == {200}
            assert len({one.replica for one in answers}) == 2, "first the old one, then the new one"
            replicas = [one for one in await dev.site.driver.list() if one.exit is None]
            assert [one.frozen for one in replicas] == [True, False], "the old one is at hand, asleep"

    bent.run(life)


def test_a_deploy_that_fails_says_why_and_changes_nothing(tmp_path: Path) -> None:
    async def life() -> None:
        async with installed(tmp_path) as dev:
            await deploy(dev)
            dev.site.builds.failing.add(OTHER)
            failed = await deploy(dev, source=OTHER)
            assert failed["state"] == "failed"
            assert "nothing fits together" in failed["reason"]
            assert failed["tail"] == ["no such package"]
            assert (await dev.site.gateway.call("web.localhost", WORK)).status == 200

    bent.run(life)


def test_what_is_deleted_leaves_nothing_behind(tmp_path: Path) -> None:
    async def life() -> None:
        async with installed(tmp_path) as dev:
            await deploy(dev)
            assert (await dev.api.delete("/services/web")).status_code == 204
            await asyncio.sleep(60)
            assert dev.site.reconciler.units == ()
            assert await dev.site.driver.list() == ()
            assert (await dev.site.gateway.call("web.localhost", WORK)).status == 404

    bent.run(life)
