"""Thousands of random steps in bent time, watched by an oracle; and the moments that are known to be delicate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import bent
import pytest
from world import DEADLINES, QUIET, ROUGH, World

from kasbah.decide.scaling import Rung
from kasbah.domain.ids import RolloutId, ServiceId
from kasbah.domain.replica import ReplicaState
from kasbah.domain.revision import Health, Probe, Volume
from kasbah.domain.service import Command, Scaling, Service, Sleep, Trial
from kasbah.settings import Holding

SECOND = timedelta(seconds=1)
STEPS = 250
SERVICES = (
    ("small", Scaling(), Sleep(freeze_after=5 * SECOND, stop_after=40 * SECOND)),
    ("wide", Scaling(max=4, concurrency=3), Sleep(freeze_after=20 * SECOND, stop_after=60 * SECOND)),
    ("frozen", Scaling(max=2, concurrency=2), Sleep(freeze_after=10 * SECOND, stop_after=None)),
    ("awake", Scaling(min=1, max=3, concurrency=5), Sleep()),
    ("limited", Scaling(max=2, concurrency=2, max_concurrency=3), Sleep(freeze_after=None, stop_after=15 * SECOND)),
)


@asynccontextmanager
async def running(world: World):
    async with world.site.running():
        yield world
        world.check("at the end")


# --- anything, at any time --------------------------------------------------------------------------------------------


def happen(world: World) -> None:
    """One thing happens."""
    chance = world.chance
    service = chance.choice(list(world.services.values()))
    match chance.choices(["calls", "burst", "leave", "crash", "order", "deploy", "scale"], [30, 6, 8, 4, 6, 3, 3])[0]:
        case "calls":
            for _ in range(chance.randint(1, 4)):
                world.call(service.hosts[0], timedelta(seconds=chance.expovariate(1.0)))
        case "burst":
            for _ in range(chance.randint(20, 60)):
                world.call(service.hosts[0], timedelta(seconds=chance.uniform(0, 20)))
        case "leave":
            for task in chance.sample(list(world.calling), len(world.calling) // 2):
                task.cancel()
        case "crash" if world.alive():
            world.crash(chance.choice(world.alive()))
        case "order":
            world.order(service, chance.choice(list(Command)))
        case "deploy" if service.trial is None and service.shares:
            world.try_revision(service)
        case "scale":
            most = chance.randint(1, 4)
            fewest = chance.randint(1, most) if service.scaling.min else 0
            world.put(replace(service, scaling=replace(service.scaling, min=fewest, max=most)))


def pause(world: World) -> float:
    """Mostly an instant, sometimes long enough to fall asleep, and often a moment when something is due."""
    kind = world.chance.random()
    if kind < 0.5:
        return world.chance.uniform(0, 0.3)
    return world.chance.uniform(0, 6) if kind < 0.85 else world.chance.uniform(0, 70)


async def come_to_rest(world: World) -> None:
    """Nothing fails any more and nobody calls: in the end everything sleeps as deep as it may, and can be woken."""
    world.chances = QUIET
    while world.calling:
        await asyncio.wait(world.calling)
    for _ in range(60):
        world.advance_rollouts()
        await asyncio.sleep(60)
    world.check("after an hour of quiet")
    for unit in world.site.reconciler.units:
        asleep = unit.service.order is not None and unit.rung is not Rung.RUNNING
        left = {one.state for one in unit.replicas.alive}
        if unit.service.scaling.min and not asleep:
            assert ReplicaState.READY in left, unit.service.name
        elif unit.service.sleep.stop_after is None or (unit.service.scaling.min and asleep):
            assert left <= {ReplicaState.FROZEN}, unit.service.name
        else:
            assert not left, unit.service.name
    before = world.statuses[200]
    calls = [world.call(service.hosts[0], SECOND) for service in world.services.values() if service.shares]
    await asyncio.gather(*calls)
    assert world.statuses[200] == before + len(calls)
    world.check("after waking all")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("chances", [QUIET, ROUGH], ids=["quiet", "rough"])
def test_whatever_happens_nobody_is_sent_where_nobody_is(tmp_path: Path, seed: int, chances) -> None:
    async def story() -> None:
        world = World(tmp_path, seed, holding=Holding(per_service=40, per_site=70))
        async with running(world):
            for name, scaling, sleep in SERVICES:
                world.add(name, scaling=scaling, sleep=sleep)
                await world.serving(name)
            world.chances = chances
            for step in range(STEPS):
                happen(world)
                await asyncio.sleep(pause(world))
                world.advance_rollouts()
                world.check(f"seed {seed}, step {step}")
            await come_to_rest(world)
            assert world.statuses[200] > STEPS
            assert "nobody_listens" not in {one.code for one in world.answers}

    bent.run(story)


# --- delicate moments -------------------------------------------------------------------------------------------------


def tell(tmp_path: Path, story: Callable[[World, Service], Coroutine[Any, Any, None]], **service: Any) -> None:
    """A story of one service that serves, named `web`."""

    async def told() -> None:
        world = World(tmp_path, 1, holding=Holding(per_service=10, per_site=20))
        async with running(world):
            world.add("web", **service)
            await world.serving("web")
            await story(world, next(iter(world.services.values())))

    bent.run(told)


async def asleep(world: World, service: Service, command: Command = Command.STOP) -> None:
    world.order(service, command)
    await asyncio.sleep(5)
    assert world.site.reconciler.units[0].rung is not Rung.RUNNING


def test_a_burst_is_one_start_and_the_queue_has_a_bound(tmp_path: Path) -> None:
    async def story(world: World, service: Service) -> None:
        await asleep(world, service)
        starts = world.starts
        await asyncio.gather(*(world.call("web.localhost", SECOND) for _ in range(25)))
        assert world.starts == starts + 1
        assert world.statuses == {200: 10, 429: 15}

    tell(tmp_path, story)


@pytest.mark.parametrize("after", [0.0, 0.001, 0.003, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3])
def test_a_call_at_any_moment_of_falling_asleep_is_answered(tmp_path: Path, after: float) -> None:
    async def story(world: World, service: Service) -> None:
        for _ in range(10):
            world.order(world.services[service.id], Command.SLEEP)
            await asyncio.sleep(after)
            await asyncio.gather(*(world.call("web.localhost", SECOND / 100) for _ in range(3)))
            await asyncio.sleep(world.chance.uniform(0, 1))
        assert world.statuses == {200: 30}

    tell(tmp_path, story)


def test_one_who_waits_does_not_wait_longer_than_a_start_may_take(tmp_path: Path) -> None:
    async def story(world: World, service: Service) -> None:
        await asleep(world, service)
        world.chances = replace(QUIET, deaf=1.0)
        began = world.clock.steady()
        await world.call("web.localhost", SECOND)
        assert world.answers[-1].status == 503
        assert world.clock.steady() - began <= DEADLINES.startup.total_seconds() + 1

    tell(tmp_path, story)


def test_a_start_that_fails_is_told_at_once_and_tried_again_later(tmp_path: Path) -> None:
    async def story(world: World, service: Service) -> None:
        await asleep(world, service)
        world.chances = replace(QUIET, refused=1.0)
        await asyncio.gather(*(world.call("web.localhost", SECOND) for _ in range(5)))
        assert world.statuses == {503: 5}
        assert {one.code for one in world.answers} == {"start_failed"}
        assert world.starts <= 4, "a start that failed is not tried for each caller"
        world.chances = QUIET
        await asyncio.sleep(61)
        await world.call("web.localhost", SECOND)
        assert world.answers[-1].status == 200

    tell(tmp_path, story)


def test_what_answers_nobody_any_more_is_given_nothing_and_replaced_once_it_is_gone(tmp_path: Path) -> None:
    async def story(world: World, service: Service) -> None:
        await world.call("web.localhost", SECOND)
        (replica,) = world.alive()
        starts = world.starts
        world.site.reconciler.ending(replica)
        await asyncio.sleep(1)  # the gateway hears of it
        calling = world.call("web.localhost", SECOND)
        await asyncio.sleep(3)
        assert (calling.done(), world.starts) == (False, starts)
        world.crash(replica)
        await calling
        assert (world.answers[-1].status, world.starts) == (200, starts + 1)

    tell(tmp_path, story)


def test_those_who_wait_outlast_several_ends_of_replicas_that_were_ready(tmp_path: Path) -> None:
    async def story(world: World, service: Service) -> None:
        for _ in range(3):
            await world.call("web.localhost", SECOND)
            assert world.answers[-1].status == 200
            for replica in world.alive():
                world.crash(replica)

    tell(tmp_path, story)


JUMPS = pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-1)], ids=["forwards", "back"])


@JUMPS
def test_a_clock_that_is_set_puts_nobody_to_sleep_early_or_late(tmp_path: Path, jump: timedelta) -> None:
    """Unused, it is frozen after 5 s and stopped after 40 s, whatever the clock says."""

    async def story(world: World, service: Service) -> None:
        await asleep(world, service)
        await world.call("web.localhost", SECOND)
        (unit,) = world.site.reconciler.units
        world.clock.set(jump)
        for after, rung in ((3, Rung.RUNNING), (7, Rung.FROZEN), (38, Rung.FROZEN), (45, Rung.STOPPED)):
            await asyncio.sleep(after - (world.clock.even() - unit._memory.last_used).total_seconds())
            assert unit.rung is rung, f"{after} s after its last use"

    tell(tmp_path, story, sleep=Sleep(freeze_after=5 * SECOND, stop_after=40 * SECOND))


@JUMPS
def test_a_clock_that_is_set_neither_skips_nor_stretches_a_pause(tmp_path: Path, jump: timedelta) -> None:
    async def story(world: World, service: Service) -> None:
        await asleep(world, service)
        world.chances = replace(QUIET, refused=1.0)
        await world.call("web.localhost", SECOND)
        assert world.answers[-1].status == 503
        starts = world.starts
        world.clock.set(jump)
        await world.call("web.localhost", SECOND)
        assert (world.answers[-1].status, world.starts) == (503, starts), "the pause goes on"
        world.chances = QUIET
        await asyncio.sleep(61)
        await world.call("web.localhost", SECOND)
        assert world.answers[-1].status == 200

    tell(tmp_path, story)


def test_a_caller_who_leaves_wakes_it_all_the_same_and_frees_the_queue(tmp_path: Path) -> None:
    async def story(world: World, service: Service) -> None:
        await asleep(world, service)
        calls = [world.call("web.localhost", SECOND) for _ in range(10)]
        await asyncio.sleep(0.05)
        for one in calls:
            one.cancel()
        await asyncio.sleep(0.05)
        assert world.site.reconciler.waiting == 0
        await world.call("web.localhost", SECOND)
        assert world.answers[-1].status == 200

    tell(tmp_path, story)


def test_those_who_wait_for_a_revision_that_loses_its_traffic_are_served_by_the_next(tmp_path: Path) -> None:
    async def story(world: World, service: Service) -> None:
        world.try_revision(service)
        await asyncio.sleep(8)
        (trial,) = [unit for unit in world.site.reconciler.units if unit.role == "trial"]
        assert trial.replicas.ready
        await asleep(world, world.services[service.id])
        world.chances = replace(QUIET, slow=1.0)
        calls = [world.call("web.localhost", SECOND) for _ in range(5)]
        await asyncio.sleep(0.5)
        assert world.site.reconciler.waiting == 5
        world.advance_rollouts()
        await asyncio.gather(*calls)
        assert world.statuses == {200: 5}

    tell(tmp_path, story)


@pytest.mark.parametrize("after", [0.001, 0.004, 0.02, 0.06])
def test_what_is_stopped_while_it_starts_is_not_left_behind(tmp_path: Path, after: float) -> None:
    async def story(world: World, service: Service) -> None:
        await asleep(world, service)
        world.order(world.services[service.id], Command.WAKE)
        await asyncio.sleep(after)
        world.order(world.services[service.id], Command.STOP)
        await asyncio.sleep(30)
        assert world.alive() == []

    tell(tmp_path, story)


def test_what_crashes_as_it_is_stopped_has_ended(tmp_path: Path) -> None:
    async def story(world: World, service: Service) -> None:
        await asleep(world, service, Command.SLEEP)
        (unit,) = world.site.reconciler.units
        world.crash(world.alive()[0])
        unit.command(Command.STOP)
        await asyncio.sleep(30)
        assert unit.replicas.alive == []

    tell(tmp_path, story)


def test_what_fails_its_liveness_probe_is_given_nothing_more_and_replaced(tmp_path: Path) -> None:
    async def story(world: World, service: Service) -> None:
        (hung,) = world.alive()
        world.driver.hung.add(hung)
        await asyncio.sleep(15)
        assert hung not in world.alive()
        assert len(world.alive()) == 1
        await world.call("web.localhost", SECOND)
        assert world.answers[-1].status == 200

    health = Health(liveness=Probe(period=SECOND, failures=2))
    tell(tmp_path, story, scaling=Scaling(min=1), health=health)


def test_what_lost_its_traffic_ends_and_is_forgotten(tmp_path: Path) -> None:
    async def story(world: World, service: Service) -> None:
        replaced = world.alive()
        world.try_revision(service)
        for _ in range(30):
            await asyncio.sleep(1)
            world.advance_rollouts()
        assert len(world.alive()) == 1
        assert not set(replaced) & set(world.alive())
        assert len(world.site.reconciler.units) == 1

    tell(tmp_path, story)


def test_a_stream_outlives_a_deploy_until_its_drain_deadline(tmp_path: Path) -> None:
    async def story(world: World, service: Service) -> None:
        short = world.call("web.localhost", 3 * SECOND)
        world.call("web.localhost", timedelta(hours=1))
        await asyncio.sleep(0.5)
        (old,) = world.alive()
        world.try_revision(service)
        await world.serving("web")
        while world.services[service.id].trial is not None:
            await asyncio.sleep(0.1)
            world.advance_rollouts()
        await short
        assert world.answers[-1].status == 200
        await asyncio.sleep(DEADLINES.drain.total_seconds() + 5)
        assert world.statuses == {200: 1, 502: 1}
        assert old not in world.alive()

    tell(tmp_path, story)


@pytest.mark.parametrize(
    "alone", [{"port": 8_000}, {"volumes": (Volume(name="data", path="data", size=2**20),)}], ids=["port", "volume"]
)
def test_what_is_one_replicas_is_used_by_one_at_a_time(tmp_path: Path, alone: dict[str, Any]) -> None:
    async def story(world: World, service: Service) -> None:
        world.try_revision(service, **alone)
        await asyncio.sleep(10)
        world.advance_rollouts()
        await asyncio.sleep(10)
        for _ in range(30):
            for _ in range(5):
                world.call("web.localhost", timedelta(seconds=world.chance.uniform(0, 10)))
            world.order(world.services[service.id], world.chance.choice(list(Command)))
            await asyncio.sleep(world.chance.uniform(0, 3))
            if world.alive() and world.chance.random() < 0.3:
                world.crash(world.alive()[0])
            world.check()

    tell(tmp_path, story, scaling=Scaling(max=3, concurrency=1))


def test_what_makes_no_sense_of_one_service_keeps_no_other_from_going(tmp_path: Path) -> None:
    """A trial of what is another service's revision: who signs desired states must not freeze what passes here."""

    async def story(world: World, service: Service) -> None:
        world.add("odd")
        await world.serving("odd")
        odd = world.services[ServiceId("sv-odd")]
        world.put(replace(odd, trial=Trial(revision=service.shares[0].revision, rollout=RolloutId("ro-odd"))))
        await asyncio.sleep(1)
        del world.services[service.id]
        world.desire()
        await asyncio.sleep(5)
        answer = await world.site.gateway.call(service.hosts[0], SECOND)
        assert answer.code == "no_route"

    tell(tmp_path, story)
