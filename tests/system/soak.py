"""Ten thousand sleeps and wakes (`make soak`, CYCLES=N): nothing may be left behind by any of them.

Some services freeze, some stop, all are called as soon as they sleep. Before (once everything has been used for a
while) and after, with all asleep, everything that could leak is counted; what grew beyond its allowance is a failure.
It is not among the tests that `make test` runs: ten thousand cycles take about half an hour.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from apart import frozen
from support import Site, app, eventually, installation

from demo.load import Outcome, Request, call
from kasbah import proc

pytestmark = [pytest.mark.real, pytest.mark.timeout(0)]

CYCLES = int(os.environ.get("CYCLES", "10000"))
WARM_UP = max(CYCLES // 10, 60)
FREEZING, STOPPING = 6, 2
MEBIBYTE = 2**20
APP = """
import http.server, os

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = os.environ["KASBAH_REPLICA"].encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
ALLOWED: dict[str, int] = {
    "processes": 0,
    "descriptors": 12,
    "sockets": 12,
    "memory, MiB": 24,
    "disk, MiB": 48,
    "temporary files": 0,
}
"""How much each may grow: connections come and go, memory is kept by allocators, logs grow up to their caps."""


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An installation of its own, whose temporary files nobody else's are among."""
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("t")))
    with installation(tmp_path_factory.mktemp("soak")) as site:
        yield site


async def test_nothing_is_left_behind(site: Site) -> None:
    names = _deployed(site)
    await _cycle(site, names, WARM_UP)
    before = _counted(site, names)
    began = time.monotonic()
    failed = await _cycle(site, names, CYCLES)
    seconds = time.monotonic() - began
    after = _counted(site, names)
    grown = {what: after.get(what, 0) - count for what, count in before.items()}
    print(f"\n{CYCLES} cycles in {seconds:.0f} s\n\n{'':32}{'before':>10}{'after':>10}{'grown':>10}{'allowed':>10}")
    for what, count in before.items():
        print(f"{what:32}{count:>10}{after.get(what, 0):>10}{grown[what]:>+10}{_allowed(what):>10}")
    assert failed == []
    assert {what: more for what, more in grown.items() if more > _allowed(what)} == {}


def _deployed(site: Site) -> list[str]:
    sleeps = {f"freezes{number}": ("30ms", "never") for number in range(FREEZING)}
    sleeps |= {f"stops{number}": ("30ms", "60ms") for number in range(STOPPING)}
    entries = {
        name: {
            "source": ".",
            "command": ["python", "app.py"],
            "access": "public",
            "sleep": {"freeze_after": freeze, "stop_after": stop},
        }
        for name, (freeze, stop) in sleeps.items()
    }
    site.deploy(app(site.home / "soaked", json.dumps({"services": entries}), app__py=APP))
    return list(sleeps)


async def _cycle(site: Site, names: list[str], count: int) -> list[Outcome]:
    """So many wakes, shared by the services; the calls that failed."""
    left, failed = iter(range(count)), []

    async def use(name: str) -> None:
        for _ in left:
            outcome = await call(site.target(name), Request())
            if outcome.fault is not None:
                failed.append(outcome)
            elif not await _asleep(site, outcome.body.decode()):
                failed.append(Outcome(milliseconds=0, detail=f"{name} did not fall asleep"))

    await asyncio.gather(*(use(name) for name in names))
    return failed


async def _asleep(site: Site, replica: str) -> bool:
    try:
        pid = site.process_of(replica)
    except FileNotFoundError:  # it has been stopped and forgotten already
        return True
    with suppress(TimeoutError):
        async with asyncio.timeout(60):
            while True:
                if frozen(pid) or not proc.runs(pid):
                    return True
                await asyncio.sleep(0.01)
    return False


def _counted(site: Site, names: list[str]) -> dict[str, int]:
    """Everything that could leak, with every service asleep and the agent's books closed."""
    for name in names:
        site.reaches(name, "stopped" if name.startswith("stops") else "frozen")
    _calm(site)
    found = {"processes": len(site.processes())}
    runner = json.loads((site.data_dir / "agent/runner/runner.json").read_text())["pid"]
    parts = {part: site.pid(part) for part in ("agent", "control", "envoy")} | {"runner": int(runner)}
    for part, pid in parts.items():
        links = _descriptors(pid)
        found[f"{part}: descriptors"] = len(links)
        found[f"{part}: sockets"] = sum(link.startswith("socket:") for link in links)
        found[f"{part}: memory, MiB"] = _resident(pid) // MEBIBYTE
    found["disk, MiB"] = _size(site.data_dir) // MEBIBYTE
    found["temporary files"] = len(os.listdir(site.env["TMPDIR"]))
    return found


def _calm(site: Site) -> None:
    """Idle connections have been closed: no socket more, no socket fewer, for a while."""
    seen: list[int] = []

    def still() -> bool:
        seen.append(sum(len(_descriptors(site.pid(part))) for part in ("agent", "control", "envoy")))
        time.sleep(0.2)
        return len(seen) > 10 and max(seen[-10:]) == min(seen[-10:])

    eventually(still, lambda: f"never calm: {seen}")


def _descriptors(pid: int) -> list[str]:
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            links.append(os.readlink(entry))
    return links


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _size(folder: Path) -> int:
    total = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            with suppress(OSError):
                total += os.lstat(os.path.join(parent, file)).st_blocks * 512
    return total


def _allowed(what: str) -> int:
    return ALLOWED[what.rpartition(": ")[2]]
