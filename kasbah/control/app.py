"""The control plane's entry point: builds everything once, wires it by hand, listens, and ends in order.

`run` is the process; `build` is the same without a process, for tests and for one that runs it beside an agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI
from starlette.types import ASGIApp

from kasbah import log as logging_setup
from kasbah.api.sealing import load_or_make_vault
from kasbah.api.signing import load_or_make_key
from kasbah.clock import Clock, SystemClock
from kasbah.control.access.secrets import Secret, make_secret
from kasbah.control.changes import ROLLOUTS, Changes
from kasbah.control.folder import Folder, read_or_make_secret
from kasbah.control.http.application import make_application
from kasbah.control.http.edge import Edge
from kasbah.control.loops.rollout import Rollouts
from kasbah.control.loops.tidy import Tidy
from kasbah.control.metrics import Metrics
from kasbah.control.running import Running
from kasbah.control.store.migrate import migrate
from kasbah.control.store.sql import SqlStore, open_engine
from kasbah.control.usecases.begin import begin
from kasbah.control.usecases.work import Office, Rules
from kasbah.errors import Conflict, Invalid
from kasbah.loop import Loop
from kasbah.settings import ControlSettings

log = structlog.get_logger()

END_WITHIN = 2
"""Seconds that requests under way get to finish once the process is told to end."""

MOST_CONNECTIONS = 2_000
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A control plane, wired and not yet listening. `asgi` is `app` behind its edge."""

    app: FastAPI
    asgi: ASGIApp
    office: Office
    running: Running
    folder: Folder

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """Its loops run, and its long polls wait, until the block ends."""
        async with self.running.started():
            yield

    def close(self) -> None:
        """Let the store go."""
        self.office.store.close()


def build(settings: ControlSettings, clock: Clock) -> Control:
    """The control plane of a data folder, its store brought up to date and its first objects made."""
    folder = Folder(settings.data_dir)
    folder.make()
    office = _office(settings, folder, clock)
    with office.write() as work:
        begin(
            work,
            admin_token=read_or_make_secret(folder.admin_token, lambda: make_secret(Secret.TOKEN)),
            site_token=read_or_make_secret(folder.site_token, lambda: make_secret(Secret.SITE)),
            country=settings.country,
        )
    running = _running(office)
    metrics = Metrics()
    app = make_application()
    app.state.office, app.state.running, app.state.metrics = office, running, metrics
    return Control(app=app, asgi=Edge(app, metrics), office=office, running=running, folder=folder)


def _office(settings: ControlSettings, folder: Folder, clock: Clock) -> Office:
    engine = open_engine(settings.database_url or f"sqlite:///{folder.database.absolute()}")
    migrate(engine, clock=clock)
    return Office(
        store=SqlStore(engine),
        clock=clock,
        rules=Rules(base_domain=settings.base_domain, ticket_lifetime=settings.ticket_lifetime),
        key=load_or_make_key(folder.signing_key),
        vault=load_or_make_vault(folder.secrets_key),
        changes=Changes(),
    )


def _running(office: Office) -> Running:
    rollouts = Loop("rollouts", Rollouts(office).carry_on, period=timedelta(seconds=2))
    tidy = Loop("tidy", Tidy(office).sweep, period=timedelta(hours=1))
    office.changes.listen(ROLLOUTS, rollouts.nudge)
    return Running((rollouts, tidy), office.changes)


def run(settings: ControlSettings) -> None:
    """Be the control plane until told to end (SIGTERM or SIGINT)."""
    logging_setup.configure()
    os.umask(0o077)  # what we write is for this user's eyes only
    folder = Folder(settings.data_dir)
    folder.make()
    with folder.held():
        folder.forget_endpoint()
        listener = _listen(settings.api, folder)
        with contextlib.closing(listener):
            control = build(settings, SystemClock())
            with contextlib.closing(control):
                uvloop.run(_serve(control, listener))


async def _serve(control: Control, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    server = _Server(
        uvicorn.Config(
            control.asgi,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            proxy_headers=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=END_WITHIN,
        )
    )
    api = f"http://{_reachable(host)}:{port}"

    def end() -> None:
        server.should_exit = True
        control.office.changes.close()

    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, end)
    try:
        async with control.started():
            control.folder.write_endpoint(api, port)
            log.info("control plane listens", api=api)
            await server.serve(sockets=[listener])
    finally:
        control.folder.forget_endpoint()
    log.info("control plane ended")


class _Server(uvicorn.Server):
    """uvicorn, with the signals left to us: it would end the process by the signal it was told to end with."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _listen(address: str, folder: Folder) -> socket.socket:
    """A listening socket at HOST:PORT. Port 0 asks for the port it was given last time, then for any."""
    host, _, text = address.rpartition(":")
    host = host.strip("[]")
    if not host or not text.isdigit() or int(text) > 65_535:
        raise Invalid(f"{address!r} is no address to listen at", where="api", hint="write HOST:PORT: 127.0.0.1:7070")
    if host not in LOOPBACK:
        log.warning("the API listens without TLS beyond this machine: tokens travel in plain text", host=host)
    last = folder.last_port()
    if int(text) == 0 and last is not None:
        with contextlib.suppress(Conflict):
            return _bind(host, last)
    return _bind(host, int(text))


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1_024)
    except OSError as error:
        listener.close()
        raise Conflict(
            f"the API cannot listen at {host}:{port}: {error.strerror}",
            hint="see who has the port (ss -ltnp), or choose another: --api HOST:PORT, port 0 takes a free one",
            code="address_in_use",
        ) from error
    listener.setblocking(False)
    return listener


def _reachable(host: str) -> str:
    """A host to dial: who listens everywhere is reached here too."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{reached}]" if ":" in reached else reached
