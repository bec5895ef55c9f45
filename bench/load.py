"""Load by wrk, within explicit bounds: connections, seconds, and a deadline on each answer.

The headers are in a script, since what is on a command line every user of the machine can read, and one of them is a
key. The script's last act is to print the figures as one line of JSON after MARK: no table meant for people is parsed.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.errors import Unmeasured

MARK = "bench-figures "
ANSWER_SECONDS = 10
GRACE_SECONDS = 20.0
SCRIPT = """
wrk.method = %(method)s
wrk.path = %(path)s
wrk.body = %(body)s
%(headers)s
%(pause)s

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '%(mark)s{"requests":%%d,"microseconds":%%d,"p50":%%d,"p99":%%d,"connect":%%d,"read":%%d,"write":%%d,' ..
    '"status":%%d,"timeout":%%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is sent, again and again, after a pause where there is one. A body makes it a POST."""

    port: int
    headers: Mapping[str, str]
    path: str = "/"
    body: str = ""
    pause_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run of wrk found. `failed` counts connections, reads, writes and answers that went wrong."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    failed: int


def parse(output: str) -> Run:
    """What wrk printed. Raises Unmeasured where the figures are not there."""
    lines = [line for line in output.splitlines() if line.startswith(MARK)]
    try:
        found = json.loads(lines[-1].removeprefix(MARK))
        seconds = found["microseconds"] / 1e6
        return Run(
            requests=found["requests"],
            per_second=found["requests"] / seconds,
            p50_ms=found["p50"] / 1_000,
            p99_ms=found["p99"] / 1_000,
            failed=sum(found[kind] for kind in ("connect", "read", "write", "status", "timeout")),
        )
    except (IndexError, ValueError, KeyError, ZeroDivisionError) as error:
        raise Unmeasured(f"wrk printed no figures: {output[-300:]}") from error


def script(order: Order) -> str:
    """wrk's script for an order."""
    headers = "\n".join(f"wrk.headers[{_lua(name)}] = {_lua(value)}" for name, value in order.headers.items())
    return SCRIPT % {
        "method": _lua("POST" if order.body else "GET"),
        "path": _lua(order.path),
        "body": _lua(order.body) if order.body else "nil",
        "headers": headers,
        "pause": f"function delay() return {order.pause_ms} end" if order.pause_ms else "",
        "mark": MARK,
    }


def run(wrk: str, order: Order, *, connections: int, seconds: int, folder: Path) -> Run:
    """Send for so many seconds over so many connections."""
    file = folder / f"load-{order.port}.lua"
    file.touch(mode=0o600)
    file.write_text(script(order))
    command = (wrk, "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={ANSWER_SECONDS}s", "--latency")
    try:
        ran = subprocess.run(
            [*command, "-s", str(file), f"http://127.0.0.1:{order.port}{order.path}"],
            capture_output=True,
            text=True,
            timeout=seconds + GRACE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unmeasured(f"wrk did not end {GRACE_SECONDS:.0f} s after its time") from None
    return parse(ran.stdout + ran.stderr)


def _lua(text: str) -> str:
    """A Lua string: JSON's escapes are Lua's for the printable characters that are sent here."""
    return json.dumps(text)
