"""Any part is killed under load: what serves keeps serving, what waits is answered, and the part comes back.

Callers of every kind come all the while; not one of their calls may fail, but for what was on a killed replica and may
not be sent twice, and what was on a connection of a killed gateway.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from apart import SLOW, UPLOAD, Apart, Kind, Traffic, callers, frozen, killed, parts_apart, read, traffic
from support import WAIT_SECONDS, Document, Site, eventually, installation, probe

from demo.load import Request, Target, call, digest
from kasbah import proc

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

AWAKE = {"sleep": {"freeze_after": "never", "stop_after": "never"}}
DROWSY = {"sleep": {"freeze_after": "200ms", "stop_after": "4s"}}
TWO = {**AWAKE, "scaling": {"min": 2, "max": 2}}
GROWING = {**AWAKE, "scaling": {"min": 1, "max": 2, "concurrency": 5}}
HELD = 30


@dataclass
class Installed:
    """An installation with services of several kinds."""

    site: Apart

    def load(self, steady: str = "steady") -> dict[str, Kind]:
        return callers(self.site.target(steady), self.site.target("drowsy"))

    def pid_of(self, name: str) -> int:
        """The process that answers for a service."""
        answer = self.site.get(name)
        assert answer.status_code == 200, answer.text
        return self.site.process_of(answer.json()["replica"])

    @property
    def runner(self) -> int:
        said = read(self.site.data_dir / "agent/runner/runner.json")
        assert said is not None
        return int(str(said["pid"]))

    @property
    def outliving(self) -> tuple[int, int, int]:
        """The processes that outlive an agent: Envoy, the runner, a replica."""
        return self.site.pid("envoy"), self.runner, self.pid_of("steady")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    home = tmp_path_factory.mktemp("survival")
    with parts_apart(home) as site:
        site.deploy(
            probe(home / "app", {"steady": AWAKE, "drowsy": DROWSY, "twins": TWO, "growing": GROWING, "cold": AWAKE})
        )
        yield Installed(site)


@pytest.fixture
def installed(shared: Installed) -> Installed:
    """All parts run and every service is awake."""
    for part in ("control", "agent"):
        if shared.site.parts[part].poll() is not None:
            shared.site.start(part)
    return shared


def none_failed(seen: Traffic, *kinds: str) -> None:
    tally = seen.tally(*kinds)
    assert tally.failed == 0, f"{tally.failed} of {tally.requests} failed: {seen.failed(*kinds)[:5]}"


async def test_the_control_plane(installed: Installed, tmp_path: Path) -> None:
    """Services serve, sleep, wake and grow from the agent's ledger; deploys go on once it is back."""
    site = installed.site
    async with traffic(installed.load()) as seen:
        site.kill("control")
        sleeper = await asyncio.to_thread(installed.pid_of, "drowsy")
        assert await asyncio.to_thread(installed.pid_of, "drowsy") == sleeper
        await seen.reaches(3, "get", "slow", "upload", "events", "socket", "sleeper")
        answering: set[str] = set()
        while len(answering) < 2:
            outcomes = await asyncio.gather(*(call(site.target("growing"), SLOW) for _ in range(20)))
            assert not [one for one in outcomes if one.fault], outcomes
            answering = {json.loads(one.body)["replica"] for one in outcomes}
        await asyncio.to_thread(site.start, "control")
        await asyncio.to_thread(site.deploy, probe(tmp_path, {"afterwards": AWAKE}))
        assert (await call(site.target("afterwards"), Request())).fault is None
    none_failed(seen)


async def test_sleep_and_wake_without_the_control_plane(installed: Installed) -> None:
    site = installed.site
    await asyncio.to_thread(site.reaches, "drowsy", "stopped")
    site.kill("control")
    woken = await asyncio.to_thread(installed.pid_of, "drowsy")
    await asyncio.to_thread(eventually, lambda: frozen(woken), lambda: "it never froze")
    assert await asyncio.to_thread(installed.pid_of, "drowsy") == woken
    await asyncio.to_thread(eventually, lambda: not proc.runs(woken), lambda: "it never stopped")
    assert await asyncio.to_thread(installed.pid_of, "drowsy") != woken


async def test_the_agent(installed: Installed) -> None:
    """Envoy serves on; who is held is answered by the next agent, which adopts everything."""
    site = installed.site
    await asyncio.to_thread(site.sleep, "cold", "stopped")
    before = await asyncio.to_thread(lambda: installed.outliving)
    async with traffic(installed.load()) as seen:
        os.kill(site.parts["agent"].pid, signal.SIGSTOP)
        held = [asyncio.create_task(call(site.target("cold"), Request())) for _ in range(HELD)]
        held += [asyncio.create_task(digest(site.target("cold"), "/digest", UPLOAD)) for _ in range(5)]
        await seen.reaches(2, "get", "slow", "upload", "events", "socket")
        site.kill("agent")
        late = [asyncio.create_task(call(site.target("cold"), Request())) for _ in range(HELD)]
        await seen.reaches(2, "get", "slow", "upload", "events", "socket")
        await asyncio.to_thread(site.start, "agent")
        ready = time.monotonic()
        answers = await asyncio.gather(*held, *late)
        print(f"held requests were answered {time.monotonic() - ready:.2f} s after the next agent was ready")
        await seen.reaches(1, "sleeper")
    assert [one for one in answers if one.fault] == []
    none_failed(seen)
    assert await asyncio.to_thread(lambda: installed.outliving) == before


async def test_the_runner(installed: Installed) -> None:
    """Replicas serve on; the next runner adopts them, and tells who ended meanwhile."""
    site = installed.site
    cold = await asyncio.to_thread(installed.pid_of, "cold")
    before = await asyncio.to_thread(lambda: installed.outliving)
    async with traffic(installed.load()) as seen:
        killed(installed.runner)
        killed(cold)
        await seen.reaches(2, "get", "slow", "upload", "events", "socket", "sleeper")
        assert await asyncio.to_thread(installed.pid_of, "cold") != cold
    none_failed(seen)
    after = await asyncio.to_thread(lambda: installed.outliving)
    assert (after[0], after[2]) == (before[0], before[2])
    assert after[1] != before[1]
    seen_of = await asyncio.to_thread(
        site.becomes, "cold", lambda told: any(one["pid"] == cold and one["exit"] for one in told["replicas"]), "ended"
    )
    ended = next(one for one in seen_of["replicas"] if one["pid"] == cold)
    assert "exit code is unknown" in ended["exit"]


async def test_the_gateway(installed: Installed) -> None:
    """Only what was on its connections breaks; it is back, configured, and sleep goes on."""
    site = installed.site
    steady = await asyncio.to_thread(installed.pid_of, "steady")
    async with traffic(installed.load()) as seen:
        envoy = site.pid("envoy")
        began = time.monotonic()
        killed(envoy)
        back = await _serves_again(site)
        print(f"the gateway served again after {back - began:.2f} s")
        await seen.reaches(2, "get", "slow", "upload", "events", "socket", "sleeper")
    wrong = [one for one in seen.failed() if one.ended < began or one.began > back]
    assert wrong == []
    assert site.pid("envoy") != envoy
    assert await asyncio.to_thread(installed.pid_of, "steady") == steady
    for rung in ("frozen", "stopped"):
        await asyncio.to_thread(site.sleep, "cold", rung)
        assert (await call(site.target("cold"), Request())).fault is None


async def _serves_again(site: Site) -> float:
    """When a call succeeds."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            if (await call(site.target("steady"), Request())).fault is None:
                return time.monotonic()
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("name", ["steady", "twins"])
async def test_a_replica(installed: Installed, name: str) -> None:
    """What was on it and may not be sent twice, or had begun to be answered, fails, and is counted; nothing else."""
    site = installed.site
    await asyncio.to_thread(site.sleep, name, "stopped")  # so that its next replica is of the runner that runs
    await asyncio.to_thread(installed.pid_of, name)
    await asyncio.to_thread(site.becomes, name, lambda told: told["ready"] >= 1 + (name == "twins"), "is ready")
    before = await asyncio.to_thread(_failed, site, name)
    kinds = installed.load(name)
    kinds["post"] = (lambda: call(site.target(name), Request(method="POST", path=SLOW.path)), 2, 0.05)
    async with traffic(kinds) as seen:
        victim = await asyncio.to_thread(installed.pid_of, name)
        began = time.monotonic()
        killed(victim)
        told = await asyncio.to_thread(site.becomes, name, lambda told: bool(_ended(told, victim)), "says how it ended")
        known = time.monotonic()  # and so has the gateway for some time
        await seen.reaches(2, "get", "slow", "upload", "events", "socket", "post")
    none_failed(seen, "get", "slow", "sleeper")
    assert [one for one in seen.failed() if not (one.began <= known and began <= one.ended + 0.1)] == []
    (ended,) = _ended(told, victim)
    assert ended["exit"] == "killed by SIGKILL"
    counted = len(seen.failed("upload", "post", "events"))
    await asyncio.to_thread(site.becomes, name, lambda told: told["usage"]["failed"] - before == counted, "counts them")


def _ended(told: Document, pid: int) -> list[Document]:
    return [one for one in told["replicas"] if one["pid"] == pid and one["exit"]]


def _failed(site: Site, name: str) -> int:
    return int(site.describe(name)["usage"]["failed"])


@dataclass
class Counted:
    """An installation of its own, started as people start it, and how many requests were sent to it."""

    site: Site
    sent: int = 0

    def pid_of(self, name: str) -> int:
        self.sent += 1
        return self.site.process_of(self.site.get(name).json()["replica"])

    def all_counted(self) -> bool:
        return sum(one["usage"]["requests"] for one in map(self.site.describe, EVERYTHING)) == self.sent


EVERYTHING = ("first", "guarded")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counted]:
    home = tmp_path_factory.mktemp("everything")
    with installation(home) as site:
        site.deploy(probe(home / "app", {"first": AWAKE, "guarded": {**AWAKE, "access": "key"}}))
        yield Counted(site)


def world(pid: int) -> str:
    """A process's pid namespace, whose first process may be another than the replica's: without it all of it ends."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def lineage(pid: int) -> Iterator[int]:
    """A process, its parent, and so on."""
    while pid > 1:
        yield pid
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return


@pytest.mark.parametrize("replicas_too", [False, True])
async def test_everything_at_once(own: Counted, replicas_too: bool) -> None:
    """The next `up` returns to what was asked for: nothing acknowledged is lost, nothing is left that nobody owns."""
    site = own.site
    serving = {name: own.pid_of(name) for name in EVERYTHING}
    eventually(own.all_counted, lambda: f"{own.sent} requests, counted {list(map(site.describe, EVERYTHING))}")
    key = site.json("keys", "create", f"made{replicas_too}")["key"]
    site.ok("scale", "first", "--min", "1", "--max", str(3 + replicas_too))
    spared = frozenset() if replicas_too else frozenset(serving.values())
    worlds = {world(pid) for pid in spared} - {world(os.getpid())}
    doomed = {pid for pid in site.processes() if not spared & set(lineage(pid)) and world(pid) not in worlds}
    for pid in doomed:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(map(proc.runs, doomed)), lambda: f"they live: {list(filter(proc.runs, doomed))}")

    await asyncio.to_thread(site.up)
    after = {name: own.pid_of(name) for name in EVERYTHING}
    assert [after[name] == serving[name] for name in EVERYTHING] == [not replicas_too] * 2
    own.sent += 1
    assert (await call(Target(address=site.gateway, host="guarded.localhost", key=key), Request())).fault is None
    assert site.describe("first")["scaling"]["max"] == 3 + replicas_too
    eventually(own.all_counted, lambda: f"{own.sent} requests, counted {list(map(site.describe, EVERYTHING))}")
    now = site.processes()
    assert set(after.values()) | {site.pid(part) for part in ("agent", "control", "envoy")} <= now.keys()
    assert not doomed & now.keys()
