"""Everything one site's agent is made of: built once, wired by hand, and run until told to end.

SIGTERM ends the agent alone: Envoy, the runner and the replicas go on, and the next agent adopts them. What ends those
is `teardown.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import structlog

from kasbah.agent.activator import open_gate
from kasbah.agent.audit.log import SiteLog
from kasbah.agent.audit.replicas import ReplicaDiary
from kasbah.agent.audit.requests import Requests
from kasbah.agent.blobs import BlobStore
from kasbah.agent.build import open_builder
from kasbah.agent.certificates import Certificates
from kasbah.agent.coldlog import ColdLog
from kasbah.agent.door import Door
from kasbah.agent.gateway.controller import GatewayController
from kasbah.agent.identity import Identity
from kasbah.agent.keyring import Keyring
from kasbah.agent.last_word import LastWord
from kasbah.agent.ledger import Ledger
from kasbah.agent.link import Link
from kasbah.agent.meter import Meter
from kasbah.agent.nearness import NEARNESS_PERIOD, Nearness
from kasbah.agent.owed import Owed
from kasbah.agent.own_keys import OwnKeys
from kasbah.agent.paths import Paths
from kasbah.agent.probe import NetworkProber
from kasbah.agent.proof import SiteIdentity
from kasbah.agent.reconciler import Parts, Reconciler
from kasbah.agent.revisions import Revisions
from kasbah.agent.runner.launch import ensure_runner, process_driver
from kasbah.agent.serving import announce, bound, loopback, serve_tcp, serve_unix
from kasbah.agent.shelf import Shelf
from kasbah.agent.site_clock import SiteClock
from kasbah.agent.sources import ONE_DEADLINE, SourceExchange
from kasbah.agent.space import Housekeeper
from kasbah.agent.starting import Starter
from kasbah.agent.status import Reporter
from kasbah.agent.tools import Tools
from kasbah.agent.visitors import LOOK_EVERY, Visitors
from kasbah.agent.visits import Visits
from kasbah.decide.keeping import AtWork
from kasbah.domain.ids import ReplicaId, WakeId, make_id
from kasbah.drivers.interface import Driver
from kasbah.drivers.ports import Ports
from kasbah.drivers.process import ProcessDriver
from kasbah.errors import KasbahError
from kasbah.loop import Loop, guarded
from kasbah.packs.own import pinned
from kasbah.settings import AgentSettings

log = structlog.get_logger()
ADOPTION_PROBE = 0.5
PERIOD = timedelta(seconds=5)
CERTIFICATES_PERIOD = timedelta(seconds=2)
EGRESS_PERIOD = timedelta(seconds=30)
"""How often the names in what services may call are looked up again."""
AUDIT_PERIOD = timedelta(seconds=10)
METER_PERIOD = timedelta(seconds=1)
STATUS_PERIOD = timedelta(seconds=2)
STATUS_PAUSE = 0.02
"""Seconds between two statuses at the least: a burst of changes is told as one."""


class _ToldToEnd(Exception):
    """Ends the agent's tasks, all at once."""


class Agent:
    """Everything one site's agent is made of."""

    def __init__(self, settings: AgentSettings, paths: Paths) -> None:
        self._settings = settings
        self._paths = paths
        self._clock = SiteClock(paths.ledger / "time.json")
        self._tasks: asyncio.TaskGroup | None = None
        self._ending = asyncio.Event()
        self._status_due = asyncio.Event()
        self._acted_on: tuple[object, str] | None = None
        self._prober, self._ports = NetworkProber(), Ports()
        self._word = LastWord(paths.ledger / "word.json", self._clock, pinned(settings.packs), OwnKeys(paths))
        self._ledger = Ledger(paths.ledger, self._word.judge)
        self._meter = Meter(paths.envoy / "access.log", paths.usage)
        self._blobs = BlobStore(paths, settings.limits)
        folder = settings.certificates or paths.data_dir / "certificates"
        self._certificates = Certificates(folder, paths.certificates, self._clock)
        self._identity = SiteIdentity(paths.identity)
        self._nearness = Nearness()
        self._link = Link(
            settings.control_url,
            settings.token_file,
            self._ledger,
            self._meter,
            lambda: self._reconciling.nudge(),
            identity=Identity(paths.identity),
            word=self._word,
        )
        self._reconciling = Loop("reconcile", self._reconcile, period=PERIOD)
        self._owed = Owed(Loop("housekeeping", self._keep_house, period=timedelta(minutes=10)))

    async def run(self) -> None:
        """Start everything, in the order that breaks nothing, and run until told to end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.set)
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._tasks.create_task(self._main())
                await self._ending.wait()
                raise _ToldToEnd
        except* _ToldToEnd:
            log.info("agent ended; what it runs goes on")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` beside everything else; an error in it is logged and ends nothing else."""
        assert self._tasks is not None
        if self._ending.is_set():
            work.close()
            return asyncio.get_running_loop().create_task(asyncio.sleep(0))
        return self._tasks.create_task(guarded(work))

    async def _main(self) -> None:
        async with contextlib.AsyncExitStack() as closing:
            await self._build_up(closing)
            await asyncio.Event().wait()

    async def _build_up(self, closing: contextlib.AsyncExitStack) -> None:
        await ensure_runner(self._paths, self._settings.limits)
        driver = process_driver(self._paths, self._settings.limits)
        driver.on_ending = lambda replica: self._reconciler.ending(replica)
        closing.push_async_callback(driver.close)
        self._word.keeps((await driver.isolation()).egress)
        self._ledger.rejudge()
        self._gateway = GatewayController(
            self._paths,
            listen=self._settings.gateway,
            workers=self._settings.gateway_workers,
            report_interval=self._settings.load_report_interval,
            on_report=lambda report: self._reconciler.reported(report),
            tls=self._settings.tls,
            peers=self._settings.peers,
            tunnel=self._settings.tunnel,
            memory=self._settings.gateway_memory,
            connections=self._settings.gateway_connections,
        )
        self._gateway.inside = await driver.network()
        self._gateway_for_replicas = loopback(self._gateway.listen)
        if self._settings.tls is not None:
            await self._renew_certificates()
        await self._identity.renew(self._gateway.identify)
        await self._link.introduce()
        self._open_audit(closing)
        self._builder = await open_builder(driver, self._paths, self._settings.limits, self._blobs, self._clock)
        self._reconciler = self._make_reconciler(driver)
        await self._reconciler.adopt(lambda address: self._prober.tcp(address, ADOPTION_PROBE), self._ports.keep)
        await self._first_desired()
        await self._open(driver, closing)
        closing.push_async_callback(self._link.close)
        closing.callback(self._meter.close)

    def _make_reconciler(self, driver: Driver) -> Reconciler:
        self._revisions = Revisions(self._paths, self._builder, self._blobs, self._spawn, self._moved)
        keys, nudge = self._word.own, self._reconciling.nudge
        self._keyring = Keyring(self._paths.secrets, self._link.secret, self._spawn, nudge, keys)
        self._housekeeper = Housekeeper(
            self._paths,
            self._settings.limits,
            self._revisions,
            self._clock.own,
            desired=lambda: self._ledger.desired,
            at_work=self._at_work,
        )
        identity = self._ledger.identity
        assert identity is not None
        starter = self._starter = Starter(
            prober=self._prober,
            prepared=self._revisions.prepared,
            new_id=lambda: ReplicaId(make_id("replica", secrets.token_bytes(10))),
            take_port=self._ports.take,
            give_port=self._ports.give_back,
            secrets=self._keyring,
            gateway=lambda: self._gateway_for_replicas,
            site=identity.site_name,
        )
        tools = Tools(
            clock=self._clock,
            spawn=self._spawn,
            site_waiting=lambda: self._reconciler.waiting,
            holding_per_service=self._settings.holding.per_service,
            holding_per_site=self._settings.holding.per_site,
            new_wake_id=lambda: WakeId(make_id("wake", secrets.token_bytes(10))),
            changed=self._changed,
            started=self._diary.started,
            ended=self._diary.ended,
        )
        return Reconciler(
            Parts(
                driver=driver,
                gateway=self._gateway,
                ledger=self._ledger,
                revisions=self._revisions,
                keyring=self._keyring,
                starter=starter,
                tools=tools,
                spawn=self._spawn,
                nudge=self._reconciling.nudge,
            )
        )

    def _open_audit(self, closing: contextlib.AsyncExitStack) -> None:
        """The site's audit log, before anything that it tells of."""
        who = self._ledger.identity
        assert who is not None
        self._link.audit = self._audit = SiteLog(self._paths.audit, who.installation, who.site, self._clock.now)
        closing.callback(self._audit.close)
        self._diary = ReplicaDiary(self._audit)
        closing.push_async_callback(self._diary.write)
        self._meter.tell = Requests(self._audit, self._paths.audit / "requests").tell

    async def _first_desired(self) -> None:
        """The ledger's desired state will do; only a site that never had one waits for the control plane."""
        while self._ledger.desired is None:
            with contextlib.suppress(Exception):
                await self._link.fetch(wait=1)

    async def _open(self, driver: ProcessDriver, closing: contextlib.AsyncExitStack) -> None:
        """The gate before Envoy, the whole state before the xDS socket, the world last."""
        desired = self._ledger.desired
        assert desired is not None
        await self._builder.recover()
        gate = await open_gate(self._paths.gate_socket, self._reconciler.arrive)
        closing.callback(gate.close)
        gateway, endpoints = self._reconciler.first_gateway(desired)
        await self._gateway.open(gateway, endpoints)
        with contextlib.suppress(KasbahError):  # an older runner knows no such request
            self._gateway_for_replicas = await driver.lead_to(self._gateway.listen)
        closing.push_async_callback(self._gateway.close)
        self._reconciler.go_on()
        shelf = Shelf(self._paths, lambda: self._ledger.desired, self._at_work)
        nudge = self._reconciling.nudge
        visitors = Visitors(self._link.visitors, self._word)
        self._spawn(Loop("visitors", visitors.look, period=LOOK_EVERY).run())
        door = Door(self._paths, self._ledger, self._blobs, self._clock, nudge, self._housekeeper, shelf, visitors)
        visits = Visits(self._reconciler, self._ledger, self._starter, driver)
        self._spawn(serve_unix(door.app(visits), self._paths.door_socket))
        self._exchange = SourceExchange(
            self._paths,
            self._blobs,
            self._settings.limits,
            self._ledger,
            self._word,
            audit=self._audit,
            build=self._revisions.status,
            stored=nudge,
        )
        closing.push_async_callback(self._exchange.close)
        self._spawn(serve_unix(self._exchange.app(), self._paths.handing_socket))
        await self._gateway.live()
        await self._start_loops(driver)

    async def _start_loops(self, driver: ProcessDriver) -> None:
        self._reporter = reporter = Reporter(
            clock=self._clock,
            ledger=self._ledger,
            gateway=self._gateway,
            reconciler=self._reconciler,
            link=self._link,
            meter=self._meter,
            certificates=self._certificates,
            identity=self._identity,
            word=self._word,
            nearness=self._nearness,
            exchange=self._exchange,
            peers_address=self._settings.peers_address,
            isolation=await driver.isolation(),
            driver=driver.name,
        )
        listening = bound(self._settings.status)
        self._spawn(serve_tcp(reporter.app(), listening))
        self._spawn(self._reconciling.run())
        self._spawn(self._hear_endings(driver))
        self._spawn(self._tell_status())
        self._spawn(Loop("sources", self._exchange.seek, period=PERIOD, deadline=ONE_DEADLINE).run())
        self._spawn(Loop("egress", driver.renew, period=EGRESS_PERIOD).run())
        self._spawn(Loop("meter", self._count, period=METER_PERIOD).run())
        self._spawn(Loop("audit", self._tell_audit, period=AUDIT_PERIOD).run())
        self._spawn(self._owed.housekeeping.run())
        if self._settings.tls is not None:
            self._spawn(Loop("certificates", self._follow_certificates, period=CERTIFICATES_PERIOD).run())
        self._spawn(Loop("identity", self._follow_identity, period=CERTIFICATES_PERIOD).run())
        self._spawn(Loop("nearness", self._measure, period=NEARNESS_PERIOD).run())
        self._spawn(ColdLog(self._paths.envoy / "cold.log", self._note_first_byte).follow())
        self._spawn(Loop("renewal", lambda: self._link.renew(self._clock.now()), period=timedelta(minutes=1)).run())
        for lasting in (self._link.follow(), self._clock.keep_up(), self._gateway.keep_running()):
            self._spawn(lasting)
        tls = self._gateway.tls
        announce(self._paths.endpoint, self._gateway.listen, tls.listen if tls else None, listening)

    # --- the loops ------------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        self._status_due.set()

    async def _reconcile(self) -> None:
        self._ledger.rejudge()
        await self._reconciler.reconcile()
        desired = self._ledger.desired
        units = self._reconciler.units
        gone = self._owed.settle(desired, self._word.refused, {unit.service.id for unit in units})
        self._housekeeper.unwanted(gone)
        acted_on = (self._reconciler.acted_on, self._gateway.error)
        if acted_on != self._acted_on:
            self._acted_on = acted_on
            self._changed()

    def _moved(self) -> None:
        self._reconciling.nudge()
        self._changed()

    async def _hear_endings(self, driver: Driver) -> None:
        async for replica in await driver.events():
            for running in [one for one in await driver.list() if one.replica == replica]:
                self._reconciler.ended(running)
            self._reconciling.nudge()

    async def _tell_status(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STATUS_PERIOD.total_seconds()):
                    await self._status_due.wait()
            due = self._status_due.is_set()
            self._status_due.clear()
            if any(unit.steers_the_gateway for unit in self._reconciler.units):
                self._reconciling.nudge()
            with contextlib.suppress(Exception):
                if due or not await self._link.still(self._clock.now()):
                    await self._link.tell(self._reporter.status())
            await asyncio.sleep(STATUS_PAUSE)

    async def _count(self) -> None:
        await self._diary.write()
        await asyncio.to_thread(self._meter.read, self._clock.behind)
        if self._meter.oversized(self._settings.limits.access_log_bytes):
            self._meter.set_aside()
        if self._meter.missing:
            await self._gateway.envoy.admin("POST", "/reopen_logs")
        if self._link.connected:
            await self._link.tell_usage()

    async def _tell_audit(self) -> None:
        if self._link.connected:
            await self._link.tell_audit()

    async def _follow_certificates(self) -> None:
        if await self._renew_certificates():
            self._moved()

    async def _follow_identity(self) -> None:
        if await self._identity.renew(self._gateway.identify):
            self._moved()

    async def _measure(self) -> None:
        if (known := self._ledger.desired) and await self._nearness.measure(known.peers, known.neighbours):
            self._gateway.near = self._nearness.order
            self._reconciling.nudge()

    async def _renew_certificates(self) -> bool:
        changed = await self._certificates.renew(self._gateway.certify)
        self._gateway.withdraw(self._certificates.hosts)
        return changed

    async def _keep_house(self) -> None:
        await self._housekeeper.tidy(anew=False)
        if (desired := self._ledger.desired) is not None:
            wanted = [revision for service in desired.services for revision in service.revisions]
            self._keyring.keep([*wanted, *(unit.revision for unit in self._reconciler.units)])

    def _at_work(self) -> AtWork:
        units = self._reconciler.units
        return AtWork(
            services=frozenset(unit.service.id for unit in units),
            revisions=frozenset(unit.revision.id for unit in units) | self._revisions.building,
            replicas=frozenset(replica.id for unit in units for replica in unit.replicas.alive),
        )

    def _note_first_byte(self, wake: WakeId, at: float) -> None:
        if any(unit.first_byte(wake, at) for unit in self._reconciler.units):
            self._changed()
