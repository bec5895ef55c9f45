"""What every driver does, on each of them: the real one with real processes, and the simulated one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import pytest

from kasbah.agent.paths import Paths
from kasbah.agent.runner.launch import process_driver
from kasbah.clock import SystemClock
from kasbah.domain.ids import ReplicaId, RevisionId, ServiceId
from kasbah.domain.replica import Exit
from kasbah.drivers.interface import Driver, Running, StartOrder
from kasbah.drivers.process import ProcessDriver
from kasbah.drivers.simulated import Program, SimulatedDriver
from kasbah.errors import Conflict, Invalid, NotFound

SERVES = ("/bin/sh", "-c", "echo up; exec sleep 1000")
FAILS = ("/bin/sh", "-c", "echo first; echo last >&2; exit 3")
CRASHES = ("/bin/sh", "-c", "kill -SEGV $$")
STUBBORN = ("/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.02; done")
MISSING = ("no-such-command",)

SIMULATED = {
    SERVES: Program(says=("up",)),
    FAILS: Program(says=("first", "last"), ends_after=timedelta(), ends_with=Exit(code=3)),
    CRASHES: Program(ends_after=timedelta(), ends_with=Exit(signal="SIGSEGV")),
    STUBBORN: Program(says=("up",), obeys_after=None),
    MISSING: Program(refusal=Invalid("command not found: no-such-command", code="command_not_found")),
}
A = ReplicaId("rp-a")
B = ReplicaId("rp-b")
SOON = timedelta(milliseconds=50)
LONG = timedelta(seconds=20)


class Stage(Protocol):
    driver: Driver

    def order(self, replica: ReplicaId, argv: tuple[str, ...]) -> StartOrder: ...

    async def reconnect(self) -> Driver: ...


class RealStage:
    def __init__(self, root: Path) -> None:
        self.paths = Paths(root)
        self.paths.make()
        self.app = root / "source"
        self.app.mkdir()
        self.driver: ProcessDriver = process_driver(self.paths)

    def order(self, replica: ReplicaId, argv: tuple[str, ...]) -> StartOrder:
        return order(replica, argv, self.app)

    async def reconnect(self) -> Driver:
        await self.driver.close()
        self.driver = process_driver(self.paths)
        return self.driver

    async def close(self) -> None:
        await self.driver.shutdown(drain=timedelta())
        await self.driver.close()


class SimulatedStage:
    def __init__(self, root: Path) -> None:
        self.app = root
        self.driver = SimulatedDriver(SystemClock(), lambda order: SIMULATED[order.argv])

    def order(self, replica: ReplicaId, argv: tuple[str, ...]) -> StartOrder:
        return order(replica, argv, self.app)

    async def reconnect(self) -> Driver:
        return self.driver


def order(replica: ReplicaId, argv: tuple[str, ...], app: Path) -> StartOrder:
    return StartOrder(
        replica=replica,
        service=ServiceId("sv-a"),
        revision=RevisionId("rv-a"),
        argv=argv,
        env={"PATH": "/usr/bin:/bin"},
        app=app,
        port=4321,
    )


@pytest.fixture(params=[pytest.param("process", marks=pytest.mark.real), "simulated"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    if request.param == "simulated":
        yield SimulatedStage(tmp_path)
        return
    real = RealStage(tmp_path)
    try:
        yield real
    finally:
        await real.close()


async def test_a_started_replica_is_listed(stage: Stage) -> None:
    started = await stage.driver.start(stage.order(A, SERVES))
    assert started.address.endswith(":4321")
    assert started.pid is not None
    assert started.exit is None
    assert await stage.driver.list() == (started,)


async def test_starting_again_starts_nothing(stage: Stage) -> None:
    first, second = await asyncio.gather(
        stage.driver.start(stage.order(A, SERVES)), stage.driver.start(stage.order(A, SERVES))
    )
    assert first.pid == second.pid
    assert len(await stage.driver.list()) == 1


async def test_an_exit_code_comes_with_the_last_lines(stage: Stage) -> None:
    events = await stage.driver.events()
    await stage.driver.start(stage.order(A, FAILS))
    assert await next_of(events) == A
    ended = await the(stage.driver, A)
    assert ended.exit is not None
    assert ended.exit.code == 3
    assert ended.exit.signal is None
    assert set(ended.exit.tail) == {"first", "last"}


async def test_a_signal_is_named(stage: Stage) -> None:
    events = await stage.driver.events()
    await stage.driver.start(stage.order(A, CRASHES))
    assert await next_of(events) == A
    assert (await exit_of(stage.driver, A)).signal == "SIGSEGV"


async def test_stop_asks_first(stage: Stage) -> None:
    events = await stage.driver.events()
    await up(stage, A, SERVES)
    await stage.driver.stop(A, drain=LONG)
    assert await next_of(events) == A
    assert (await exit_of(stage.driver, A)).signal == "SIGTERM"


async def test_stop_kills_what_does_not_listen(stage: Stage) -> None:
    events = await stage.driver.events()
    await up(stage, A, STUBBORN)
    await stage.driver.stop(A, drain=SOON)
    assert await next_of(events) == A
    ending = await exit_of(stage.driver, A)
    assert ending.signal == "SIGKILL"
    assert "SIGTERM" in ending.reason


async def test_stop_reaches_a_frozen_replica(stage: Stage) -> None:
    events = await stage.driver.events()
    await up(stage, A, SERVES)
    await stage.driver.freeze(A)
    await stage.driver.stop(A, drain=LONG)
    assert await next_of(events) == A
    assert (await exit_of(stage.driver, A)).signal == "SIGTERM"


async def test_frozen_is_shown_until_thawed(stage: Stage) -> None:
    await up(stage, A, SERVES)
    await stage.driver.freeze(A)
    await stage.driver.freeze(A)
    assert (await the(stage.driver, A)).frozen
    await stage.driver.thaw(A)
    await stage.driver.thaw(A)
    assert not (await the(stage.driver, A)).frozen


async def test_ending_what_is_gone_succeeds(stage: Stage) -> None:
    await stage.driver.stop(A, drain=SOON)
    await stage.driver.forget(A)
    events = await stage.driver.events()
    await stage.driver.start(stage.order(A, FAILS))
    assert await next_of(events) == A
    await stage.driver.stop(A, drain=SOON)
    assert (await exit_of(stage.driver, A)).code == 3


async def test_what_cannot_be_is_refused(stage: Stage) -> None:
    with pytest.raises(NotFound):
        await stage.driver.freeze(A)
    with pytest.raises(NotFound):
        await stage.driver.thaw(A)
    events = await stage.driver.events()
    await stage.driver.start(stage.order(A, SERVES))
    with pytest.raises(Conflict):
        await stage.driver.forget(A)
    await stage.driver.start(stage.order(B, FAILS))
    assert await next_of(events) == B
    with pytest.raises(Conflict):
        await stage.driver.freeze(B)
    with pytest.raises(Conflict):
        await stage.driver.start(stage.order(B, SERVES))


async def test_a_missing_command_is_refused_and_leaves_nothing(stage: Stage) -> None:
    with pytest.raises(Invalid, match="no-such-command") as refused:
        await stage.driver.start(stage.order(A, MISSING))
    assert refused.value.code == "command_not_found"
    assert await stage.driver.list() == ()
    assert (await stage.driver.start(stage.order(A, SERVES))).exit is None


async def test_forgotten_is_not_listed(stage: Stage) -> None:
    events = await stage.driver.events()
    await stage.driver.start(stage.order(A, FAILS))
    assert await next_of(events) == A
    await stage.driver.forget(A)
    await stage.driver.forget(A)
    assert await stage.driver.list() == ()


async def test_the_tail_is_what_was_written(stage: Stage) -> None:
    await up(stage, A, SERVES)
    lines = await stage.driver.tail(A, 10)
    assert [(line.replica, line.stream, line.text) for line in lines] == [(A, "stdout", "up")]
    assert await stage.driver.tail(A, 0) == ()
    assert await stage.driver.tail(B, 10) == ()


async def test_a_new_connection_finds_everything(stage: Stage) -> None:
    started = await stage.driver.start(stage.order(A, SERVES))
    await stage.driver.start(stage.order(B, FAILS))
    driver = await stage.reconnect()
    assert await next_of(await driver.events()) == B
    assert (await the(driver, A)) == started
    assert (await exit_of(driver, B)).code == 3


async def test_isolation_is_told(stage: Stage) -> None:
    isolation = await stage.driver.isolation()
    assert isolation.mechanisms
    assert all(reason for _, reason in isolation.missing)
    assert isolation.egress in ("open", "closable", "enforced")


async def test_a_simulated_crash_comes_when_the_test_says_and_waits_while_frozen() -> None:
    driver = SimulatedDriver(SystemClock(), lambda _order: Program(ends_after=timedelta(), ends_with=Exit(code=9)))
    events = await driver.events()
    await driver.start(order(A, SERVES, Path()))
    await driver.freeze(A)
    await asyncio.sleep(0)  # lets the end come due
    await asyncio.sleep(0)
    assert (await the(driver, A)).exit is None
    driver.say(A, "last words")
    await driver.thaw(A)
    assert await next_of(events) == A
    assert await exit_of(driver, A) == Exit(code=9, tail=("last words",))
    with pytest.raises(Conflict):
        driver.end(A, Exit(code=1))


async def up(stage: Stage, replica: ReplicaId, argv: tuple[str, ...]) -> None:
    """Start a replica and wait until its program has said that it is up."""
    await stage.driver.start(stage.order(replica, argv))
    async with asyncio.timeout(20):
        while not await stage.driver.tail(replica, 1):  # noqa: ASYNC110 another process tells no event
            await asyncio.sleep(0.005)


async def the(driver: Driver, replica: ReplicaId) -> Running:
    return next(one for one in await driver.list() if one.replica == replica)


async def exit_of(driver: Driver, replica: ReplicaId) -> Exit:
    ending = (await the(driver, replica)).exit
    assert ending is not None
    return ending


async def next_of(events: AsyncIterator[ReplicaId]) -> ReplicaId:
    async with asyncio.timeout(20):
        return await anext(events)
