"""What does a wake add to the app's own start?

From stopped: the first byte through the gateway, less the time that the very same command needs on the bare machine
from being spawned to its first 200, both in turns. The command and its environment are read from the replica's process
while it runs, and its folder is copied; only its port is another. Before each of the two everything rests a moment:
what follows a replica's end is not part of the next start. From frozen: the first byte through the gateway,
beside that of a warm request, both on new connections.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.errors import Unmeasured
from bench.figures import percentile, spread
from bench.http import get
from bench.installation import Installation
from bench.processes import end, free_port
from bench.rows import Row, skipped
from demo.load import Target

EXAMPLES = Path(__file__).parents[1] / "examples"
APPS = {"hello-python": "/healthz", "semantic-search": "/healthz"}
QUICK_APPS = ("hello-python",)
WAKES, QUICK_WAKES = 40, 15
MOST_FROM_STOPPED_MS = 15.0
MOST_FROM_FROZEN_MS = 5.0
START_SECONDS = 60.0
LOOK_SECONDS = 0.001
REST_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How a replica was started."""

    argv: tuple[str, ...]
    env: dict[str, str]
    folder: Path


def measure(site: Installation, folder: Path, *, quick: bool) -> Iterator[Row]:
    """The rows of this group."""
    for name in QUICK_APPS if quick else APPS:
        try:
            site.deploy(EXAMPLES / name)
            yield from _app(site, folder / name, name, QUICK_WAKES if quick else WAKES)
        except Unmeasured as reason:
            yield skipped(f"wake of {name}", str(reason))


def _app(site: Installation, folder: Path, name: str, count: int) -> Iterator[Row]:
    target, path = site.target(name), APPS[name]
    site.wake(name)
    command = _command(int(site.describe(name)["replicas"][0]["pid"]), folder)
    woken, bare, frozen, warm = [], [], [], []
    for _ in range(count):
        site.sleep(name, "stopped")
        time.sleep(REST_SECONDS)
        woken.append(_first_byte(target, path))
        time.sleep(REST_SECONDS)
        bare.append(_bare_start(command, path))
    yield _overhead(name, woken, bare)
    for _ in range(count):
        site.sleep(name, "frozen")
        frozen.append(_first_byte(target, path))
        warm.append(_first_byte(target, path))
    yield Row(
        name=f"wake of {name} from frozen: p50 to the first byte",
        ours=median(frozen),
        reference=median(warm),
        reference_name="warm",
        ratio=median(frozen) / median(warm),
        unit="ms",
        spread=spread(frozen),
        goal=f"<= {MOST_FROM_FROZEN_MS:.0f} ms",
        ok=median(frozen) <= MOST_FROM_FROZEN_MS,
        note=f"{count} wakes, p95 {percentile(frozen, 0.95):.1f} ms",
    )


def _overhead(name: str, woken: list[float], bare: list[float]) -> Row:
    """`ours` is what the wake adds; beside it stands the app's own start."""
    added = [mine - own for mine, own in zip(woken, bare, strict=True)]
    return Row(
        name=f"wake of {name} from stopped: added to its own start, p50",
        ours=median(added),
        reference=median(bare),
        reference_name="own start",
        ratio=median(woken) / median(bare),
        unit="ms",
        spread=spread(added),
        goal=f"<= {MOST_FROM_STOPPED_MS:.0f} ms",
        ok=median(added) <= MOST_FROM_STOPPED_MS,
        note=f"{len(added)} pairs, first byte p50 {median(woken):.0f} ms",
    )


def _first_byte(target: Target, path: str) -> float:
    """Milliseconds to the first byte of a 200."""
    answered = get(target, path)
    if answered.status != 200:
        raise Unmeasured(f"{target.host}{path} answered {answered.status}")
    return answered.first_byte * 1_000


def _command(pid: int, folder: Path) -> Command:
    """How the process was started. What it found in the folder of its own, which ends with it, is copied."""
    try:
        process = Path(f"/proc/{pid}")
        argv = (process / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        pairs = [pair.partition(b"=") for pair in (process / "environ").read_bytes().split(b"\0") if b"=" in pair]
        shutil.copytree(process / "cwd", folder / "app", symlinks=True)
    except OSError as error:
        raise Unmeasured(f"the replica's process cannot be read: {error}") from error
    for own in ("home", "tmp"):
        (folder / own).mkdir()
    env = {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
    env |= {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "PWD": str(folder / "app")}
    return Command(argv=tuple(map(os.fsdecode, argv)), env=env, folder=folder / "app")


def _bare_start(command: Command, path: str) -> float:
    """Milliseconds from spawning the command to its first 200, on the bare machine."""
    port = free_port()
    target = Target(address=f"127.0.0.1:{port}", host=f"127.0.0.1:{port}")
    began = time.perf_counter()
    with _spawned(command, port) as process:
        while True:
            with suppress(OSError):
                if get(target, path).status == 200:
                    return (time.perf_counter() - began) * 1_000
            if process.poll() is not None or time.perf_counter() - began > START_SECONDS:
                raise Unmeasured(f"{command.argv[0]} does not start on the bare machine")
            time.sleep(LOOK_SECONDS)


@contextmanager
def _spawned(command: Command, port: int) -> Iterator[subprocess.Popen[bytes]]:
    argv = [str(port) if word == command.env["PORT"] else word for word in command.argv]
    process = subprocess.Popen(
        argv,
        env={**command.env, "PORT": str(port)},
        cwd=command.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        end(process)
