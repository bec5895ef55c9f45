"""A control plane and one site's agent in one process, for tests and the simulator: nothing is run, built or routed.

What decides and what reacts is the real thing: the control plane with its HTTP API and its store, the agent's ledger,
link, reconciler and units. What would touch the machine is simulated: replicas, builds and the gateway. Time and chance
are given, so that a test can bend the one and repeat the other.

`SimulatedSite` alone is an agent without a control plane: whoever holds the key writes its desired states.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import httpx
import structlog

from kasbah.agent.build import Built
from kasbah.agent.gateway.simulated import SimulatedGateway
from kasbah.agent.keyring import Fetch, Keyring
from kasbah.agent.ledger import Ledger
from kasbah.agent.link import Link
from kasbah.agent.meter import Meter
from kasbah.agent.paths import Paths
from kasbah.agent.reconciler import Parts, Reconciler
from kasbah.agent.revisions import Revisions
from kasbah.agent.starting import Starter
from kasbah.agent.tools import Tools
from kasbah.clock import Clock
from kasbah.control.app import Control, build
from kasbah.domain.ids import Digest, ReplicaId, RevisionId, SecretId, WakeId, make_id
from kasbah.domain.observed import SiteStatus
from kasbah.domain.revision import Revision
from kasbah.drivers.interface import StartOrder
from kasbah.drivers.simulated import SERVES, Program, SimulatedDriver
from kasbah.errors import BuildFailed, KasbahError, Unavailable
from kasbah.loop import Loop
from kasbah.settings import ControlSettings, Holding

log = structlog.get_logger()

BASE = "http://control"
FIRST_PORT = 20_000
RECONCILE_PERIOD = timedelta(seconds=5)
STATUS_PERIOD, STATUS_PAUSE = 2.0, 0.02


class SimulatedBuilds:
    """Builds that only take their time. What is made from a source in `failing` fails."""

    def __init__(self, takes: timedelta = timedelta(seconds=3)) -> None:
        self.failing: set[Digest] = set()
        self._takes = takes.total_seconds()
        self._built: dict[RevisionId, Built] = {}

    def built(self, revision: Revision) -> Built | None:
        return self._built.get(revision.id)

    async def build(self, revision: Revision, *, cache: str, report: Callable[[str], None], log: Path) -> Built:
        report("installing")
        await asyncio.sleep(self._takes)
        if revision.source in self.failing:
            raise BuildFailed("nothing fits together", hint="look at the last lines", tail=("no such package",))
        made = Built(app=Path("/app"), argv=revision.command, env={}, readable=())
        return self._built.setdefault(revision.id, made)

    async def remove(self, revision: RevisionId) -> None:
        self._built.pop(revision, None)


class SimulatedSources(set[Digest]):
    """The sources that have arrived."""

    def has(self, digest: Digest) -> bool:
        return digest in self


class SimulatedProber:
    """Asks simulated replicas whether they listen."""

    def __init__(self, driver: SimulatedDriver) -> None:
        self._driver = driver

    async def listens(self, address: str) -> bool:
        """Whether the replica there accepts connections."""
        return self._driver.listens(address)

    async def tcp(self, address: str, timeout: float) -> bool:
        return self._driver.listens(address)

    async def http(self, address: str, path: str, timeout: float) -> bool:
        return self._driver.listens(address)

    async def speaks_h2c_only(self, address: str, timeout: float) -> bool:
        return False


class SimulatedSite:
    """The core of an agent on a simulated driver and gateway. `connect` is asked whenever a request is sent to an
    address; a test that watches puts its own there."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        chance: Random,
        *,
        program: Callable[[StartOrder], Program] = lambda _: SERVES,
        driver: SimulatedDriver | None = None,
        holding: Holding | None = None,
    ) -> None:
        self.paths = Paths(folder)
        self.paths.make()
        self.ledger = Ledger(self.paths.ledger)
        self.sources = SimulatedSources()
        self.builds = SimulatedBuilds()
        self.driver = driver or SimulatedDriver(clock, program)
        self.fetch_secret: Fetch = _no_secrets
        self.connect: Callable[[str], ReplicaId | None] = self.who_listens
        self.status_due = asyncio.Event()
        self.reconciling = Loop("reconcile", self._reconcile, period=RECONCILE_PERIOD)
        self._clock = clock
        self._chance = chance
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gateway = SimulatedGateway(
            arrive=lambda service, revision: self.reconciler.arrive(service, revision),
            connect=lambda address: self.connect(address),
            on_report=lambda report: self.reconciler.reported(report),
            chance=chance,
        )
        self.reconciler = self._make_reconciler(holding or Holding())

    def who_listens(self, address: str) -> ReplicaId | None:
        """The replica that accepts a connection at this address."""
        running = self.driver.at(address)
        return running.replica if running is not None and self.driver.listens(address) else None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """It runs until the block ends. The ledger holds a desired state by then. An error in it ends the block."""
        desired = self.ledger.desired
        assert desired is not None
        await self.reconciler.adopt(SimulatedProber(self.driver).listens, lambda _: None)
        self.gateway.start(*self.reconciler.first_gateway(desired))
        self.reconciler.go_on()
        for work in (self.reconciling.run(), self._hear_endings(), self.gateway.report()):
            self.spawn(work)
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._failed.done():
            self._failed.result()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` beside everything else. As in the agent, an error of ours is logged; any other is kept."""
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # one that is cancelled before it began is not awaited
        return task

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except KasbahError as error:
            log.warning("a task of the agent failed", error=str(error))
        except Exception as error:
            if not self._failed.done():
                self._failed.set_exception(error)

    async def _reconcile(self) -> None:
        await self.reconciler.reconcile()
        self.status_due.set()

    async def _hear_endings(self) -> None:
        async for replica in await self.driver.events():
            for running in await self.driver.list():
                if running.replica == replica:
                    self.gateway.cut(running.address)
                    self.reconciler.ended(running)
            self.reconciling.nudge()

    def _make_reconciler(self, holding: Holding) -> Reconciler:
        self.revisions = Revisions(self.paths, self.builds, self.sources, self.spawn, self.reconciling.nudge)
        self.keyring = Keyring(
            self.paths.secrets, lambda *held: self.fetch_secret(*held), self.spawn, self.reconciling.nudge
        )
        ports = count(FIRST_PORT)
        starter = Starter(
            prober=SimulatedProber(self.driver),
            prepared=self.revisions.prepared,
            new_id=lambda: ReplicaId(self._draw("replica")),
            take_port=lambda: next(ports),
            give_port=lambda _: None,
            secrets=self.keyring,
            gateway=lambda: self.gateway.listen,
            site="local",
        )
        tools = Tools(
            clock=self._clock,
            spawn=self.spawn,
            site_waiting=lambda: self.reconciler.waiting,
            holding_per_service=holding.per_service,
            holding_per_site=holding.per_site,
            new_wake_id=lambda: WakeId(self._draw("wake")),
            changed=self.status_due.set,
        )
        return Reconciler(
            Parts(
                driver=self.driver,
                gateway=self.gateway,
                ledger=self.ledger,
                revisions=self.revisions,
                keyring=self.keyring,
                starter=starter,
                tools=tools,
                spawn=self.spawn,
                nudge=self.reconciling.nudge,
            )
        )

    def _draw(self, kind: str) -> str:
        return make_id(kind, self._chance.randbytes(10))


async def _no_secrets(secret: SecretId, version: int) -> bytes:
    """A site without a control plane has none to ask."""
    raise Unavailable("there is no control plane")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dev:
    """A whole installation: its control plane, a caller of its API with every right, and its site."""

    control: Control
    api: httpx.AsyncClient
    site: SimulatedSite


@asynccontextmanager
async def installation(
    folder: Path, clock: Clock, chance: Random, *, program: Callable[[StartOrder], Program] = lambda _: SERVES
) -> AsyncIterator[Dev]:
    """A control plane, its store in memory, and the agent of its site, until the block ends."""
    control = build(ControlSettings(data_dir=folder, database_url="sqlite://", country="MA"), clock)
    transport = httpx.ASGITransport(app=control.asgi)
    site = SimulatedSite(folder, clock, chance, program=program)
    meter = Meter(site.paths.envoy / "access.log", site.paths.usage)
    link = Link(BASE, control.folder.site_token, site.ledger, meter, site.reconciling.nudge, transport)
    site.fetch_secret = link.secret
    headers = {"authorization": f"Bearer {control.folder.admin_token.read_text().strip()}"}
    async with contextlib.AsyncExitStack() as closing:
        closing.callback(control.close)
        closing.callback(meter.close)
        await closing.enter_async_context(control.started())
        api = httpx.AsyncClient(transport=transport, base_url=f"{BASE}/api/v1", headers=headers)
        await closing.enter_async_context(api)
        closing.push_async_callback(link.close)
        await link.introduce()
        while site.ledger.desired is None:
            await link.fetch(wait=1)
        await closing.enter_async_context(site.running())
        site.spawn(link.follow())
        site.spawn(_tell_status(site, link, clock))
        yield Dev(control=control, api=api, site=site)


async def _tell_status(site: SimulatedSite, link: Link, clock: Clock) -> None:
    isolation = await site.driver.isolation()
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STATUS_PERIOD):
                await site.status_due.wait()
        site.status_due.clear()
        if any(unit.steers_the_gateway for unit in site.reconciler.units):
            site.reconciling.nudge()
        identity, desired = site.ledger.identity, site.ledger.desired
        assert identity is not None
        status = SiteStatus(
            site=identity.site,
            observed_at=clock.now(),
            applied=desired.version if desired else (0, 0),
            gateway_address=site.gateway.listen,
            isolation=isolation,
            drivers=(site.driver.name,),
            runtimes=("command", "python", "node"),
            services=site.reconciler.statuses(),
        )
        await link.tell(status)
        await asyncio.sleep(STATUS_PAUSE)
