"""A gateway that is only told of: routes, endpoints, holds and load reports as Envoy has them, on the loop's own time.

For tests and the simulator. What takes time in Envoy takes time here: a change acts a little after it was ordered, a
report tells of a moment ago, and the gate's answer travels. A replica taken out of its cluster vanishes from the
reports; one that refuses the connection makes the request try again, through the gate.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from random import Random

from kasbah.agent.activator import Arrive
from kasbah.agent.gateway import names
from kasbah.agent.gateway.load import EMPTY, RESTING, LoadReport
from kasbah.agent.waiting import Released
from kasbah.domain.gateway import Endpoint, Gateway, VirtualHost, WeightedCluster
from kasbah.domain.ids import ReplicaId

TRIES = 4
"""As often a request is sent on that finds nobody listening."""
AGAIN_AFTER = 0.025


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What became of a request: its status, who served it, and why it was refused or failed."""

    status: int
    replica: ReplicaId | None = None
    code: str = ""


class SimulatedGateway:
    """See the module. `connect` answers who accepts a connection at an address, None where nobody does."""

    listen = "127.0.0.1:8080"
    tls = None
    crossing = None
    inside = ""

    def __init__(
        self,
        *,
        arrive: Arrive,
        connect: Callable[[str], ReplicaId | None],
        on_report: Callable[[LoadReport], None],
        chance: Random,
        interval: timedelta = timedelta(milliseconds=100),
    ) -> None:
        self.last_report: LoadReport = EMPTY
        self.at_gate = 0
        self._arrive = arrive
        self._connect = connect
        self._on_report = on_report
        self._chance = chance
        self._interval = interval
        self._routes: dict[str, VirtualHost] = {}
        self._endpoints: dict[str, tuple[Endpoint, ...]] = {}
        self._running: Counter[tuple[str, str]] = Counter()
        self._begun: Counter[tuple[str, str]] = Counter()
        self._through: Counter[str] = Counter()
        self._cut: dict[str, asyncio.Event] = {}
        self._serial = self._acted = 0
        self._last_push = 0.0
        self._moved = asyncio.Event()

    # --- what the agent calls -------------------------------------------------------------------------------------

    def start(self, gateway: Gateway, endpoints: dict[str, tuple[Endpoint, ...]]) -> None:
        """Serve this first description, at once."""
        self._routes = {name: host for host in gateway.hosts for name in host.hosts}
        self._endpoints = {one.name: endpoints.get(one.name, ()) for one in gateway.clusters}

    async def apply(self, gateway: Gateway) -> None:
        """Bring a description into force; routes first, then the clusters nobody routes to go."""
        wanted = {one.name for one in gateway.clusters}

        def act() -> None:
            self._routes = {name: host for host in gateway.hosts for name in host.hosts}
            self._endpoints = {name: self._endpoints.get(name, ()) for name in wanted}

        await self.settled(self._push(act))

    def set_endpoints(self, cluster: str, endpoints: tuple[Endpoint, ...]) -> int:
        """Change where a cluster's requests go; answers a serial number for `settled`."""
        return self._push(lambda: self._endpoints.update({cluster: endpoints}))

    async def settled(self, serial: int) -> None:
        """Wait until the change with this number acts."""
        while self._acted < serial:
            await self._moved.wait()

    async def report_after(self, number: int) -> LoadReport:
        """The first load report with a greater number."""
        while self.last_report.number <= number:
            await self._moved.wait()
        return self.last_report

    async def report(self) -> None:
        """Report what is in flight, until cancelled."""
        while True:
            await asyncio.sleep((self._interval if any(self._endpoints.values()) else RESTING).total_seconds())
            asyncio.get_running_loop().call_later(self._travel(), self._deliver, self._snapshot())

    # --- what callers and replicas do -----------------------------------------------------------------------------

    async def call(self, host: str, work: timedelta) -> Exchange:
        """A request to `host` that its replica works on for so long."""
        route = self._routes.get(host)
        if route is None or not route.clusters:
            return Exchange(status=404, code="no_route")
        share = self._share(route)
        ready = [one.address for one in self._endpoints.get(share.cluster, ()) if not one.draining]
        if ready:
            address = min(ready, key=lambda one: self._running[share.cluster, one])
            if (replica := self._connect(address)) is not None:
                return await self._exchange(share.cluster, address, replica, work)
        self._through[share.cluster] += 1
        try:
            return await self._through_gate(route, share, work)
        finally:
            self._through[share.cluster] -= 1

    def in_flight(self, address: str) -> int:
        """Requests on a replica at this moment, whichever way they came."""
        return sum(count for (_, one), count in self._running.items() if one == address)

    def cut(self, address: str) -> None:
        """The replica at this address is gone: what is in flight there fails."""
        if (gone := self._cut.pop(address, None)) is not None:
            gone.set()

    # --- the rest -------------------------------------------------------------------------------------------------

    def _share(self, route: VirtualHost) -> WeightedCluster:
        return self._chance.choices(route.clusters, [one.percent for one in route.clusters])[0]

    async def _through_gate(self, route: VirtualHost, share: WeightedCluster, work: timedelta) -> Exchange:
        for _ in range(TRIES):
            await asyncio.sleep(self._travel())
            self.at_gate += 1
            try:
                answer = await self._arrive(route.service, share.revision)
            finally:
                self.at_gate -= 1
            await asyncio.sleep(self._travel())
            if not isinstance(answer, Released):
                return Exchange(status=answer.status, code=answer.code)
            address = answer.forward.address
            if (replica := self._connect(address)) is not None:
                return await self._exchange(names.WOKEN_HTTP1, address, replica, work)
            await asyncio.sleep(AGAIN_AFTER)
        return Exchange(status=503, code="nobody_listens")

    async def _exchange(self, cluster: str, address: str, replica: ReplicaId, work: timedelta) -> Exchange:
        place = (cluster, address)
        gone = self._cut.setdefault(address, asyncio.Event())
        self._running[place] += 1
        self._begun[place] += 1
        try:
            async with asyncio.timeout(work.total_seconds()):
                await gone.wait()
            return Exchange(status=502, replica=replica, code="cut")
        except TimeoutError:
            return Exchange(status=200, replica=replica)
        finally:
            self._running[place] -= 1

    def _push(self, act: Callable[[], None]) -> int:
        """Have a change act in a while, after those ordered before it."""
        self._serial += 1
        loop, serial = asyncio.get_running_loop(), self._serial
        self._last_push = max(self._last_push, loop.time() + self._travel())

        def arrive() -> None:
            act()
            self._acted = serial
            self._wake()

        loop.call_at(self._last_push, arrive)
        return serial

    def _snapshot(self) -> LoadReport:
        known = {(cluster, one.address) for cluster, there in self._endpoints.items() for one in there}
        begun, self._begun = self._begun, Counter()
        return LoadReport(
            number=0,
            in_flight={place: self._running[place] for place in known},
            issued={place: begun[place] for place in known},
            through_gate={cluster: self._through[cluster] for cluster, _ in known},
        )

    def _deliver(self, report: LoadReport) -> None:
        number = self.last_report.number + 1
        self.last_report = LoadReport(
            number=number,
            in_flight=report.in_flight,
            issued=report.issued,
            through_gate=report.through_gate,
        )
        self._on_report(self.last_report)
        self._wake()

    def _wake(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def _travel(self) -> float:
        """How long a message between gateway and agent is on its way."""
        return self._chance.uniform(0.000_2, 0.005)
