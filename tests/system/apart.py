"""An installation whose parts run apart, as under a service manager: a part that is killed stays away until started.

And its traffic: callers of every kind who come for as long as a block runs, and what became of each of their calls.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import websockets
from support import KASBAH, Site, eventually

from demo.load import Fault, Outcome, Request, Tally, Target, call, digest
from kasbah import proc

ANSWERS_SECONDS = 30.0


class Apart(Site):
    """See the module."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.parts: dict[str, subprocess.Popen[bytes]] = {}

    def up(self) -> None:
        self.start("control")
        self.start("agent")
        self.token = (self.data_dir / "admin.token").read_text().strip()
        self.env |= {"KASBAH_TOKEN": self.token, "KASBAH_DEPLOYER_KEY": str(self.data_dir / "deployer.key")}

    def start(self, part: str) -> None:
        """Start a part, and wait until it is ready."""
        with (self.home / "parts.log").open("ab") as log:
            self.parts[part] = subprocess.Popen(
                [*self._program(part), part, "--data-dir", str(self.data_dir), *self._options(part)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=self.env,
            )  # fmt: skip
        eventually(lambda: self._is_ready(part), lambda: f"{part}: {(self.home / 'parts.log').read_text()[-3_000:]}")

    def kill(self, part: str) -> None:
        """SIGKILL; it has ended when this returns."""
        self.parts[part].kill()
        self.parts[part].wait()

    def ends(self, pid: int) -> None:
        """Wait until a process is gone."""
        eventually(lambda: not proc.runs(pid), lambda: f"process {pid} does not end")

    def down_all(self) -> None:
        """End everything, whatever state it is in."""
        for part in self.parts.values():
            part.kill()
            part.wait()
        ended = self.down()
        assert ended.code == 0, ended.said
        eventually(lambda: not self.processes(), lambda: f"left: {self.processes()}")

    def _program(self, part: str) -> list[str]:
        return [str(KASBAH)]

    def _options(self, part: str) -> list[str]:
        if part == "control":
            return ["--api", "127.0.0.1:0"]
        token = str(self.data_dir / "site.token")
        return ["--control-url", self.api, "--token-file", token, "--gateway", "127.0.0.1:0"]

    def _is_ready(self, part: str) -> bool:
        said = read(self.data_dir / part / "endpoint.json")
        if said is None or said["pid"] != self.parts[part].pid:
            return False
        if part == "control":
            self.api = self.env["KASBAH_URL"] = str(said["api"])
            return True
        self.gateway = str(said["gateway"])
        try:
            return httpx.get(f"http://{said['status']}/readyz", trust_env=False).is_success
        except httpx.HTTPError:
            return False


@contextmanager
def parts_apart(home: Path) -> Iterator[Apart]:
    """An installation that is up, ended whatever happens."""
    site = Apart(home)
    try:
        site.up()
        site.key = site.json("keys", "create", "tests")["key"]
        yield site
    finally:
        site.down_all()


def read(file: Path) -> dict[str, object] | None:
    """A JSON file, if it is there."""
    try:
        found: dict[str, object] = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return found


def killed(pid: int) -> None:
    """SIGKILL a process of the installation, and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not proc.runs(pid), lambda: f"process {pid} does not end")


def frozen(pid: int) -> bool:
    """Whether a process has been stopped by a signal."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


# --- traffic ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """One call: of which kind, when (monotonic seconds), and what became of it."""

    kind: str
    began: float
    ended: float
    outcome: Outcome


@dataclass
class Traffic:
    """Every call made so far."""

    calls: list[Called] = field(default_factory=list)
    more: asyncio.Condition = field(default_factory=asyncio.Condition)

    def of(self, *kinds: str) -> list[Called]:
        """The calls of some kinds, of all without any."""
        return [one for one in self.calls if not kinds or one.kind in kinds]

    def failed(self, *kinds: str) -> list[Called]:
        """Those that failed."""
        return [one for one in self.of(*kinds) if one.outcome.fault is not None]

    def tally(self, *kinds: str) -> Tally:
        """What became of them, counted."""
        return Tally.of(one.outcome for one in self.of(*kinds))

    async def reaches(self, count: int, *kinds: str) -> None:
        """Wait until so many more calls of each of these kinds have ended."""
        goals = {kind: len(self.of(kind)) + count for kind in kinds}
        async with asyncio.timeout(ANSWERS_SECONDS), self.more:
            await self.more.wait_for(lambda: all(len(self.of(kind)) >= goal for kind, goal in goals.items()))


Caller = Callable[[], Awaitable[Outcome]]
Kind = tuple[Caller, int, float]
EVENTS = Request(path="/events?count=8&every=0.1", check=lambda body: body.count(b"data: ") == 8)
SLOW = Request(path="/slow?seconds=0.7")
UPLOAD = 300_000


def callers(steady: Target, drowsy: Target) -> dict[str, Kind]:
    """By kind: what is called, by how many at once, and the longest pause between two calls of one of them."""
    return {
        "get": (lambda: call(steady, Request()), 4, 0.03),
        "slow": (lambda: call(steady, SLOW), 3, 0.05),
        "upload": (lambda: digest(steady, "/digest", UPLOAD), 2, 0.1),
        "events": (lambda: call(steady, EVENTS), 2, 0.05),
        "socket": (lambda: conversing(steady), 2, 0.05),
        "sleeper": (lambda: call(drowsy, Request()), 1, 1.2),
    }


@asynccontextmanager
async def traffic(kinds: dict[str, Kind]) -> AsyncIterator[Traffic]:
    """Callers of every kind, for as long as the block runs; then they finish what they have begun."""
    seen, over, chance = Traffic(), asyncio.Event(), random.Random(5)

    async def come_again(kind: str, caller: Caller, pause: float) -> None:
        while not over.is_set():
            began = time.monotonic()
            outcome = await caller()
            seen.calls.append(Called(kind=kind, began=began, ended=time.monotonic(), outcome=outcome))
            async with seen.more:
                seen.more.notify_all()
            await asyncio.sleep(chance.uniform(0, pause))

    async with asyncio.TaskGroup() as group:
        for kind, (caller, count, pause) in kinds.items():
            for _ in range(count):
                group.create_task(come_again(kind, caller, pause))
        try:
            await seen.reaches(1, *kinds)
            yield seen
        finally:
            over.set()


async def conversing(target: Target) -> Outcome:
    """A WebSocket on which several things are said and heard, one after the other."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def talk() -> tuple[int, bytes]:
        host, port = target.endpoint
        async with websockets.connect(f"ws://{target.host}:{port}/ws", host=host, port=port, open_timeout=60) as socket:
            for number in range(8):
                await socket.send(f"word {number}")
                assert await socket.recv() == f"word {number}"
                await asyncio.sleep(0.1)
        return 101, b"heard"

    try:
        async with asyncio.timeout(60):
            status, body = await talk()
    except (OSError, TimeoutError, websockets.WebSocketException) as error:
        return Outcome(milliseconds=0, fault=Fault.CONNECTION, detail=f"{type(error).__name__}: {error}")
    return Outcome(milliseconds=(loop.time() - began) * 1000, status=status, body=body)
