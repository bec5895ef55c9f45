"""Makes this site what the desired state says: units for the revisions that are wanted, builds, trials, routes.

One idempotent pass, nudged by whatever changed. What moves fast (callers, replicas, sleep) belongs to the units; this
is the slow half, and it never stands between a caller and a replica.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import structlog

from kasbah.agent.gateway.load import LoadReport
from kasbah.agent.keyring import Keyring
from kasbah.agent.ledger import Ledger
from kasbah.agent.live import Replicas
from kasbah.agent.live_replica import state_of
from kasbah.agent.ports import SiteGateway
from kasbah.agent.revisions import Revisions
from kasbah.agent.starting import Starter
from kasbah.agent.tools import Role, Tools, roles_of
from kasbah.agent.unit import Unit
from kasbah.agent.waiting import Answer
from kasbah.decide import routing
from kasbah.decide.activation import UNKNOWN
from kasbah.decide.summary import summarise
from kasbah.domain.desired import DesiredState
from kasbah.domain.gateway import Endpoint, Gateway
from kasbah.domain.ids import ReplicaId, RevisionId, ServiceId
from kasbah.domain.observed import BuildState, RevisionStatus, ServiceStatus, TrialState
from kasbah.domain.revision import Revision
from kasbah.domain.service import Command, Service
from kasbah.drivers.interface import Driver, Running

log = structlog.get_logger()

STRANGERS_DRAIN = timedelta(seconds=10)

Place = tuple[ServiceId, RevisionId]


@dataclass(slots=True, kw_only=True)
class Parts:
    """What the reconciler is made of."""

    driver: Driver
    gateway: SiteGateway
    ledger: Ledger
    revisions: Revisions
    keyring: Keyring
    starter: Starter
    tools: Tools
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    nudge: Callable[[], None] = field(default=lambda: None)


class Reconciler:
    """See the module. `acted_on`: the desired state of the last pass, the gateway included."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._units: dict[Place, Unit] = {}
        self._units_of: dict[ServiceId, list[Unit]] = {}
        self._trials: dict[Place, RevisionStatus] = {}
        self._examined: set[Place] = set()
        self._proving: set[RevisionId] = set()
        self._routed: tuple[object, Gateway] | None = None
        self.acted_on = (0, 0)
        self._told: dict[ServiceId, tuple[object, ServiceStatus]] = {}

    # --- what others ask ------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Callers held at this site."""
        return sum(len(unit.queue) for unit in self._units.values())

    @property
    def units(self) -> tuple[Unit, ...]:
        """All units."""
        return tuple(self._units.values())

    def arrive(self, service: ServiceId, revision: RevisionId) -> asyncio.Future[Answer]:
        """A request that found no replica of this revision. One that comes long after its revision lost its traffic, or
        its port, is served by the one that has it now."""
        unit = self._units.get((service, revision))
        if unit is None or (unit.makes_way and unit.role is Role.RETIRED):
            unit = self._serving(service)
        if unit is None:
            answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            answer.set_result(UNKNOWN)
            return answer
        return unit.arrive()

    def reported(self, report: LoadReport) -> None:
        """The gateway reports what is in flight."""
        for unit in self.units:
            unit.reported(report)

    def ending(self, replica: ReplicaId) -> None:
        """The driver says that a replica answers nobody any more."""
        for unit in self.units:
            unit.replicas.driver_says_ending(replica)

    def ended(self, running: Running) -> None:
        """The driver says that a replica has ended."""
        unit = self._units.get((running.service, running.revision))
        if unit is not None:
            unit.replicas.driver_says_ended(running)

    def _of(self, service: ServiceId) -> tuple[Unit, ...]:
        return tuple(self._units_of.get(service, ()))

    # --- starting up ----------------------------------------------------------------------------------------------

    async def adopt(
        self, answers: Callable[[str], Coroutine[Any, Any, bool]], keep_port: Callable[[int], None]
    ) -> None:
        """Take over what an earlier agent left running; what nobody wants any more is ended. `answers` tells whether
        a replica accepts connections."""
        desired = self._parts.ledger.desired
        known = {service.id: service for service in desired.services} if desired else {}
        for running in await self._parts.driver.list():
            service = known.get(running.service)
            revision = service.revision(running.revision) if service else None
            if service is None or revision is None:
                await self._end_stranger(running)
                continue
            unit = self._unit(service, revision, Role.RETIRED)
            if running.exit is None:
                keep_port(int(running.address.rpartition(":")[2]))
            unit.replicas.adopt(running, await state_of(running, answers))
        for unit in self.units:
            unit.settle_rung()

    async def _end_stranger(self, running: Running) -> None:
        if running.exit is None:
            log.info("ending a replica nobody wants", replica=running.replica)
            await self._parts.driver.stop(running.replica, drain=STRANGERS_DRAIN)
        else:
            await self._parts.driver.forget(running.replica)

    def first_gateway(self, desired: DesiredState) -> tuple[Gateway, dict[str, tuple[Endpoint, ...]]]:
        """The gateway as it must be before Envoy may ask: complete, replicas that serve included."""
        self._assign_roles(desired)
        self.acted_on = desired.version
        found = {unit.cluster: routing.endpoints(unit.replicas.snapshot()) for unit in self.units}
        return self._route(desired), found

    def go_on(self) -> None:
        """The gateway listens: the adopted replicas' lives go on."""
        for unit in self.units:
            unit.replicas.resume_life()
            unit.look()

    # --- the pass -------------------------------------------------------------------------------------------------

    async def reconcile(self) -> None:
        """One pass."""
        desired = self._parts.ledger.desired
        if desired is None:
            return
        self._assign_roles(desired)
        for service in desired.services:
            try:
                self._advance_trial(service)
                self._obey(service)
            except Exception:  # one that cannot be understood keeps no other from changing, nor the gateway
                log.exception("a service is left as it is", service=service.name)
        self._drop_what_is_over()
        await self._parts.gateway.apply(self._route(desired))
        self.acted_on = desired.version

    def _assign_roles(self, desired: DesiredState) -> None:
        wanted: dict[Place, tuple[Service, Revision, Role]] = {}
        for service in desired.services:
            for revision, role in roles_of(service):
                wanted[service.id, revision.id] = (service, revision, role)
        for place, (service, revision, role) in wanted.items():
            unit = self._unit(service, revision, role)
            if unit.revision is not revision and unit.revision != revision:
                unit.confine(revision)
            ready = self._parts.revisions.ensure(service, revision, self._retry_of(service, revision))
            ready = self._parts.keyring.has(revision) and ready and self._holder(unit) is None
            changed = (unit.service, unit.role, unit.may_run) != (service, role, ready)
            unit.may_run = ready
            unit.protocol = self._parts.ledger.memory.proven.get(revision.id, unit.protocol)
            if changed or place not in self._examined:
                self._examined.add(place)
                unit.assign(service, role)
            unit.service = service  # equal at least: the same object is compared at once in the next pass
        for place in self._units.keys() - wanted.keys():
            unit = self._units[place]
            if unit.role is not Role.RETIRED:
                if not any(service == place[0] for service, _ in wanted):
                    unit.dismiss()
                unit.assign(unit.service, Role.RETIRED)
            if unit.makes_way and (heir := self._serving(unit.service.id)) is not None:
                unit.hand_over(heir)

    def _holder(self, unit: Unit) -> Unit | None:
        """Who has the fixed port or the volume that this unit needs, if somebody else has."""
        wanted = unit.revision
        if not wanted.alone:  # thousands are not: they are not compared with each other
            return None
        rivals = [one for one in self._of(unit.service.id) if one.revision.excludes(wanted)]
        rivals += [one for one in self.units if wanted.port is not None and one.revision.port == wanted.port]
        return next((one for one in rivals if one is not unit and one.replicas.alive), None)

    def _serving(self, service: ServiceId) -> Unit | None:
        """Who serves most of it."""
        serving = [one for one in self._of(service) if one.role is Role.SERVING]
        return max(serving, key=lambda one: one.percent, default=None)

    def _retry_of(self, service: Service, revision: Revision) -> str:
        """Who asks for a build: one that failed is tried again for a new rollout."""
        trial = service.trial
        return trial.rollout if trial is not None and trial.revision == revision.id else ""

    def _unit(self, service: Service, revision: Revision, role: Role) -> Unit:
        place = (service.id, revision.id)
        if place not in self._units:
            parts = self._parts
            replicas = Replicas(revision, parts.driver, parts.starter, parts.gateway, parts.tools.clock, parts.spawn)
            unit = self._units[place] = Unit(service, revision, role, replicas, parts.tools)
            self._units_of.setdefault(service.id, []).append(unit)
        return self._units[place]

    def _drop_what_is_over(self) -> None:
        for place in [place for place, unit in self._units.items() if unit.over]:
            unit = self._units.pop(place)
            self._units_of[place[0]].remove(unit)
            if not self._units_of[place[0]]:
                del self._units_of[place[0]]
            unit.close()
            self._examined.discard(place)
            self._parts.tools.changed()

    def _route(self, desired: DesiredState) -> Gateway:
        """The same answer as before while nothing that it is made from changed: a pass over thousands costs little."""
        lingering = [(unit.service, unit.revision) for unit in self.units if unit.role is Role.RETIRED]
        protocols, gateway = dict(self._parts.ledger.memory.proven), self._parts.gateway
        listen, tls, crossing, inside = gateway.listen, gateway.tls, gateway.crossing, gateway.inside
        made_from = (desired, protocols, lingering, tls, crossing)
        if self._routed is None or self._routed[0] != made_from:
            routed = routing.route(
                desired, protocols=protocols, lingering=lingering,
                listen=listen, tls=tls, crossing=crossing, inside=inside,
            )  # fmt: skip
            self._routed = (made_from, routed)
        return self._routed[1]

    # --- trials and orders ----------------------------------------------------------------------------------------

    def _advance_trial(self, service: Service) -> None:
        trial = service.trial
        if trial is None:
            for one in self._of(service.id):
                one.make_way(False)
            return
        place = (service.id, trial.revision)
        status = self._trials.get(place)
        if status is None or status.rollout != trial.rollout:
            status = RevisionStatus(revision=trial.revision, rollout=trial.rollout)
            if unit := self._units.get(place):
                unit.try_again()
        build = self._parts.revisions.status(trial.revision)
        status = replace(status, build=build.build, step=build.step or self._awaits(service, trial.revision))
        if build.build is BuildState.FAILED:
            status = replace(status, trial=TrialState.FAILED, reason=build.reason, tail=build.tail)
        elif build.build is BuildState.BUILT and status.trial in (TrialState.UNTRIED, TrialState.TRYING):
            self._make_way_for(self._units[place])
            status = self._try(status, self._units[place])
        self._trials[place] = status
        self._parts.tools.changed()

    def _awaits(self, service: Service, revision: RevisionId) -> str:
        """What a built revision waits for before it can be started."""
        contents = service.revision(revision)
        complete = contents is None or self._parts.keyring.has(contents)
        return "" if complete else self._parts.keyring.problem or "waiting for its secrets"

    def _make_way_for(self, tried: Unit) -> None:
        """A fixed port or a volume is one replica's: who has it stops first, and its callers wait for the outcome."""
        for unit in self._of(tried.service.id):
            if unit is not tried and unit.revision.excludes(tried.revision):
                unit.make_way(unit.role is Role.SERVING)

    def _try(self, status: RevisionStatus, unit: Unit) -> RevisionStatus:
        ready = unit.replicas.ready
        if ready and unit.revision.id in self._parts.ledger.memory.proven:
            return replace(status, trial=TrialState.PROVEN)
        if ready:
            self._begin_proof(unit, ready[0].address)
        elif unit.role is Role.SERVING and unit.revision.id in self._parts.ledger.memory.proven:
            return replace(status, trial=TrialState.PROVEN)
        elif (holder := self._holder(unit)) is not None and holder.service.id != unit.service.id:
            reason = f"port {unit.revision.port} is held by the service {holder.service.name}: choose another port"
            return replace(status, trial=TrialState.FAILED, reason=reason)
        elif unit.failed.count and not unit.replicas.alive:
            return replace(status, trial=TrialState.FAILED, reason=unit.failed.reason, tail=unit.replicas.last_words)
        return replace(status, trial=TrialState.TRYING)

    def _begin_proof(self, unit: Unit, address: str) -> None:
        if unit.revision.id not in self._proving:
            self._proving.add(unit.revision.id)
            self._parts.spawn(self._prove(unit, address))

    async def _prove(self, unit: Unit, address: str) -> None:
        """It started: note what it speaks, before any traffic is given to it."""
        protocol = await self._parts.starter.speaks(address, unit.revision)
        self._proving.discard(unit.revision.id)
        self._parts.ledger.memory.proven[unit.revision.id] = protocol
        self._parts.ledger.remember()
        unit.protocol = protocol
        self._parts.nudge()

    def _obey(self, service: Service) -> None:
        order, obeyed = service.order, self._parts.ledger.memory.obeyed
        if order is None or obeyed.get(service.id, 0) >= order.number:
            return
        obeyed[service.id] = order.number
        self._parts.ledger.remember()
        self._parts.tools.changed()
        for unit in self._of(service.id):
            if unit.role is Role.SERVING and (unit.percent > 0 or order.command is not Command.WAKE):
                unit.command(order.command)

    # --- what is reported -----------------------------------------------------------------------------------------

    def statuses(self) -> tuple[ServiceStatus, ...]:
        """Every service of the desired state, and those that still end."""
        desired = self._parts.ledger.desired
        wanted = {service.id: service for service in desired.services} if desired else {}
        gone = {unit.service.id: unit.service for unit in self.units if unit.service.id not in wanted}
        self._told = {service: told for service, told in self._told.items() if service in wanted}
        return (*map(self._status_or_told, wanted.values()), *(self._status(one, ends=True) for one in gone.values()))

    def _status_or_told(self, service: Service) -> ServiceStatus:
        """A service that sleeps and of which nothing has changed is as it was last told: of thousands, few change."""
        units = self._of(service.id)
        memory = self._parts.ledger.memory
        made_from = (
            service,
            [unit.looks for unit in units],
            memory.obeyed.get(service.id),
            [
                (self._parts.revisions.status(one.id), self._trials.get((service.id, one.id)), one.id in memory.proven)
                for one in service.revisions
            ],
        )
        told = self._told.get(service.id)
        if told is not None and told[0] == made_from:
            return told[1]
        status = self._status(service)
        if units and not any(len(unit.replicas) or len(unit.queue) for unit in units):
            self._told[service.id] = (made_from, status)
        return status

    def _status(self, service: Service, *, ends: bool = False) -> ServiceStatus:
        units = self._of(service.id)
        serving = [unit for unit in units if unit.role is Role.SERVING and unit.percent > 0]
        revisions = tuple(self._revision_status(service, revision.id) for revision in service.revisions)
        state, reason = summarise(
            service,
            rung=max(serving, key=lambda unit: unit.percent).rung if serving else None,
            replicas=[one for unit in serving or units for one in unit.replicas.snapshot()],
            statuses=revisions,
            failure=next((unit.failed.reason for unit in serving if unit.failed.reason), ""),
            ends=ends,
        )
        return ServiceStatus(
            service=service.id,
            state=state,
            reason=reason,
            obeyed_order=self._parts.ledger.memory.obeyed.get(service.id, 0),
            waiting_requests=sum(len(unit.queue) for unit in units),
            in_flight=sum(unit.in_flight for unit in units),
            revisions=revisions,
            replicas=tuple(one for unit in units for one in unit.replicas.snapshot()),
            wakes=tuple(sorted((w for unit in units for w in unit.wakes.closed), key=lambda wake: wake.at)),
        )

    def _revision_status(self, service: Service, revision: RevisionId) -> RevisionStatus:
        build = self._parts.revisions.status(revision)
        tried = self._trials.get((service.id, revision))
        proven = revision in self._parts.ledger.memory.proven
        status = replace(build, trial=TrialState.PROVEN if proven else TrialState.UNTRIED)
        if tried is not None:  # a build may have failed since it was last looked at
            told = build if build.build is BuildState.FAILED else tried
            status = replace(tried, build=build.build, step=build.step, reason=told.reason, tail=told.tail)
        unit = self._units.get((service.id, revision))
        if unit is None or unit.role is Role.RETIRED:
            return status
        tail = unit.replicas.last_words if unit.trouble else status.tail
        return replace(status, ready=len(unit.replicas.ready), trouble=unit.trouble, tail=tail)
