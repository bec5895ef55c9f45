"""The control plane's entry point: builds everything once, wires it by hand, listens, and ends in order.

`run` is the process; `build` is the same without a process, for tests and for one that runs it beside an agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import structlog
import uvloop
from fastapi import FastAPI
from starlette.types import ASGIApp

from kasbah import log as logging_setup
from kasbah.access_rules import shipped_access
from kasbah.api.owner import load_or_make
from kasbah.api.sealing import load_or_make_vault
from kasbah.api.secret_kinds import Secret, make_secret
from kasbah.api.signing import load_or_make_key, public_text
from kasbah.clock import Clock, SystemClock
from kasbah.control.access.authority import Authority, load_or_make_authority
from kasbah.control.changes import MOVES, ROLLOUTS, Changes
from kasbah.control.folder import Folder, read_or_make_secret
from kasbah.control.http.acts import Refusals
from kasbah.control.http.application import make_application
from kasbah.control.http.edge import Edge
from kasbah.control.listening import address_of, api_server, listen, sites_server
from kasbah.control.loops.audit import Checkpoints
from kasbah.control.loops.law import Law
from kasbah.control.loops.rollout import Rollouts
from kasbah.control.loops.tidy import Tidy
from kasbah.control.metrics import Metrics
from kasbah.control.ownership import ownership
from kasbah.control.running import Running
from kasbah.control.store.migrate import migrate
from kasbah.control.store.sql import SqlStore, open_engine
from kasbah.control.usecases.begin import begin
from kasbah.control.usecases.found_law import found_law
from kasbah.control.usecases.law_now import Library
from kasbah.control.usecases.name_deployer import name_deployer
from kasbah.control.usecases.work import Office, Rules
from kasbah.decide.access import Permissions
from kasbah.loop import Loop
from kasbah.settings import ControlSettings

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A control plane, wired and not yet listening. `asgi` is `app` behind its edge."""

    app: FastAPI
    asgi: ASGIApp
    office: Office
    running: Running
    folder: Folder
    authority: Authority

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
    audit_key = load_or_make_key(folder.audit_key)
    checkpoints = Checkpoints(office, audit_key, folder)
    checkpoints.resume()
    with office.write() as work:
        installation = work.tx.installations.get()
        owner = ownership(folder, None if installation is None else installation.owner_key)
        installation = begin(
            work,
            admin_token=read_or_make_secret(folder.admin_token, lambda: make_secret(Secret.TOKEN)),
            site_token=read_or_make_secret(folder.site_token, lambda: make_secret(Secret.SITE)),
            country=settings.country,
            owner=owner,
        )
        found_law(work, owner)
        if owner.key is not None:
            deployer, _ = load_or_make(folder.deployer_key, whose="deployer")
            name_deployer(work, owner, public_text(deployer))
    authority = load_or_make_authority(folder.root, installation.id, clock.now())
    checkpoints.sign()
    running = _running(office, checkpoints)
    metrics = Metrics()
    app = make_application()
    app.state.office, app.state.running, app.state.metrics = office, running, metrics
    app.state.authority, app.state.refusals, app.state.audit_key = authority, Refusals(), audit_key
    app.state.owners_key = lambda: ownership(folder, owner.public).key
    return Control(app=app, asgi=Edge(app, metrics), office=office, running=running, folder=folder, authority=authority)


def _office(settings: ControlSettings, folder: Folder, clock: Clock) -> Office:
    engine = open_engine(settings.database_url or f"sqlite:///{folder.database.absolute()}")
    migrate(engine, clock=clock)
    return Office(
        store=SqlStore(engine),
        clock=clock,
        rules=Rules(base_domain=settings.base_domain, ticket_lifetime=settings.ticket_lifetime),
        key=load_or_make_key(folder.signing_key),
        vault=load_or_make_vault(folder.secrets_key),
        library=Library(),
        access=Permissions(rules=shipped_access()),
        changes=Changes(),
    )


def _running(office: Office, checkpoints: Checkpoints) -> Running:
    rollouts = Loop("rollouts", Rollouts(office).carry_on, period=timedelta(seconds=2))
    upheld = Law(office)
    law = Loop("law", upheld.uphold, period=timedelta(seconds=2))
    tidy = Loop("tidy", Tidy(office).sweep, period=timedelta(hours=1))
    audit = Loop("audit", checkpoints.keep_up, period=timedelta(seconds=1))
    office.changes.listen(ROLLOUTS, rollouts.nudge)
    office.changes.listen(MOVES, upheld.unsettle)
    return Running((rollouts, law, tidy, audit), office.changes)


def run(settings: ControlSettings) -> None:
    """Be the control plane until told to end (SIGTERM or SIGINT)."""
    logging_setup.configure()
    os.umask(0o077)  # what we write is for this user's eyes only
    folder = Folder(settings.data_dir)
    folder.make()
    with folder.held():
        folder.forget_endpoint()
        with contextlib.ExitStack() as open_ones:
            listener = open_ones.enter_context(listen(settings.api, folder.port, option="api"))
            sites = None
            if settings.sites is not None:
                sites = open_ones.enter_context(listen(settings.sites, folder.sites_port, option="sites", tls=True))
            control = open_ones.enter_context(contextlib.closing(build(settings, SystemClock())))
            uvloop.run(_serve(control, listener, sites))


async def _serve(control: Control, listener: socket.socket, sites: socket.socket | None) -> None:
    _, address = address_of(listener)
    host, dialled = address_of(sites) if sites is not None else ("", "")
    api = f"http://{address}"
    servers = [(api_server(control.asgi), listener)]
    if sites is not None:
        door = sites_server(control.asgi, control.folder, control.authority, host, control.office.clock)
        servers.append((door, sites))

    def end() -> None:
        for server, _ in servers:
            server.should_exit = True
        control.office.changes.close()

    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, end)
    try:
        async with control.started(), asyncio.TaskGroup() as serving:
            control.folder.write_endpoint(api, f"https://{dialled}" if dialled else "")
            log.info("control plane listens", api=api, sites=dialled)
            for server, where in servers:
                serving.create_task(server.serve(sockets=[where]))
    finally:
        control.folder.forget_endpoint()
    log.info("control plane ended")
