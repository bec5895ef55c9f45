"""Envoy's process: started so that it outlives the agent, adopted by the next agent, restarted when it dies.

Its record (pid with the process's start time, and the hash of the bootstrap it runs) is what makes an adoption safe: a
pid alone may have become somebody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import select
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

import structlog

from kasbah import proc
from kasbah.agent.gateway.bootstrap import bootstrap
from kasbah.agent.gateway.protos import envoy_binary
from kasbah.agent.gateway.wiring import Wiring
from kasbah.errors import Conflict, Unavailable

log = structlog.get_logger()

LOG_FLUSH_MILLISECONDS = 100
START_DEADLINE = 10.0
STOP_DEADLINE = 5.0
ADMIN_DEADLINE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """An Envoy that runs: `started` is the process's start time in clock ticks since boot."""

    pid: int
    started: int


def start_time(pid: int) -> int | None:
    """When the process `pid` started, in clock ticks since boot; None where there is none, or it has ended."""
    found = proc.look(pid)
    return None if found is None or found.ended else found.start_time


class EnvoyProcess:
    """The one Envoy of this site, whose files are in `folder`."""

    def __init__(self, folder: Path, wiring: Wiring, *, workers: int) -> None:
        self._folder = folder
        self._wiring = wiring
        self._workers = workers
        self._config = json.dumps(bootstrap(wiring), indent=1, sort_keys=True)
        self._mark = hashlib.sha256(f"{self._config} {envoy_binary()} {workers}".encode()).hexdigest()[:16]
        self.running: Running | None = None

    @property
    def log_file(self) -> Path:
        """What Envoy itself says."""
        return self._folder / "envoy.log"

    def adopt(self) -> bool:
        """Take over the Envoy that an earlier agent started, if it runs what this one would start."""
        recorded = read_record(self._folder)
        if recorded is None:
            return False
        running, mark = recorded
        if mark != self._mark:
            log.info("the gateway's bootstrap changed: restarting it")
            end(running)
            return False
        self.running = running
        return True

    async def start(self) -> None:
        """Start Envoy, as nobody's child: as ours it would die with us."""
        config = self._folder / "bootstrap.json"
        config.write_text(self._config)
        command = (
            str(envoy_binary()), "-c", str(config), "--disable-hot-restart", "--concurrency", str(self._workers),
            "--log-level", "warning", "--log-path", str(self.log_file), "--file-flush-interval-msec",
            str(LOG_FLUSH_MILLISECONDS), "--file-flush-min-size-kb", "16", "--drain-time-s", "2",
        )  # fmt: skip
        launcher = await asyncio.create_subprocess_exec(
            "setsid", "-f", "sh", "-c", 'echo $$; exec "$@" >/dev/null 2>&1', "envoy", *command,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin")}, cwd=self._folder,
        )  # fmt: skip
        assert launcher.stdout is not None
        async with asyncio.timeout(START_DEADLINE):
            pid = int(await launcher.stdout.readline())
            await launcher.wait()
        self.running = self._record(pid)

    def _record(self, pid: int) -> Running:
        started = start_time(pid)
        if started is None:
            raise Unavailable(f"the gateway ended as it started: {self.last_words()}", hint=f"see {self.log_file}")
        fresh = self._folder / "envoy.json.new"
        fresh.write_text(json.dumps({"pid": pid, "started": started, "mark": self._mark}))
        fresh.replace(self._folder / "envoy.json")
        return Running(pid=pid, started=started)

    async def ended(self) -> None:
        """Wait until Envoy is gone."""
        if self.running is None or start_time(self.running.pid) != self.running.started:
            return
        loop = asyncio.get_running_loop()
        gone = loop.create_future()
        descriptor = os.pidfd_open(self.running.pid)
        loop.add_reader(descriptor, _settle, gone)
        try:
            await gone
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    async def admin(self, method: str, path: str) -> str:
        """Ask Envoy's admin page; the answer's body. Raises OSError or TimeoutError where it does not answer."""
        async with asyncio.timeout(ADMIN_DEADLINE):
            reader, writer = await asyncio.open_unix_connection(self._wiring.admin_socket)
            try:
                writer.write(f"{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n".encode())
                answer = await reader.read(-1)
            finally:
                writer.close()
        return answer.partition(b"\r\n\r\n")[2].decode(errors="replace")

    def last_words(self) -> str:
        """The last line of Envoy's log."""
        with contextlib.suppress(OSError):
            lines = self.log_file.read_text(errors="replace").splitlines()
            return lines[-1] if lines else "it said nothing"
        return "it said nothing"


def read_record(folder: Path) -> tuple[Running, str] | None:
    """The Envoy on record, if it still runs, and the mark of its bootstrap."""
    try:
        record = json.loads((folder / "envoy.json").read_text())
        running = Running(pid=record["pid"], started=record["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (running, record.get("mark", "")) if start_time(running.pid) == running.started else None


def end(running: Running) -> None:
    """End an Envoy: SIGTERM, and SIGKILL where that is not enough."""
    try:
        descriptor = os.pidfd_open(running.pid)
    except ProcessLookupError:
        return
    try:
        if start_time(running.pid) != running.started:
            return
        for how in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, how)
            if _readable_within(descriptor, STOP_DEADLINE):
                return
    finally:
        os.close(descriptor)


def _settle(gone: asyncio.Future[None]) -> None:
    if not gone.done():
        gone.set_result(None)


def _readable_within(descriptor: int, seconds: float) -> bool:

    return bool(select.select([descriptor], [], [], seconds)[0])


def choose_port(listen: str, remembered: Path) -> str:
    """`listen` with its port 0 replaced: by the one chosen before, if it is free, else by a free one, remembered."""
    host, _, port = listen.rpartition(":")
    if port != "0":
        return listen
    with contextlib.suppress(OSError):
        before = remembered.read_text().strip()
        if before.startswith(f"{host}:") and _is_free(before):
            return before
    with socket.socket(_family(host)) as probe:
        probe.bind((host.strip("[]"), 0))
        chosen = f"{host}:{probe.getsockname()[1]}"
    remembered.write_text(chosen)
    return chosen


def require_free(listen: str, *, option: str = "--gateway") -> None:
    """Raises Conflict where another process has the address already."""
    if not _is_free(listen):
        raise Conflict(
            f"the gateway cannot listen on {listen}: another process has that port",
            code="port_taken",
            hint=f"choose another with {option} HOST:PORT, or end what listens there (ss -ltnp names it)",
        )


def _is_free(listen: str) -> bool:
    host, _, port = listen.rpartition(":")
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError:
            return False
    return True


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
