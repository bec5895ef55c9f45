"""The replicas of one revision at this site, alive: carries out what is ordered, and tells what became of it.

Orders change a replica's state at once, so that nothing is ordered twice; the work behind an order runs as a task, one
at a time per replica. Nothing is frozen or ended with a request in flight: first the gateway marks it draining and
confirms, then two load reports in a row must show it empty, and it must not have been called back meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import structlog

from kasbah.agent.gateway.load import LoadReport
from kasbah.agent.live_replica import LiveReplica
from kasbah.agent.ports import GatewayPort
from kasbah.agent.starting import Starter, may_call
from kasbah.clock import Clock
from kasbah.decide import routing
from kasbah.decide.reconcile import AWAKE
from kasbah.decide.scaling import Rung
from kasbah.domain.gateway import Endpoint
from kasbah.domain.ids import ReplicaId
from kasbah.domain.replica import Exit, Replica, ReplicaState
from kasbah.domain.revision import Revision
from kasbah.domain.service import Service
from kasbah.drivers.interface import Driver, Running
from kasbah.errors import KasbahError

log = structlog.get_logger()

EMPTY_REPORTS = 2
"""Load reports in a row that must show nothing in flight: the first may have been on its way when the drain began."""
KEPT_ENDED = 10
EXPELLED_DRAIN = timedelta(seconds=5)
"""How long one that may no longer call what it could has to finish: what became unlawful ends within ten seconds."""

PROBED = (ReplicaState.READY, ReplicaState.UNREADY)
CARRYING = (ReplicaState.READY, ReplicaState.UNREADY, ReplicaState.DRAINING)


class Replicas:
    """See the module. `on_event` is called when one becomes ready, unready, or has ended. `start_took` is how long the
    last start took, from its order until it was ready; None: none was seen."""

    def __init__(
        self,
        revision: Revision,
        driver: Driver,
        starter: Starter,
        gateway: GatewayPort,
        clock: Clock,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self.on_event: Callable[[LiveReplica], None] = lambda _: None
        self.was_busy = False
        self.start_took: timedelta | None = None
        self._all: dict[ReplicaId, LiveReplica] = {}
        self._revision = revision
        self._driver = driver
        self._starter = starter
        self._gateway = gateway
        self._clock = clock
        self._spawn = spawn
        self._published: tuple[Endpoint, ...] = ()
        self._serial = 0

    def __iter__(self) -> Iterator[LiveReplica]:
        return iter(self._all.values())

    def __len__(self) -> int:
        return len(self.alive) if self._all else 0

    # --- what there is --------------------------------------------------------------------------------------------

    @property
    def alive(self) -> list[LiveReplica]:
        """Those that have not ended."""
        return [one for one in self if one.state is not ReplicaState.ENDED]

    @property
    def awake(self) -> list[LiveReplica]:
        """Those that count towards the target."""
        return [one for one in self if one.state in AWAKE]

    @property
    def ready(self) -> list[LiveReplica]:
        """Those that take traffic."""
        return [one for one in self if one.state is ReplicaState.READY]

    @property
    def frozen(self) -> list[LiveReplica]:
        """Those that were put to sleep with their memory."""
        return [one for one in self if one.state is ReplicaState.FROZEN]

    @property
    def starting(self) -> list[LiveReplica]:
        """Those whose startup probe has not succeeded yet."""
        return [one for one in self if one.state is ReplicaState.STARTING]

    @property
    def serving(self) -> list[LiveReplica]:
        """Those that could answer a request now: the ready ones, else those that only drain."""
        return self.ready or [one for one in self if one.state is ReplicaState.DRAINING]

    @property
    def last_words(self) -> tuple[str, ...]:
        """The last lines of the one that ended last."""
        ended = [(one.since, one.exit.tail) for one in self if one.exit is not None and one.exit.tail]
        return max(ended, default=(None, ()))[1]

    def snapshot(self) -> tuple[Replica, ...]:
        """All, frozen in time."""
        return tuple(one.seen() for one in self)

    def rung(self) -> Rung:
        """How deeply they sleep, by what there is."""
        states = {one.state for one in self.alive}
        if not states - {ReplicaState.STOPPING}:
            return Rung.STOPPED
        return Rung.FROZEN if ReplicaState.FROZEN in states and not states & {*AWAKE} else Rung.RUNNING

    def count(self, report: LoadReport, cluster: str, waiting: int) -> int:
        """Take in a load report, while so many wait at the gate; answers how many requests began since the one before.

        What went through the gate is counted as if spread evenly: the gate gives to whoever has least.
        """
        begun = 0
        self.was_busy = any(one.in_flight for one in self)
        for one in self:
            one.in_flight = report.direct(cluster, one.address)
            begun += report.began(cluster, one.address)
            one.report_passed()
        carrying = [one for one in self if one.state in CARRYING]
        gone_on = max(report.through_gate.get(cluster, 0) - waiting, 0)
        for index, one in enumerate(carrying):
            one.in_flight += (gone_on + index) // len(carrying)
        return begun

    @property
    def withdraws(self) -> bool:
        """Whether one to which the gateway sends requests is to get none any more. Its end waits for that."""
        taking = {one.address for one in self.ready}
        return any(one.address not in taking for one in self._published if not one.draining)

    def publish(self, cluster: str, *, limited: bool) -> int:
        """Tell the gateway where requests go now, if that changed; with a hard limit to the gate, every one of them.
        Its replicas are named all the same, as draining: what goes through the gate is reported of such clusters only.
        """
        wanted = routing.endpoints(one.seen() for one in self)
        if limited:
            wanted = tuple(replace(one, draining=True) for one in wanted)
        if wanted != self._published:
            self._serial = self._gateway.set_endpoints(cluster, wanted)
            self._published = wanted
        return self._serial

    # --- orders ---------------------------------------------------------------------------------------------------

    def adopt(self, running: Running, state: ReplicaState) -> None:
        """Take over a replica that an earlier agent started."""
        live = LiveReplica(
            id=running.replica,
            service=running.service,
            revision=running.revision,
            state=state,
            address=running.address,
            since=running.started_at,
            pid=running.pid,
            exit=running.exit,
            egress=running.egress,
        )
        self._all[live.id] = live

    def resume_life(self) -> None:
        """Go on watching the replicas that were adopted."""
        for one in self:
            if one.state is ReplicaState.STARTING:
                one.life = self._spawn(self._prove(one))
            elif one.state is not ReplicaState.ENDED:
                one.ready_at = self._clock.steady()
                one.life = self._spawn(self._watch(one))

    def start(self, service: Service) -> LiveReplica:
        """Start one more, which is given."""
        revision = self._revision
        live = LiveReplica(
            id=self._starter.new_id(),
            service=service.id,
            revision=revision.id,
            state=ReplicaState.STARTING,
            address="",
            since=self._clock.now(),
            egress=may_call(revision),
            ordered_at=self._clock.steady(),
        )
        self._all[live.id] = live
        self._drop_oldest_ended()

        async def begin() -> None:
            try:
                order = self._starter.order(live.id, service, revision)
                live.address = self._starter.address(order)
                async with live.turn:  # whoever stops it meanwhile waits until there is something to stop
                    running = await self._driver.start(order)
            except (KasbahError, OSError) as error:
                self._ended(live, Exit(reason=str(error)))
                return
            live.address = running.address  # only now known where replicas have networks of their own
            live.pid, live.existing_at = running.pid, self._clock.steady()
            if live.state is ReplicaState.STARTING:
                await self._prove(live)

        live.life = self._spawn(begin())
        return live

    def thaw(self, replica: ReplicaId) -> None:
        """Give a frozen one its CPU back. It is ready as soon as that is ordered: what reaches it before it runs waits
        in its own sockets, for less time than the answer to the order takes."""
        live = self._all[replica]
        live.state = ReplicaState.STARTING

        async def work() -> None:
            async with live.turn:
                order = asyncio.ensure_future(self._driver.thaw(replica))
                await asyncio.sleep(0)  # the order leaves first
                live.existing_at = self._clock.steady()
                if live.state is ReplicaState.STARTING:
                    self._ready(live)
                await order

        self._spawn(self._or_end(live, work()))

    def resume(self, replica: ReplicaId) -> None:
        """Give a draining one its traffic back."""
        live = self._all[replica]
        live.state, live.then_stop, live.wanted_gone, live.why_gone = ReplicaState.READY, False, False, ""
        if live.closing is not None:
            live.closing.cancel()

    def freeze(self, replica: ReplicaId, cluster: str) -> None:
        """Drain one, then take its CPU."""
        live = self._all[replica]
        live.state = ReplicaState.DRAINING
        live.closing = self._spawn(self._close(live, cluster, None))

    def stop(self, replica: ReplicaId, cluster: str, drain: timedelta, *, why: str) -> None:
        """Drain one, then end it; one that serves nobody ends at once."""
        live = self._all[replica]
        live.wanted_gone, live.why_gone = True, why
        if live.state in (ReplicaState.STARTING, ReplicaState.FROZEN):
            live.state = ReplicaState.STOPPING
            self._spawn(self._or_end(live, self._end(live, drain)))
        elif live.state is not ReplicaState.DRAINING or not live.then_stop:
            live.state, live.then_stop = ReplicaState.DRAINING, True
            if live.closing is not None:
                live.closing.cancel()
            live.closing = self._spawn(self._close(live, cluster, drain))

    def confine(self, revision: Revision) -> None:
        """The revision may call other things than before, or is another: those that were started as it was end."""
        another, self._revision = self._revision.runs_another(revision), revision
        for live in self.alive:
            if live.state is not ReplicaState.STOPPING and (another or live.egress != may_call(revision)):
                live.state, live.wanted_gone, live.why_gone = ReplicaState.STOPPING, True, "egress changed"
                self._spawn(self._or_end(live, self._end(live, EXPELLED_DRAIN)))

    def assign(self, replica: ReplicaId) -> None:
        """A request was sent to it that no report knows yet."""
        live = self._all[replica]
        live.assigned += 1
        live.assigned_at = self._clock.steady()

    def driver_says_ending(self, replica: ReplicaId) -> None:
        """The driver says that it answers nobody any more. It counts until it has ended, and is given nothing."""
        live = self._all.get(replica)
        if live is None or live.state not in CARRYING:
            return
        live.ending = True
        live.state = ReplicaState.STOPPING if live.state is ReplicaState.DRAINING else ReplicaState.UNREADY
        self.on_event(live)

    def driver_says_ended(self, running: Running) -> None:
        """The driver says that it is gone."""
        live = self._all.get(running.replica)
        if live is not None and live.state is not ReplicaState.ENDED:
            self._ended(live, running.exit or Exit(reason="it is gone"))

    # --- the work behind them -------------------------------------------------------------------------------------

    async def _prove(self, live: LiveReplica) -> None:
        failure = await self._starter.prove(live.address, live.pid, self._revision, self.start_took)
        if live.state is not ReplicaState.STARTING:
            return
        if failure is None:
            self._ready(live)
            await self._watch(live)
            return
        live.exit = Exit(reason=failure)
        await self._driver.stop(live.id, drain=timedelta(seconds=1))

    async def _watch(self, live: LiveReplica) -> None:
        """Readiness and liveness, for as long as it lives."""
        async for well in self._starter.watch(live.address, self._revision, lambda: live.state in PROBED):
            if live.state is ReplicaState.ENDED or live.ending:
                return
            if well.dead:
                live.state, live.exit = ReplicaState.STOPPING, Exit(reason=well.reason)
                self.on_event(live)
                await self._driver.stop(live.id, drain=timedelta(seconds=5))
                return
            if live.state in PROBED:
                wanted = ReplicaState.READY if well.ready else ReplicaState.UNREADY
                if wanted is not live.state:
                    live.state = wanted
                    self.on_event(live)

    async def _close(self, live: LiveReplica, cluster: str, drain: timedelta | None) -> None:
        await self._empty(live, cluster, drain)
        if live.state is not ReplicaState.DRAINING:
            return
        if live.then_stop:
            await self._end(live, drain or timedelta(seconds=10))
            return
        live.state = ReplicaState.FROZEN
        async with live.turn:
            await self._driver.freeze(live.id)
        self.on_event(live)

    async def _empty(self, live: LiveReplica, cluster: str, drain: timedelta | None) -> None:
        """Wait until nothing is in flight on a draining replica, or until its drain deadline."""
        try:
            async with asyncio.timeout(None if drain is None else drain.total_seconds()):
                await self._confirmed()
                seen, empty = self._gateway.last_report.number, 0
                while empty < EMPTY_REPORTS:
                    report = await self._gateway.report_after(seen)
                    seen = report.number
                    empty = 0 if report.busy(cluster, live.address) or live.leases else empty + 1
        except TimeoutError:
            log.warning("drain deadline passed with requests in flight", replica=live.id, in_flight=live.in_flight)

    async def _confirmed(self) -> None:
        """Wait until the gateway acts on what was published last. It may be away for a while: one that comes back
        first sends requests where it did before."""
        while True:
            try:
                await self._gateway.settled(self._serial)
                return
            except TimeoutError:
                log.warning("the gateway has not confirmed where requests go", serial=self._serial)

    async def _end(self, live: LiveReplica, drain: timedelta) -> None:
        if live.state is ReplicaState.ENDED:
            return
        live.state = ReplicaState.STOPPING
        async with live.turn:
            await self._driver.stop(live.id, drain=drain)
        self.on_event(live)

    async def _or_end(self, live: LiveReplica, work: Coroutine[Any, Any, None]) -> None:
        """A replica that cannot be ordered about is as good as gone."""
        try:
            await work
        except KasbahError as error:
            self._ended(live, Exit(reason=str(error)))

    def _ready(self, live: LiveReplica) -> None:
        now = self._clock.steady()
        if live.ready_at is None and live.ordered_at is not None:
            self.start_took = timedelta(seconds=now - live.ordered_at)
        live.state, live.ready_at = ReplicaState.READY, live.ready_at or now
        self.on_event(live)

    def _ended(self, live: LiveReplica, exit: Exit) -> None:
        known = live.exit
        if known is not None and known.reason:
            exit = Exit(code=exit.code, signal=exit.signal, reason=known.reason, tail=exit.tail)
        live.state, live.exit, live.in_flight = ReplicaState.ENDED, exit, 0
        for task in (live.life, live.closing):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self._starter.release(live.address)
        self._spawn(self._forget(live.id))
        self.on_event(live)

    async def _forget(self, replica: ReplicaId) -> None:
        try:
            await self._driver.forget(replica)
        except KasbahError as error:
            log.warning("could not forget a replica", replica=replica, error=str(error))

    def _drop_oldest_ended(self) -> None:
        ended = sorted((one for one in self if one.state is ReplicaState.ENDED), key=lambda one: one.since)
        for one in ended[:-KEPT_ENDED]:
            del self._all[one.id]
