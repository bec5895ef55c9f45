"""What does one service's load do to another? A loud one at ten times its load, and the p99 of a quiet one beside it.

Both are warm and share the gateway. The loud one computes for two milliseconds a request and has half a processor: at
ten times its load far more is asked of it than it may take. The quiet one is asked a few hundred times a second.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from bench import upstream
from bench.errors import Missing
from bench.figures import middle_ratio, ratios, spread
from bench.installation import Installation
from bench.load import Order, Run, run
from bench.processes import tool
from bench.rows import Row, skipped

QUIET, LOUD = "bench-quiet", "bench-loud"
NORMAL, TEN_TIMES = 1, 10
"""Callers of the loud service, each of whom asks again as soon as it has its answer."""
PAUSE_MS = 3
ROUNDS, SECONDS = 7, 5
QUICK_ROUNDS, QUICK_SECONDS = 3, 3
MOST_TIMES = 2.0
AWAKE = {"freeze_after": "never", "stop_after": "never"}
APP = """
import http.server, os, time

class Busy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        until = time.thread_time() + 0.002
        while time.thread_time() < until:
            pass
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Busy).serve_forever()
"""


def measure(site: Installation, folder: Path, *, quick: bool) -> Iterator[Row]:
    """The rows of this group."""
    name = "p99 beside a neighbour at ten times its load"
    try:
        wrk = tool("wrk", "wrk")
        site.deploy(upstream.service(folder / "quiet", QUIET, sleep=AWAKE))
    except Missing as missing:
        yield skipped(name, str(missing))
        return
    site.deploy(_loud(folder / "loud"))
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if quick else (ROUNDS, SECONDS)
    calm, beset = [], []
    for _ in range(rounds):
        calm.append(_together(site, folder, wrk, NORMAL, seconds))
        beset.append(_together(site, folder, wrk, TEN_TIMES, seconds))
    before, after = [quiet.p99_ms for quiet, _ in calm], [quiet.p99_ms for quiet, _ in beset]
    times = middle_ratio(after, before)
    yield Row(
        name=name,
        ours=median(after),
        reference=median(before),
        reference_name="beside its usual load",
        ratio=times,
        unit="ms",
        spread=spread(ratios(after, before)),
        goal=f"<= {MOST_TIMES:g} x",
        ok=times is not None and times <= MOST_TIMES,
        note=(
            f"{_rate(calm, 0):.0f} requests/s beside {_rate(calm, 1):.0f} and {_rate(beset, 1):.0f}; "
            f"{sum(one.failed for pair in (*calm, *beset) for one in pair)} failed"
        ),
    )


def _rate(pairs: list[tuple[Run, Run]], which: int) -> float:
    return median(pair[which].per_second for pair in pairs)


def _together(site: Installation, folder: Path, wrk: str, callers: int, seconds: int) -> tuple[Run, Run]:
    """Both at once: what callers of the quiet service and of the loud one found."""
    with ThreadPoolExecutor(2) as pool:
        loud = pool.submit(_load, site, folder / "loud", wrk, LOUD, callers, seconds, 0)
        quiet = pool.submit(_load, site, folder / "quiet", wrk, QUIET, 1, seconds, PAUSE_MS)
        return quiet.result(), loud.result()


def _load(
    site: Installation, folder: Path, wrk: str, service: str, connections: int, seconds: int, pause_ms: int
) -> Run:
    headers = {"Host": f"{service}.localhost", "Authorization": f"Bearer {site.key}"}
    order = Order(port=int(site.gateway.rpartition(":")[2]), headers=headers, pause_ms=pause_ms)
    return run(wrk, order, connections=connections, seconds=seconds, folder=folder)


def _loud(folder: Path) -> Path:
    folder.mkdir()
    (folder / "app.py").write_text(APP)
    entry = {
        "source": ".",
        "runtime": "python",
        "command": ["python", "app.py"],
        "access": "key",
        "data": {"level": "public"},
        "resources": {"cpu": 0.5, "memory": "128Mi"},
        "scaling": {"max": 1},
        "sleep": AWAKE,
    }
    (folder / "kasbah.yaml").write_text(json.dumps({"services": {LOUD: entry}}))
    return folder
