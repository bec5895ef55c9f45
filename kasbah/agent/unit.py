"""One revision at this site: its replicas, those who wait for it, and its place on the ladder of sleep.

Everything that happens (a caller, a load report, a replica that became ready or ended, a timer) ends in `look`, which
runs without a pause: it decides (`decide.scaling`, `decide.reconcile`), orders, and lets callers through. What takes
time runs as a task and comes back with another event. So two events never see half of each other's work.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from kasbah.agent.failures import Failures
from kasbah.agent.gateway import names
from kasbah.agent.gateway.load import LoadReport
from kasbah.agent.live import Replicas
from kasbah.agent.live_replica import IN_LINE, LiveReplica
from kasbah.agent.tools import Role, Tools
from kasbah.agent.waiting import Answer, Held, OpenWake, Queue, Released, Wakes
from kasbah.decide.activation import UNKNOWN, Candidate, Forward, Refuse, Waiting, activate, start_failed, too_late
from kasbah.decide.allowance import asked_for, scaling_of, sleep_of
from kasbah.decide.reconcile import Freeze, Resume, Start, Step, Stop, Thaw, back_off, reconcile
from kasbah.decide.routing import cluster_name
from kasbah.decide.scaling import Load, Rung, ScalingMemory, Target, scale
from kasbah.domain.ids import WakeId
from kasbah.domain.replica import ReplicaState
from kasbah.domain.revision import Revision
from kasbah.domain.service import Command, Service

log = structlog.get_logger()

LINGERS = timedelta(seconds=2)
"""What has lost its traffic is kept for so long at the least: requests that the gateway sent before it knew still come,
and only here are they counted for as long as they last."""
LET_THROUGH_SECONDS, WAITING_SECONDS = 0.01, 0.25
"""How much later others hear of a change once callers were let through, and while some wait: on a small machine their
work would take the processor from the very request that wakes the service."""


class Unit:
    """See the module. `replicas` carries out what is ordered."""

    def __init__(self, service: Service, revision: Revision, role: Role, replicas: Replicas, tools: Tools) -> None:
        self.service = service
        self.revision = revision
        self.role = role
        self.replicas = replicas
        self.queue = Queue()
        self.wakes = Wakes()
        self.failed = Failures()
        self.may_run = False
        self.makes_way = False
        self.protocol = revision.protocol
        self.looks = 0
        self._retired_at = tools.clock.even() if role is Role.RETIRED else None
        self._dismissed = False
        self._memory = ScalingMemory(rung=replicas.rung(), last_used=tools.clock.even())
        self._begun = self._arrived = 0
        self._wake: OpenWake | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._telling: asyncio.TimerHandle | None = None
        self._let_through = False
        self._tools = tools
        replicas.on_event = self._replica_changed

    @property
    def cluster(self) -> str:
        """The gateway's name for these replicas."""
        return cluster_name(self.service.id, self.revision.id)

    @property
    def rung(self) -> Rung:
        """How deeply it sleeps."""
        return self._memory.rung

    @property
    def in_flight(self) -> int:
        """Requests on its replicas, as last reported, and commands that people run in them."""
        return sum(one.in_flight + one.leases for one in self.replicas)

    @property
    def percent(self) -> int:
        """Its part of the service's traffic."""
        return self.service.percent(self.revision.id)

    @property
    def trouble(self) -> str:
        """Why it cannot serve at present, though it has started once: it ends again and again, or is not ready."""
        if self.failed.count > 1:
            return self.failed.reason
        awake = [one for one in self.replicas.awake if not one.ending]  # one that ends is told when it has
        unready = bool(awake) and all(one.state is ReplicaState.UNREADY for one in awake)
        return "its readiness probe fails" if unready else ""

    @property
    def steers_the_gateway(self) -> bool:
        """Whether what happens to its replicas changes routes: trials and retirements do."""
        return self.role is not Role.SERVING

    @property
    def _limited(self) -> bool:
        """Whether its replicas have a hard limit, which only the gate can keep."""
        return self.service.scaling.max_concurrency is not None

    @property
    def _at_most(self) -> bool:
        """Whether it has all the replicas it may have, ready."""
        return len(self.replicas.ready) >= scaling_of(self.service, self.revision).max

    @property
    def over(self) -> bool:
        """Whether it is retired and nothing of it is left."""
        if self._retired_at is None or self.replicas.alive or len(self.queue):
            return False
        return self._tools.clock.even() - self._retired_at >= LINGERS

    # --- events ---------------------------------------------------------------------------------------------------

    def assign(self, service: Service, role: Role) -> None:
        """The desired state says this of it now."""
        if role is Role.SERVING and self.role is not Role.SERVING:
            self._memory = replace(self._memory, last_used=self._tools.clock.even())
        if role is not Role.RETIRED:
            self._retired_at, self._dismissed = None, False
        elif self._retired_at is None:
            self._retired_at = self._tools.clock.even()
        self.service, self.role = service, role
        self.look()

    def confine(self, revision: Revision) -> None:
        """What its replicas may call is something else now."""
        self.revision = revision
        self.replicas.confine(revision)
        self.look()

    def make_way(self, wanted: bool) -> None:
        """Its fixed port is needed to try another revision: it stops, and holds its callers until that is decided."""
        if wanted is not self.makes_way:
            self.makes_way = wanted
            self.look()

    def hand_over(self, heir: Unit) -> None:
        """Those who wait here wait there from now on."""
        for held in self.queue.leave():
            heir.queue.add(held)
        heir.look()

    def command(self, command: Command) -> None:
        """A person wants this, now."""
        self._memory = replace(self._memory, command=command)
        if command is Command.WAKE:
            self.failed.forgive()
            if not self.replicas.serving:
                self._open_wake()
        self.look()

    def arrive(self) -> asyncio.Future[Answer]:
        """A request that found no replica. The answer comes when it may go on, or may not."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        held = Held(answer)
        decision = self._activate()
        if isinstance(decision, Refuse):
            held.settle(decision)
        elif isinstance(decision, Forward):
            self._forward(held, decision)
            self.look()
        else:
            if not self.replicas.serving:
                self._open_wake()
            hold = decision.deadline - self._tools.clock.even()
            held.timer = asyncio.get_running_loop().call_later(hold.total_seconds(), self._give_up, held)
            self.queue.add(held)
            self.look()
        return answer

    def reported(self, report: LoadReport) -> None:
        """What is in flight, as the gateway reports it."""
        if not len(self.replicas) and not len(self.queue):
            return
        self._begun += self.replicas.count(report, self.cluster, len(self.queue))
        used = self._begun or self._arrived or self.in_flight or self.replicas.was_busy or len(self.queue)
        if used or self.role is Role.RETIRED:
            self.look()

    def _replica_changed(self, replica: LiveReplica) -> None:
        if replica.state is ReplicaState.READY:
            self._note_ready(replica)
        elif replica.state is ReplicaState.ENDED:
            self._note_end(replica)
        self.look()

    def _note_ready(self, replica: LiveReplica) -> None:
        self.failed.reason = ""
        if self._wake is not None and self._wake.ready is None:
            self._wake.replica, self._wake.existing = replica.id, replica.existing_at
            self._wake.ready = self._tools.clock.steady()

    def _note_end(self, replica: LiveReplica) -> None:
        how = f"{replica.exit}" if replica.exit else "it ended"
        self._tools.ended(replica, replica.why_gone or how)
        if replica.wanted_gone:
            return
        clock = self._tools.clock
        was_ready, lasted = replica.ready_at is not None, replica.was_ready_for(clock.steady())
        self.failed.note(how, was_ready=was_ready, lasted=lasted, now=clock.even())
        log.warning("replica ended", service=self.service.name, replica=replica.id, reason=self.failed.reason)
        if self.role is Role.TRIAL or self.failed.broken:
            self._refuse_all(start_failed(self.failed.reason, back_off(self.failed.count)))

    def _refuse_all(self, refusal: Refuse) -> None:
        if self.replicas.serving or self.replicas.starting:
            return
        self._close_wake(error=self.failed.reason)
        self.queue.take_all(refusal)

    def _give_up(self, held: Held) -> None:
        self.queue.take(held, too_late(self.revision.deadlines.startup))

    # --- the one look ---------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Decide and order, from what is known now."""
        self.looks += 1
        now = self._tools.clock.even()
        target = self._target(now)
        alone, may_start = self.revision.alone, self._may_start(now)
        steps = reconcile(target, self.replicas.snapshot(), may_start=may_start, exclusive=alone)
        for step in steps:
            log.debug("step", service=self.service.name, revision=self.revision.id, step=str(step))
            self._carry_out(step, target.reason)
        self._release()
        self._set_timer(target, now)
        if self.replicas.withdraws or not (self._let_through or len(self.queue)):
            self._tell()
        else:
            self._tell_within(LET_THROUGH_SECONDS if self._let_through else WAITING_SECONDS)

    def _tell(self) -> None:
        """Tell the gateway where requests go, and whoever follows what goes on here."""
        self._let_through = False
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        self.replicas.publish(self.cluster, limited=self._limited)
        self._tools.changed()

    def _tell_within(self, seconds: float) -> None:
        loop, told = asyncio.get_running_loop(), self._telling
        if told is None or told.when() > loop.time() + seconds:
            if told is not None:
                told.cancel()
            self._telling = loop.call_later(seconds, self._tell)

    def _target(self, now: datetime) -> Target:
        if self.role is Role.RETIRED:
            self._memory = replace(self._memory, rung=Rung.STOPPED)
            held = len(self.queue) > 0
            return Target(rung=Rung.RUNNING if held else Rung.STOPPED, replicas=int(held), reason="retired")
        if self.role is Role.TRIAL:
            self._memory = replace(self._memory, rung=Rung.RUNNING, last_used=now)
            tried = self.failed.count > 0 and not self.replicas.alive
            count = 0 if tried else max(asked_for(self.service, self.revision), 1)
            return Target(rung=Rung.STOPPED if tried else Rung.RUNNING, replicas=count, reason="trial")
        if self.makes_way:
            return Target(rung=Rung.STOPPED, replicas=0, reason="makes way for a new revision")
        load = Load(in_flight=self.in_flight, begun=self._begun, waiting=len(self.queue), arrived=self._arrived)
        self._begun = self._arrived = 0
        target, self._memory = scale(
            scaling_of(self.service, self.revision),
            sleep_of(self.service, self.revision),
            replicas=len(self.replicas.awake),
            frozen=len(self.replicas.frozen),
            start=self.replicas.start_took,
            load=load,
            memory=self._memory,
            now=now,
        )
        return target

    def _may_start(self, now: datetime) -> bool:
        return self.may_run and ((ends := self.failed.pause_ends) is None or now >= ends)

    def _carry_out(self, step: Step, why: str) -> None:
        if isinstance(step, Start | Thaw) and self._wake is not None and self._wake.ordered is None:
            self._wake.ordered = self._tools.clock.steady()
        match step:
            case Start():
                self._tools.started(self.replicas.start(self.service), why)
            case Thaw():
                self.replicas.thaw(step.replica)
            case Resume():
                self.replicas.resume(step.replica)
            case Freeze():
                self.replicas.freeze(step.replica, self.cluster)
            case Stop():
                self.replicas.stop(step.replica, self.cluster, self.revision.deadlines.drain, why=why)

    def _set_timer(self, target: Target, now: datetime) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pause_ends = self.failed.pause_ends if target.rung is Rung.RUNNING and self.failed.count > 1 else None
        ahead = [at for at in (target.look_again, pause_ends) if at is not None and at > now]
        if ahead:
            delay = (min(ahead) - now).total_seconds()
            self._timer = asyncio.get_running_loop().call_later(delay, self.look)

    # --- callers --------------------------------------------------------------------------------------------------

    def _activate(self) -> Any:
        serving = [] if self.makes_way else self.replicas.serving
        hard = self.service.scaling.max_concurrency
        if self._dismissed:
            return UNKNOWN
        return activate(
            tuple(
                Candidate(replica=one.id, address=one.address, assigned=one.burden)
                for one in serving
                if hard is None or one.burden < one.room(hard, self._tools.clock.steady())
            ),
            Waiting(
                for_service=len(self.queue),
                at_site=self._tools.site_waiting(),
                per_service=self._tools.holding_per_service,
                per_site=self._tools.holding_per_site,
            ),
            startup=self.revision.deadlines.startup,
            broken=self.failed.reason,
            broken_until=self.failed.pause_ends if self.failed.broken else None,
            most_in_line=None if hard is None or not self._at_most else max(hard * len(serving), IN_LINE),
            now=self._tools.clock.even(),
        )

    def _release(self) -> None:
        """Let those who wait through, longest first."""
        if self._wake is not None and self.replicas.ready:
            self._close_wake()
        while (held := self.queue.first()) is not None:
            decision = self._activate()
            if not isinstance(decision, Forward):
                return
            self._forward(held, decision)

    def _forward(self, held: Held, decision: Forward) -> None:
        self._arrived += 1
        self._let_through = True
        self.replicas.assign(decision.replica)
        wake = self.wakes.closed[-1].id if held.timer is not None and self.wakes.closed else None
        upstream = names.woken_cluster(self.cluster, self.protocol, limited=self._limited)
        self.queue.take(held, Released(forward=decision, upstream=upstream, wake=wake))

    def _open_wake(self) -> None:
        if self._wake is None:
            self._wake = OpenWake(
                id=self._tools.new_wake_id(),
                at=self._tools.clock.now(),
                rung=self.replicas.rung(),
                arrived=self._tools.clock.steady(),
            )

    def _close_wake(self, *, error: str = "") -> None:
        if self._wake is not None:
            self._wake.held = len(self.queue)
            self.wakes.add(self._wake.closed(error=error), self._tools.clock.now().timestamp())
            self._wake = None

    # --- the rest -------------------------------------------------------------------------------------------------

    def settle_rung(self) -> None:
        """Its replicas were adopted: it is on the rung they are on."""
        self._memory = replace(self._memory, rung=self.replicas.rung())

    def try_again(self) -> None:
        """A new rollout tries this revision: what failed before does not count."""
        self.failed.forgive()
        self.look()

    def first_byte(self, wake: WakeId, at: float) -> bool:
        """The gateway's log tells when a waking's first answer began. Whether it was one of these, and news."""
        news = self.wakes.first_byte(wake, at)
        self.looks += news
        return news

    def dismiss(self) -> None:
        """Its service is gone: nobody may call it any more, who waits included."""
        self._dismissed = True
        self.queue.take_all(UNKNOWN)

    def close(self) -> None:
        """It is over: nothing of it may act any more."""
        for handle in (self._timer, self._telling):
            if handle is not None:
                handle.cancel()
        self.queue.take_all(UNKNOWN)
