"""What do thousands of sleeping services cost on one agent?

The services share one revision, so that they share its build: the first is deployed as people do, the others are
copies of its records, written into the control plane's store while it is down. From there on everything is as it
always is: the control plane renders and signs one desired state, the agent reads it, and Envoy is told.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

from bench import upstream
from bench.figures import spread
from bench.installation import Installation, eventually, installed
from bench.processes import cpu_seconds, resident_bytes
from bench.rows import Row
from kasbah.clock import SystemClock
from kasbah.control.app import build
from kasbah.domain.ids import ServiceId
from kasbah.settings import ControlSettings

SERVICES, QUICK_SERVICES = 5_000, 1_000
MOST_MEMORY = 700 * 2**20
MOST_CPU = 0.03
REST_SECONDS, QUICK_REST_SECONDS = 20.0, 10.0
WAKES = 15
DEPLOYS, QUICK_DEPLOYS = 5, 2
BASE = 0.2
"""Of the memory's goal, what agent and Envoy may take however few services there are."""
REST_FIRST = 4.0
"""Two heartbeats: what the start set going has ended."""
SETTLE_SECONDS = 180.0
FIRST = "sleeper"
PARTS = ("agent", "envoy")


def measure(folder: Path, *, quick: bool) -> Iterator[Row]:
    """The rows of this group."""
    count = QUICK_SERVICES if quick else SERVICES
    home = folder / "crowd"
    with installed(home) as site:
        site.deploy(upstream.service(home / "app", FIRST, sleep={"freeze_after": "never", "stop_after": "1s"}))
        site.down()
        _multiply(home, count)
        began = time.monotonic()
        site.up()
        eventually(lambda: _all_routed(site, count), "the last service to be routed", seconds=SETTLE_SECONDS)
        yield from _rows(site, count, quick=quick, starting=time.monotonic() - began)


def _multiply(home: Path, count: int) -> None:
    """Write `count` - 1 copies of the first service into the store."""
    settings = ControlSettings(data_dir=home / "data", api="127.0.0.1:0")
    with closing(build(settings, SystemClock())) as control, control.office.write() as work:
        first = next(one for one in work.tx.services.all() if one.name == FIRST)
        revision = work.tx.revisions.of(first.id)[-1]
        for number in range(1, count):
            copy = replace(first, id=ServiceId(f"{first.id[:-5]}{number:05d}"), name=f"{FIRST}-{number:05d}")
            work.tx.services.add(copy)
            work.tx.revisions.put(replace(revision, service=copy.id))


def _all_routed(site: Installation, count: int) -> bool:
    return site.ready() and _status(site, f"{FIRST}-{count - 1:05d}", key=None) == 401


def _rows(site: Installation, count: int, *, quick: bool, starting: float) -> Iterator[Row]:
    many = f"{count:,} sleeping services"
    yield Row(name=f"{many}: `kasbah up` until the last is routed", ours=starting, unit="s")
    yield from _at_rest(site, many, count / SERVICES, QUICK_REST_SECONDS if quick else REST_SECONDS)
    waking = [1_000 * _time_to_wake(site, f"{FIRST}-{number:05d}") for number in range(1, 1 + WAKES)]
    yield Row(
        name=f"{many}: wake one from stopped, first byte",
        ours=median(waking),
        unit="ms",
        spread=spread(waking),
        note=f"{WAKES} wakes, the app's own start included",
    )
    adding = [_time_to_add(site, number) for number in range(QUICK_DEPLOYS if quick else DEPLOYS)]
    yield Row(
        name=f"{many}: one more, from `kasbah deploy` until it answers",
        ours=median(adding),
        unit="s",
        spread=spread(adding),
        note=f"{len(adding)} deploys",
    )


def _at_rest(site: Installation, many: str, scale: float, seconds: float) -> Iterator[Row]:
    """Memory and CPU while nothing happens."""
    shares = _cpu_at_rest(site, seconds)
    memory = {part: resident_bytes(site.pid(part)) for part in PARTS}
    total, busy = sum(memory.values()), sum(shares[part] for part in PARTS)
    most = MOST_MEMORY * (BASE + (1 - BASE) * scale)
    yield Row(
        name=f"{many}: memory of agent and Envoy",
        ours=total / 2**20,
        unit="MiB",
        goal=f"<= {most / 2**20:.0f} MiB",
        ok=total <= most,
        note=f"agent {memory['agent'] >> 20}, Envoy {memory['envoy'] >> 20}, PSS",
    )
    yield Row(
        name=f"{many}: CPU at rest, of one core",
        ours=100 * busy,
        unit="%",
        goal=f"<= {100 * MOST_CPU:.0f} %",
        ok=busy <= MOST_CPU,
        note=f"over {seconds:.0f} s: agent {100 * shares['agent']:.1f} %, Envoy {100 * shares['envoy']:.1f} %; "
        f"the control plane besides {100 * shares['control']:.1f} %",
    )


def _cpu_at_rest(site: Installation, seconds: float) -> dict[str, float]:
    """The share of a core that each part uses while nothing happens."""
    parts = (*PARTS, "control")
    pids = {part: site.pid(part) for part in parts}
    time.sleep(REST_FIRST)
    before = {part: cpu_seconds([pid]) for part, pid in pids.items()}
    time.sleep(seconds)
    return {part: (cpu_seconds([pid]) - before[part]) / seconds for part, pid in pids.items()}


def _time_to_add(site: Installation, number: int) -> float:
    """Seconds from `kasbah deploy` to the first answer of a service that was not there; the program is the same."""
    name = f"late-{number}"
    folder = upstream.service(site.home / "app", name)
    began = time.monotonic()
    site.deploy(folder)
    eventually(lambda: _status(site, name) == 200, f"{name} to answer", pause=0.005)
    return time.monotonic() - began


def _time_to_wake(site: Installation, name: str) -> float:
    """Seconds from the request to the first byte of its answer."""
    began = time.perf_counter()
    status = _status(site, name)
    took = time.perf_counter() - began
    if status != 200:
        raise ValueError(f"{name} answered {status}")
    return took


def _status(site: Installation, name: str, key: str | None = "") -> int:
    headers = {} if key is None else {"authorization": f"Bearer {key or site.key}"}
    with _connection(site) as connection:
        connection.request("GET", "/", headers={"host": f"{name}.localhost", **headers})
        return connection.getresponse().status


@contextmanager
def _connection(site: Installation) -> Iterator[http.client.HTTPConnection]:
    host, _, port = site.gateway.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    try:
        yield connection
    finally:
        connection.close()
