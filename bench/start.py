"""From typing `kasbah up` to the first request answered, with the disk warm and a service deployed before."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median

from bench import upstream
from bench.errors import Missing
from bench.figures import spread
from bench.http import get
from bench.installation import Installation, installed
from bench.rows import Row, skipped

STARTS, QUICK_STARTS = 5, 3
MOST_SECONDS = 3.0
SERVICE = "early"
PAUSE_SECONDS = 0.01
ANSWER_SECONDS = 60.0


def measure(folder: Path, *, quick: bool) -> Iterator[Row]:
    """The rows of this group."""
    name = "`kasbah up` to the first request answered"
    home = folder / "start"
    try:
        with installed(home) as site:
            site.deploy(upstream.service(home / "app", SERVICE))
            ups, answers = zip(*(_start(site) for _ in range(QUICK_STARTS if quick else STARTS)), strict=True)
    except Missing as missing:
        yield skipped(name, str(missing))
        return
    middle = median(answers)
    yield Row(
        name=name,
        ours=middle,
        unit="s",
        spread=spread(answers),
        goal=f"<= {MOST_SECONDS:.0f} s",
        ok=middle <= MOST_SECONDS,
        note=f"{len(answers)} starts; the command itself returned after {median(ups):.2f} s; the service slept",
    )


def _start(site: Installation) -> tuple[float, float]:
    """Seconds until `up` returned, and until a service that sleeps has answered 200."""
    site.down()
    began = time.perf_counter()
    site.up()
    up = time.perf_counter() - began
    give_up = time.perf_counter() + ANSWER_SECONDS
    while time.perf_counter() < give_up:
        with suppress(OSError):
            if get(site.target(SERVICE)).status == 200:
                break
        time.sleep(PAUSE_SECONDS)
    return up, time.perf_counter() - began
