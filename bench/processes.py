"""The processes a benchmark starts, and what /proc says of any: every one started here is ended here, by its id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.errors import Missing, Unmeasured

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
ENDING_SECONDS = 10.0
TAIL = 600


def tool(name: str, package: str) -> str:
    """The path of a program. Raises Missing, saying how to install it."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if found is None:
        raise Missing(f"{name} is not installed: apt-get install {package}")
    return found


@contextmanager
def started(argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> Iterator[int]:
    """Run a program in a process group of its own for as long as the block runs; its pid."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, start_new_session=True
        )
    try:
        yield process.pid
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads its own group, and the group."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDING_SECONDS)
            return
    process.wait()


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def until_listening(port: int, *, seconds: float, log: Path) -> None:
    """Wait until something accepts connections. Raises Unmeasured with the end of the log."""
    give_up = time.monotonic() + seconds
    while not _accepts(port):
        if time.monotonic() > give_up:
            said = log.read_text(errors="replace")[-TAIL:] if log.exists() else ""
            raise Unmeasured(f"nothing listens on port {port} after {seconds:.0f} s: {said}")
        time.sleep(0.05)


def _accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


# --- /proc ------------------------------------------------------------------------------------------------------------


def family(pid: int) -> list[int]:
    """A process and those it started."""
    children = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            children += [int(word) for word in task.read_text().split()]
    return [pid, *(one for child in children for one in family(child))]


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time that these processes have used."""
    return sum(_ticks(pid) for pid in pids) / TICK


def _ticks(pid: int) -> int:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    return 0


def resident_bytes(pid: int) -> int:
    """The memory that a process has in use, what it shares with others counted in part (PSS), where that is told."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
