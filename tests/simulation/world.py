"""A site that anything may happen to, and the oracle that watches it.

The site is the agent's real core on a simulated driver and gateway (`kasbah/dev.py`). Callers come and go, replicas
start slowly, not at all, or crash; desired states and orders arrive at any moment. The oracle sees every connection,
every freeze and every stop, and after each step looks at everything there is.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import bent
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kasbah.agent.gateway.simulated import Exchange
from kasbah.api.agent import DESIRED_STATE, Identity
from kasbah.api.signing import DESIRED, public_text, sign
from kasbah.decide.activation import UNKNOWN
from kasbah.dev import SimulatedSite
from kasbah.domain.desired import DesiredState
from kasbah.domain.gateway import Endpoint
from kasbah.domain.ids import Digest, InstallationId, ProjectId, ReplicaId, RevisionId, RolloutId, ServiceId, SiteId
from kasbah.domain.replica import Exit, ReplicaState
from kasbah.domain.revision import Deadlines, Health, Revision, Runtime, Volume
from kasbah.domain.service import Access, Command, Order, Scaling, Service, Share, Sleep, Trial
from kasbah.drivers.interface import Running, StartOrder
from kasbah.drivers.simulated import Program, SimulatedDriver
from kasbah.errors import Unavailable
from kasbah.settings import Holding

SetEndpoints = Callable[[str, tuple[Endpoint, ...]], int]

SOURCE = Digest("sha256:" + "a" * 64)
DEADLINES = Deadlines(startup=timedelta(seconds=10), drain=timedelta(seconds=5))
GRACE = timedelta(seconds=1)
"""What messages, retries and the timers' own order may add to a deadline."""


@dataclass(kw_only=True)
class Chances:
    """How likely a replica is to start slowly, to be refused, never to listen, to end by itself, to ignore SIGTERM."""

    slow: float = 0.0
    refused: float = 0.0
    deaf: float = 0.0
    dies: float = 0.0
    stubborn: float = 0.0


QUIET = Chances()
ROUGH = Chances(slow=0.2, refused=0.05, deaf=0.05, dies=0.15, stubborn=0.1)


class WatchedDriver(SimulatedDriver):
    """The simulated driver, which tells the oracle before it does anything that would disturb a request."""

    world: World

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.hung: set[ReplicaId] = set()

    def listens(self, address: str) -> bool:
        running = self.at(address)
        return running is not None and running.replica not in self.hung and super().listens(address)

    def everything(self) -> dict[ReplicaId, Running]:
        return self._replicas

    async def freeze(self, replica: ReplicaId) -> None:
        self.world.about_to_freeze(replica)
        await super().freeze(replica)

    async def stop(self, replica: ReplicaId, *, drain: timedelta) -> None:
        self.world.about_to_stop(replica)
        await super().stop(replica, drain=drain)

    def end(self, replica: ReplicaId, how: Exit) -> None:
        self.world.ended(replica)
        super().end(replica, how)


class World:
    """See the module. `wrong` holds everything the oracle saw that may not be."""

    def __init__(self, folder: Path, seed: int, chances: Chances = QUIET, holding: Holding | None = None) -> None:
        self.chance = Random(seed)
        self.clock = bent.LoopClock()
        self.chances = chances
        self.holding = holding or Holding()
        self.driver = WatchedDriver(self.clock, self._program)
        self.driver.world = self
        self.site = SimulatedSite(folder, self.clock, self.chance, driver=self.driver, holding=self.holding)
        self.site.connect = self._connect
        self.site.sources.add(SOURCE)
        self.services: dict[ServiceId, Service] = {}
        self.answers: list[Exchange] = []
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []
        self.starts = 0
        self.crashed: set[ReplicaId] = set()
        self.told_to_end: set[ReplicaId] = set()
        self.calling: dict[asyncio.Task[None], None] = {}
        self._generation = self._serial = 0
        self._known: set[str] = set()
        self._draining_since: dict[str, float] = {}
        self._given_traffic: dict[str, set[str]] = {}
        self._key = Ed25519PrivateKey.generate()
        identity = Identity(
            installation=InstallationId("in-1"),
            site=SiteId("st-1"),
            site_name="local",
            public_key=public_text(self._key),
        )
        self.site.ledger.pin(identity)
        self.desire()
        self.site.gateway.set_endpoints = self._noting(self.site.gateway.set_endpoints)

    # --- what people do -------------------------------------------------------------------------------------------

    def desire(self) -> None:
        """Write the services as the site's next desired state."""
        self._generation += 1
        desired = DesiredState(
            installation=InstallationId("in-1"),
            epoch=1,
            generation=self._generation,
            site=SiteId("st-1"),
            issued_at=self.clock.now(),
            base_domain="localhost",
            services=tuple(self.services.values()),
        )
        body = DESIRED_STATE.dump_json(desired)
        self.site.ledger.accept(body, sign(self._key, DESIRED, body))
        self.site.reconciling.nudge()

    def put(self, service: Service) -> None:
        """Desire this of a service."""
        self.services[service.id] = service
        self.desire()

    def add(self, name: str, *, scaling: Scaling | None = None, sleep: Sleep | None = None, **how: Any) -> Service:
        """A new service with a first revision under trial."""
        service = Service(
            id=ServiceId(f"sv-{name}"),
            project=ProjectId("pr-1"),
            name=name,
            hosts=(f"{name}.localhost",),
            access=Access.PUBLIC,
            scaling=scaling or Scaling(),
            sleep=sleep or Sleep(),
        )
        self.try_revision(service, **how)
        return self.services[service.id]

    def try_revision(
        self,
        service: Service,
        port: int | None = None,
        health: Health | None = None,
        volumes: tuple[Volume, ...] = (),
    ) -> None:
        """A new revision is under trial, as after a deploy."""
        self._serial += 1
        made = Revision(
            id=RevisionId(f"rv-{self._serial}"),
            source=SOURCE,
            source_size=1,
            runtime=Runtime.COMMAND,
            command=("serve",),
            port=port,
            health=health or Health(),
            deadlines=DEADLINES,
            volumes=volumes,
        )
        trial = Trial(rollout=RolloutId(f"ro-{self._serial}"), revision=made.id)
        kept = tuple(one for one in service.revisions if any(share.revision == one.id for share in service.shares))
        self.put(replace(service, revisions=(*kept, made), trial=trial))

    def advance_rollouts(self) -> None:
        """What control does: a proven revision gets the traffic, a failed trial ends."""
        statuses = {one.service: one for one in self.site.reconciler.statuses()}
        for service in list(self.services.values()):
            if service.trial is None or service.id not in statuses:
                continue
            found = [one for one in statuses[service.id].revisions if one.revision == service.trial.revision]
            if found and found[0].rollout == service.trial.rollout:
                if found[0].trial == "proven":
                    shares = (Share(revision=service.trial.revision, percent=100),)
                    self.put(replace(service, shares=shares, trial=None))
                elif found[0].trial == "failed":
                    self.put(replace(service, trial=None))

    def order(self, service: Service, command: Command) -> None:
        """Tell a service to sleep, stop or wake."""
        number = service.order.number + 1 if service.order else 1
        self.put(replace(service, order=Order(number=number, command=command)))

    def crash(self, replica: ReplicaId) -> None:
        """A replica ends by itself, now."""
        if replica in self.alive():
            self.driver.end(replica, Exit(signal="SIGSEGV"))

    def call(self, host: str, work: timedelta) -> asyncio.Task[None]:
        """Somebody calls. Who leaves before the answer cancels the task."""
        task = asyncio.get_running_loop().create_task(self._call(host, work))
        self.calling[task] = None
        task.add_done_callback(lambda done: self.calling.pop(done, None))
        return task

    async def serving(self, name: str) -> None:
        """Wait until a service has traffic."""
        for _ in range(600):
            self.advance_rollouts()
            shares = self.services[ServiceId(f"sv-{name}")].shares
            await asyncio.sleep(0.1)
            if shares:
                return
        raise AssertionError(f"{name} never serves")

    # --- the oracle -----------------------------------------------------------------------------------------------

    def check(self, where: str = "") -> None:
        """Look at everything there is."""
        self._check_ownership(where)
        for unit in self.site.reconciler.units:
            held = len(unit.queue)
            if held > self.holding.per_service:
                self.wrong.append(f"{held} wait for {unit.service.name}")
            awake = unit.replicas.awake
            starting = [one for one in awake if one.state is ReplicaState.STARTING]
            if len(starting) > unit.service.scaling.max:
                self.wrong.append(f"{len(starting)} replicas start at once, max is {unit.service.scaling.max}")
        if self.site.reconciler.waiting > self.holding.per_site:
            self.wrong.append(f"{self.site.reconciler.waiting} wait at the site")
        assert not self.wrong, f"{where}: {self.wrong}"

    def alive(self) -> list[ReplicaId]:
        """Replicas that have not ended, frozen ones included."""
        return [one.replica for one in self.driver.everything().values() if one.exit is None]

    def ended(self, replica: ReplicaId) -> None:
        if replica not in self.told_to_end:
            self.crashed.add(replica)

    def about_to_freeze(self, replica: ReplicaId) -> None:
        running = self.driver.everything().get(replica)
        if running is not None and (busy := self.site.gateway.in_flight(running.address)):
            self.wrong.append(f"{replica} is frozen with {busy} requests in flight")

    def about_to_stop(self, replica: ReplicaId) -> None:
        self.told_to_end.add(replica)
        running = self.driver.everything().get(replica)
        if running is None or running.exit is not None:
            return
        if any(running.address in given for given in self._given_traffic.values()):
            self.wrong.append(f"{replica} is stopped while the gateway sends to it")
        if replica in self.driver.hung or not (busy := self.site.gateway.in_flight(running.address)):
            return
        since = self._draining_since.get(running.address)
        if since is None or self.clock.steady() - since < DEADLINES.drain.total_seconds() - 0.001:
            self.wrong.append(f"{replica} is stopped with {busy} requests in flight, draining since {since}")

    def _connect(self, address: str) -> ReplicaId | None:
        """A request is sent to this address."""
        running = self.driver.at(address)
        if running is None:
            if address not in self._known:
                self.wrong.append(f"a request is sent to {address}, where never was anybody")
            return None
        if running.frozen:
            self.wrong.append(f"a request is sent to {running.replica}, which is frozen")
        if not self.driver.listens(address):
            self.wrong.append(f"a request is sent to {running.replica}, which only starts")
        return running.replica

    def _check_ownership(self, where: str) -> None:
        """Every replica that lives is somebody's, who knows that it does."""
        owned = {
            one.id
            for unit in self.site.reconciler.units
            for one in unit.replicas
            if one.state is not ReplicaState.ENDED
        }
        for replica in set(self.alive()) - owned:
            self.wrong.append(f"nobody owns {replica} {where}")

    async def _call(self, host: str, work: timedelta) -> None:
        began = self.clock.steady()
        answer = await self.site.gateway.call(host, work)
        waited = timedelta(seconds=self.clock.steady() - began)
        self.answers.append(answer)
        self.statuses[answer.status] += 1
        longest = 4 * DEADLINES.startup + work + GRACE
        if waited > longest:
            self.wrong.append(f"a caller waited {waited} for {answer}")
        if answer.status == 502 and answer.replica not in self.crashed and answer.replica not in self.told_to_end:
            self.wrong.append(f"a request failed on {answer.replica}, which did not crash")
        if answer.code == UNKNOWN.code and self._serves(host):
            self.wrong.append(f"{host} serves, and a caller was told that it does not: {answer}")

    # --- the rest -------------------------------------------------------------------------------------------------

    def _serves(self, host: str) -> bool:
        return any(host in one.hosts and one.shares for one in self.services.values())

    def _noting(self, set_endpoints: SetEndpoints) -> SetEndpoints:
        """Note since when each address drains, as the gateway is told."""

        def note(cluster: str, endpoints: tuple[Endpoint, ...]) -> int:
            self._given_traffic[cluster] = {one.address for one in endpoints if not one.draining}
            for one in endpoints:
                if one.draining:
                    self._draining_since.setdefault(one.address, self.clock.steady())
                else:
                    self._draining_since.pop(one.address, None)
            return set_endpoints(cluster, endpoints)

        return note

    def _program(self, order: StartOrder) -> Program:
        chance, odds = self.chance, self.chances
        address = f"127.0.0.1:{order.port}"
        if self.driver.at(address) is not None:
            self.wrong.append(f"two replicas at {address}")
        self._known.add(address)
        self.starts += 1
        return Program(
            start_delay=timedelta(seconds=chance.uniform(0.005, 0.1)),
            refusal=Unavailable("no memory left") if chance.random() < odds.refused else None,
            listens_after=_listening(chance, odds),
            ends_after=timedelta(seconds=chance.expovariate(1 / 60)) if chance.random() < odds.dies else None,
            ends_with=Exit(code=1),
            obeys_after=None if chance.random() < odds.stubborn else timedelta(seconds=chance.uniform(0, 2)),
        )


def _listening(chance: Random, odds: Chances) -> timedelta | None:
    if chance.random() < odds.deaf:
        return None
    return timedelta(seconds=chance.uniform(4, 9) if chance.random() < odds.slow else chance.uniform(0.05, 2))
