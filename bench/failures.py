"""How many requests fail while things sleep, wake, change and die? The goal is none.

Callers come again and again on connections of their own, nothing is retried, and every exchange has a deadline
(`demo/load.py`). Where Envoy itself is killed, connections that are open break, as they must: those are counted and
told apart, with no goal.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from bench.errors import Unmeasured
from bench.installation import Installation, eventually
from bench.rows import Row, skipped
from demo.load import Outcome, Request, Tally, Target, burst, call
from kasbah import proc

APP = Path(__file__).parents[1] / "examples" / "hello-python"
BURST = 500
CYCLES, QUICK_CYCLES = 100, 30
CALLERS = 8
SERVICES = ("bursty", "steady", "sleepy")
HELD = 30
RUNGS = ("frozen", "stopped")
PARTS = ("agent", "control", "runner", "envoy")
WITHIN_SECONDS = 240.0
HEALTH = Request(path="/healthz")


def measure(site: Installation, folder: Path, *, quick: bool) -> Iterator[Row]:
    """The rows of this group."""
    cycles = QUICK_CYCLES if quick else CYCLES
    failures = _Failures(site, folder)
    for name in SERVICES:
        failures.deploy(name)
    with asyncio.Runner() as runner:
        for rung in RUNGS:
            yield runner.run(_told(f"cold burst of {BURST} from {rung}", failures.burst(rung)))
        yield runner.run(_told(f"{cycles} sleep and wake cycles under callers", failures.cycles(cycles)))
        yield runner.run(_told("a rollout under callers", failures.rollout()))
        for part in PARTS:
            yield runner.run(_told(_killed(part), failures.kill(part), judged=part != "envoy"))


class _Failures:
    """One installation, and three services of the same app."""

    def __init__(self, site: Installation, folder: Path) -> None:
        self._site = site
        self._folder = folder

    async def burst(self, rung: str) -> tuple[Tally, str]:
        await asyncio.to_thread(self._asleep, "bursty", rung)
        tally = await burst(self._site.target("bursty"), HEALTH, BURST)
        return tally, f"slowest {tally.slowest_ms:.0f} ms"

    async def cycles(self, count: int) -> tuple[Tally, str]:
        """Order it to sleep again and again while callers come; a cycle is a wake that is on record."""
        target, site = self._site.target("sleepy"), self._site
        chance = Random(7)
        woken: set[str] = set()
        began = time.monotonic()
        async with callers(target, count=3, pause=0.8) as outcomes:
            before = {one["id"] for one in (await asyncio.to_thread(site.describe, "sleepy"))["wakes"]}
            while len(woken) < count and time.monotonic() - began < WITHIN_SECONDS:
                await asyncio.to_thread(site.order_sleep, "sleepy", RUNGS[len(woken) % 5 == 4])
                await asyncio.sleep(chance.uniform(0.05, 0.4))
                seen = (await asyncio.to_thread(site.describe, "sleepy"))["wakes"]
                woken |= {one["id"] for one in seen} - before
        if len(woken) < count:
            raise Unmeasured(f"it was woken {len(woken)} of {count} times within {WITHIN_SECONDS:.0f} s")
        return Tally.of(outcomes), f"{len(woken)} wakes, a fifth of the orders to stop"

    async def rollout(self) -> tuple[Tally, str]:
        async with callers(self._site.target("steady"), count=CALLERS, pause=0.01) as outcomes:
            await asyncio.to_thread(self.deploy, "steady", marked=True)
            during = len(outcomes)
            await asyncio.sleep(0.5)
        return Tally.of(outcomes), f"{during} of them while it was rolled out"

    async def kill(self, part: str) -> tuple[Tally, str]:
        """SIGKILL one part while callers come to a service that is awake, and others wait for one that sleeps."""
        await asyncio.to_thread(self._asleep, "sleepy", "stopped")
        async with callers(self._site.target("steady"), count=CALLERS, pause=0.01) as outcomes:
            await asyncio.sleep(0.3)
            waiting = asyncio.ensure_future(burst(self._site.target("sleepy"), HEALTH, HELD))
            pid = self._site.pid(part)
            os.kill(pid, signal.SIGKILL)
            began = time.monotonic()
            await asyncio.to_thread(eventually, lambda: self._back(part, pid), f"{part} to be back")
            took = time.monotonic() - began
            held = await waiting
            await asyncio.sleep(0.5)
        tally = Tally.of(outcomes)
        joined = Tally(
            requests=tally.requests + held.requests,
            failed=tally.failed + held.failed,
            statuses=tally.statuses + held.statuses,
            faults=tally.faults + held.faults,
            slowest_ms=max(tally.slowest_ms, held.slowest_ms),
            example=tally.example or held.example,
        )
        return joined, f"back after {took:.1f} s, slowest answer {joined.slowest_ms:.0f} ms, {HELD} waited for a wake"

    def _back(self, part: str, killed: int) -> bool:
        try:
            pid = self._site.pid(part)
        except (OSError, ValueError, KeyError):
            return False
        return pid != killed and proc.runs(pid) and self._site.ready()

    def _asleep(self, name: str, rung: str) -> None:
        self._site.wake(name)
        self._site.sleep(name, rung)

    def deploy(self, name: str, *, marked: bool = False) -> None:
        """Deploy the app under a name; `marked`, with a source that is another than before."""
        folder = self._folder / name
        shutil.copytree(APP, folder, dirs_exist_ok=True)
        text = (folder / "kasbah.yaml").read_text().replace("hello-python:", f"{name}:")
        sleep = "sleep: {freeze_after: never, stop_after: never}"
        lines = [line if "sleep:" not in line else f"    {sleep}" for line in text.splitlines()]
        (folder / "kasbah.yaml").write_text("\n".join(lines) + "\n")
        if marked:
            with (folder / "app.py").open("a") as source:
                source.write("# another revision\n")
        self._site.deploy(folder)


def _killed(part: str) -> str:
    return f"SIGKILL of {'Envoy' if part == 'envoy' else f'the {part}'} under callers"


async def _told(name: str, work: Awaitable[tuple[Tally, str]], *, judged: bool = True) -> Row:
    name = f"failed requests: {name}"
    try:
        tally, note = await work
    except Unmeasured as reason:
        return skipped(name, str(reason))
    kinds = ", ".join(f"{count} {fault}" for fault, count in sorted(tally.faults.items()))
    if tally.failed:
        note = f"{note}; {kinds}; {tally.example[:120]}"
    return Row(
        name=name,
        ours=tally.failed,
        reference=tally.requests,
        reference_name="requests",
        goal="0" if judged else "told, no goal",
        ok=tally.failed == 0 if judged else None,
        note=note,
    )


@asynccontextmanager
async def callers(target: Target, *, count: int, pause: float) -> AsyncIterator[list[Outcome]]:
    """Callers who come again and again, each after a random pause, for as long as the block runs."""
    outcomes: list[Outcome] = []
    over = asyncio.Event()
    chance = Random(2)

    async def caller() -> None:
        while not over.is_set():
            outcomes.append(await call(target, HEALTH))
            await asyncio.sleep(chance.uniform(0, pause))

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(caller())
        try:
            yield outcomes
        finally:
            over.set()
