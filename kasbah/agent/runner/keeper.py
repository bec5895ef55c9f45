"""Keeps replicas: starts, freezes, thaws, stops and forgets them when told to.

Every operation is idempotent. The record is written before the act, so that a runner that takes over finishes what
this one began. An operation that must wait (for an exec, for a freeze to take) answers later, through `reply`; none
keeps the others waiting.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable

from kasbah.agent import confine
from kasbah.agent.confine.network import Street
from kasbah.agent.runner import cgroups, journal, processes, records, spawn
from kasbah.agent.runner.claims import Claim
from kasbah.agent.runner.held import Held, send
from kasbah.agent.runner.layout import Layout
from kasbah.agent.runner.networks import Networks
from kasbah.agent.runner.reactor import Reactor
from kasbah.agent.runner.reaper import RETRY_SECONDS, Reaper
from kasbah.agent.runner.records import Record, Records
from kasbah.agent.runner.seats import Seat, Seats
from kasbah.agent.runner.spawn import Calls, Child, Failed, Order, Plan
from kasbah.agent.runner.visits import Job, Tell, Visit, Visits, files_of
from kasbah.agent.runner.volumes import Volumes
from kasbah.agent.runner.workdir import Workdir

START_SECONDS = 60.0
"""From the fork to the exec: the working copy, mostly."""

FREEZE_SECONDS = 2.0
FOLLOW_SECONDS = 0.005
KILLED_AFTER_DRAIN = "did not end within {drain:g} s of SIGTERM, and was killed"
HINT_EGRESS = "`kasbah doctor` says why; remove egress from kasbah.yaml to let it call anything"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""Ids become names of files."""

Reply = Callable[[object], None]
"""Takes a result that JSON can carry, or the Failed that says why there is none."""


class Keeper:
    """The replicas of one runner. `ended` is called with the id of each that has ended."""

    def __init__(
        self,
        layout: Layout,
        reactor: Reactor,
        *,
        facts: confine.Facts,
        groups: cgroups.Groups,
        claim: Claim | None = None,
        street: Street | None = None,
        ended: Callable[[str], None],
    ) -> None:
        self.held: dict[str, Held] = {}
        self.book = Records(layout.home)
        self.reaper = Reaper(
            layout,
            reactor,
            held=self.held,
            book=self.book,
            ended=self._one_ended,
            dropped=self._give_back,
        )
        self._layout = layout
        self._reactor = reactor
        self._claim = claim if confine.OWN_USER in facts.mechanisms else None
        self.networks: Networks | None = None
        if claim is not None and street is not None and confine.OWN_NETWORK in facts.mechanisms:
            self.networks = Networks(street, reactor, claim, self.reaper.adopt_helper)
        self.seats = Seats(
            ready_count=layout.ready_seats,
            reactor=reactor,
            groups=groups,
            confiner=confine.Confiner(facts, hidden=(layout.socket.parent,)),
            claim=self._claim,
            networks=self.networks,
            adopt_helper=self.reaper.adopt_helper,
            dropped=self.reaper.remove,
        )
        self.reaper.on_child_ended = self.seats.lost
        self._volumes = Volumes(layout.volumes, self._claim)
        self.visits = Visits(reactor, self.seats.confiner, self.reaper.adopt_helper)
        self._tell = ended
        self._boot = processes.boot_id()
        self._when_empty: Callable[[], None] | None = None

    def start(self, order: Order, reply: Reply) -> None:
        """Start a replica; answers once its program runs."""
        held = self.held.get(order.replica)
        if held is None:
            self._begin(order, reply)
        elif held.record.state == records.STARTING:
            held.started.append(reply)
        elif held.alive:
            reply(held.record)
        else:
            raise Failed("conflict", f"replica {order.replica} has ended", "an id is used once: start another")

    def freeze(self, replica: str, reply: Reply) -> None:
        """Take a replica off the processor; answers once every process of it is."""
        held = self._running(replica)
        if held.record.stop_by is not None:
            raise Failed("conflict", f"replica {replica} is stopping", "it cannot be frozen any more")
        if not held.record.frozen:
            self.book.save(held.change(frozen=True))
        self._still(held, time.monotonic() + FREEZE_SECONDS, reply)

    def permit(self, replica: str, calls: Calls, reply: Reply) -> None:
        """Let a replica call these only, from now on; answers once it is so."""
        held = self._running(replica)
        if self.networks is None or held.record.calls is None:
            raise Failed("conflict", f"what replica {replica} calls was not limited when it started", "start another")
        held.workdir.know(calls.names)
        if calls.rules == held.record.egress:
            reply({})
            return

        def permitted(problem: str) -> None:
            if not problem:
                self.book.save(held.change(egress=calls.rules))
            reply(Failed("unavailable", f"what it may call could not be changed: {problem}") if problem else {})

        self.networks.permit(held.record.slot, held.record.egress, calls.rules, permitted)

    def lead_to(self, host: str, port: int, reply: Reply) -> None:
        """Lead replicas that may call the gateway to it; answers with the address they call it at ("": as others)."""
        if self.networks is None:
            reply({"address": ""})
            return
        self._layout.gateway.write_text(f"{host} {port}")
        self.networks.lead_to(host, port)
        reply({"address": self.networks.street.gateway})

    def thaw(self, replica: str, reply: Reply) -> None:
        """Put a replica back on the processor. What has left its process group follows a moment after the answer:
        looking for it would keep the processor from what was just given it back."""
        held = self._running(replica)
        held.signal_group(signal.SIGCONT)
        was_frozen = held.record.frozen
        held.change(frozen=False)
        reply({})
        if was_frozen:
            self._reactor.after(FOLLOW_SECONDS, lambda: self._thaw_rest(held))

    def _thaw_rest(self, held: Held) -> None:
        if held.runs and not held.record.frozen:
            held.signal_members(signal.SIGCONT)
            self.book.save(held.record)  # late: who takes over looks for itself whether a replica is frozen

    def stop(self, replica: str, drain: float) -> None:
        """Ask a replica to end, and end it after `drain` seconds. Does not wait."""
        held = self.held.get(replica)
        if held is None or not held.runs:
            return
        stop_by = min(time.monotonic() + drain, held.record.stop_by or float("inf"))
        was_frozen = held.record.frozen
        self.book.save(held.change(stop_by=stop_by, frozen=False))
        held.signal_group(signal.SIGTERM)
        if was_frozen:
            held.signal_members(signal.SIGCONT)
        self.reaper.kill_at(held, stop_by, KILLED_AFTER_DRAIN.format(drain=drain))

    def forget(self, replica: str) -> None:
        """Drop an ended replica's record and its folder."""
        held = self.held.get(replica)
        if held is None:
            return
        if held.alive:
            raise Failed("conflict", f"replica {replica} still runs", "stop it first")
        self.reaper.discard(held)

    def visit(self, order: Order, files: list[int], *, terminal: bool, tell: Tell) -> Visit:
        """Run a command in a replica that runs; `files` are its standard input, output and error."""
        held = self._running(order.replica)
        volumes = self._volumes.places(order.service, order.volumes, held.workdir.app)
        job = Job(held=held, order=order, files=files_of(files), volumes=volumes, terminal=terminal)
        return self.visits.begin(job, tell)

    def tail(self, replica: str, lines: int) -> list[str]:
        """The last lines of a replica's log, as they stand in it."""
        held = self.held.get(replica)
        return [] if held is None else journal.last_lines(held.log.path, lines)

    def shutdown(self, drain: float, when_empty: Callable[[], None]) -> None:
        """Stop every replica and start no more; call `when_empty` once all have ended."""
        self._when_empty = when_empty
        for replica in list(self.held):
            self.stop(replica, drain)
        self._check_empty()

    def reap(self) -> None:
        """Take in the children that have ended."""
        self.reaper.reap(self._execed)

    def hold(self, record: Record) -> Held:
        """Hold a replica: ours to log and to see to its end."""
        log = journal.Journal(
            self._layout.journal(record.service, record.replica),
            file_bytes=self._layout.log_file_bytes,
            files=self._layout.log_files,
        )
        if self._claim is not None:
            self._claim.keep(record.slot)
        workdir = self._workdir(record)
        held = self.held[record.replica] = Held(record, workdir=workdir, log=log, reactor=self._reactor)
        return held

    def _running(self, replica: str) -> Held:
        held = self.held.get(replica)
        if held is None:
            raise Failed("not_found", f"replica {replica} is not known here", "list what is")
        if not held.runs:
            raise Failed("conflict", f"replica {replica} has ended", "its log says how")
        if held.record.state == records.STARTING:
            raise Failed("conflict", f"replica {replica} is being started", "wait for the answer to its start")
        return held

    def _begin(self, order: Order, reply: Reply) -> None:
        self._check(order)
        held = self.hold(self._record(order))
        held.started.append(reply)
        self.seats.take(lambda found: self._settle(order, held, found))

    def _settle(self, order: Order, held: Held, found: Seat | Failed) -> None:
        """Give a replica its seat, and the rules about what it may call before it can call anything."""
        if isinstance(found, Failed):
            self._abandon(held, found)
            return
        held.seat = found
        held.change(
            slot=found.slot,
            address=found.address,
            groups=tuple(map(str, found.groups)),
            pid=found.child.pid,
            start_time=found.start_time,
            init=found.child.init,
            init_start_time=found.init_start_time,
        )
        try:
            held.change(user=(self._volumes.owner(order.service) if order.volumes else None) or 0)
        except OSError as error:
            self._abandon(held, spawn.failure_of(error))
            return
        held.workdir = self._workdir(held.record)
        if order.calls is not None:
            held.change(calls=order.calls.entries, egress=order.calls.rules)
        if order.calls is None or self.networks is None:
            self._launch(order, held, found.child)
            return

        def permitted(problem: str) -> None:
            if problem:
                failure = f"what it may call could not be limited: {problem}"
                self._abandon(held, Failed("confinement_failed", failure, spawn.CONFINEMENT_HINT))
            else:
                self._launch(order, held, found.child)

        self.networks.permit(found.slot, None, order.calls.rules, permitted)

    def _launch(self, order: Order, held: Held, child: Child) -> None:
        try:
            plan = self._plan(order, held)
            self.book.save(held.record)
            held.seat, held.child = None, child
            child.tell(plan)
        except Exception as error:
            self._abandon(held, spawn.failure_of(error))
            return
        self._reactor.watch(child.says, lambda _events: self._hear(held, child))
        self.reaper.kill_at(held, time.monotonic() + START_SECONDS, f"was not started within {START_SECONDS:g} s")
        if held.record.stop_by is not None:  # it was told to while it waited for its seat
            self.stop(held.record.replica, 0)

    def _check(self, order: Order) -> None:
        if self._when_empty is not None:
            raise Failed("unavailable", "the runner is shutting down", "ask again once a new one runs")
        for name in (order.replica, order.service, *order.volumes):
            if not NAME.fullmatch(name):
                raise Failed("invalid", f"{name!r} cannot be an id")
        if order.calls is not None and self.networks is None:
            closed = not order.calls.entries and self.seats.confiner.can_close
            if not closed:
                raise Failed("confinement_failed", "what a replica may call cannot be limited here", HINT_EGRESS)
        for folder in (order.app, *order.readable):
            if not folder.exists():
                raise Failed("start_failed", f"{folder}, which the replica needs, does not exist", "build it again")

    def _record(self, order: Order) -> Record:
        return Record(
            replica=order.replica,
            service=order.service,
            revision=order.revision,
            port=order.port,
            boot=self._boot,
            started_at=journal.now(),
            memory=order.memory,
        )

    def _workdir(self, record: Record) -> Workdir:
        user = record.user or (self._claim.user(record.slot) if self._claim is not None and record.slot else None)
        return Workdir(self._layout.replicas / record.replica, user)

    def _give_back(self, record: Record) -> None:
        self.seats.give_back(record.slot, record.egress)

    def _plan(self, order: Order, held: Held) -> Plan:
        """Make what its program needs before it runs: limits, folder and pipes."""
        self.seats.groups.limit(held.groups, cpu=order.cpu, memory=order.memory)
        held.workdir.make()
        if order.calls is not None or order.hosts:
            held.workdir.lead(order.hosts)
            held.workdir.know(order.calls.names if order.calls is not None else {})
        pipes = self._layout.pipes(order.replica)
        user = held.workdir.owner
        for pipe in pipes:
            os.mkfifo(pipe, 0o600)
            if user is not None:
                os.chown(pipe, user, user)
        held.listen(pipes)
        self._volumes.make(order.service, order.volumes)
        volumes = self._volumes.places(order.service, order.volumes, held.workdir.app)
        return Plan(order=order, workdir=held.workdir, pipes=pipes, volumes=volumes)

    def _hear(self, held: Held, child: Child) -> None:
        """Take in what a starting child says. The end of the file without a word means that its program runs."""
        try:
            while part := os.read(child.says, 4096):
                held.said += part
        except BlockingIOError:
            return
        self._reactor.unwatch(child.says)
        os.close(child.says)
        held.child = None
        failure = spawn.heard(bytes(held.said)) or (Failed("start_failed", held.cause) if held.cause else None)
        if failure is not None:
            self._abandon(held, failure)
            return
        if held.deadline and held.record.stop_by is None:
            held.deadline.cancel()
        self.book.save(held.change(state=records.RUNNING))  # first: what was answered is never lost
        _answer(held, held.record)

    def _execed(self, held: Held) -> bool:
        """Whether a child that has ended had come as far as its program."""
        if held.seat is not None:
            return False  # it was not even told what to be: telling it will fail
        if held.child is not None:
            self._hear(held, held.child)
        return held.record.replica in self.held

    def _abandon(self, held: Held, failure: Failed) -> None:
        """Undo a start that failed: its id may be used again."""
        if held.seat is not None:
            held.seat.child.close()
        if held.child is not None:
            os.close(held.child.says)
        held.seat = held.child = None
        held.kill()
        self.reaper.release(held)
        self.reaper.discard(held)
        _answer(held, failure)
        self._check_empty()

    def _still(self, held: Held, deadline: float, reply: Reply) -> None:
        """Stop all of a replica's processes, those forked meanwhile included, and answer when none moves."""
        if not (held.runs and held.record.frozen):
            reply(Failed("conflict", f"replica {held.record.replica} was thawed or ended while it was being frozen"))
            return
        held.signal_group(signal.SIGSTOP)
        moving = [one for one in held.members() if not one.stopped and one.pid != held.record.init]
        if not moving:
            reply({})
        elif time.monotonic() < deadline:
            for one in moving:
                send(one, signal.SIGSTOP)
            self._reactor.after(RETRY_SECONDS, lambda: self._still(held, deadline, reply))
        else:
            self.thaw(held.record.replica, lambda _result: None)
            reply(Failed("unavailable", f"{len(moving)} of its processes did not stop in {FREEZE_SECONDS:g} s"))

    def _one_ended(self, replica: str) -> None:
        self._tell(replica)
        self._check_empty()

    def _check_empty(self) -> None:
        if self._when_empty is not None and not any(held.alive for held in self.held.values()):
            self._when_empty()


def _answer(held: Held, result: object) -> None:
    """Tell all who wait for a start."""
    waiting, held.started = held.started, []
    for reply in waiting:
        reply(result)
