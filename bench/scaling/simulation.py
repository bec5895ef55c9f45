"""One service under a scaling rule, in simulated time: what did its replicas cost, and how long did callers wait?

The model is a service with a hard limit: a replica serves `concurrency` requests at once, whoever finds no free place
waits in one line, oldest first, and is served for as long as the trace says. Nobody is refused and nobody gives up. A
start takes as long as it is told to, a thaw 5 ms; a replica that is taken out finishes what it has, and is gone (or
frozen) two load reports later.

The rule is asked when the agent asks it (`kasbah/agent/unit.py`): at each load report while anything was in flight
since the one before or anybody waits; when a request finds no place; when a replica has become ready or has ended; and
when the rule itself wants to be asked. What is in flight is known as of the last report. What to do about the answer is
`kasbah.decide.reconcile`'s to say. Times are whole milliseconds, so that a replay is exact.

A report that says the same as the look before it is put off until something else happens, and only the last of several
is looked at then. That changes nothing for a rule that weighs what it saw by time, or by when it saw it last, and that
says when it wants to be asked if nothing happens; `every_report` leaves nothing out, and the tests compare the two.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from bench.scaling.traces import Trace
from kasbah.decide.reconcile import AWAKE, Freeze, Resume, Start, Stop, Thaw, reconcile
from kasbah.decide.scaling import Load, Rung, Target
from kasbah.domain.ids import ReplicaId, RevisionId, ServiceId
from kasbah.domain.replica import Replica, ReplicaState

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
REPORT_MS = 100
THAW_MS = 5
EMPTIED_MS = 2 * REPORT_MS
CONCURRENCY = 4
MOST_REPLICAS = 64

SERVED, READY, EMPTY, TIMER, REPORT, ARRIVED = range(6)
"""What happens, in the order in which it does at one and the same millisecond."""


class Rule(Protocol):
    """What decides. It remembers what it needs from one look to the next, so each replay gets its own."""

    def look(self, load: Load, replicas: int, now: int) -> Target:
        """The rung and the replicas that there should be; `replicas` are awake now, and it is `now` (ms)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a replay measured. `waits` are the milliseconds from coming to being served, in the order of the trace;
    `cold` counts the requests that came while no replica was ready."""

    running_s: float
    frozen_s: float
    waits: tuple[int, ...]
    cold: int
    most: int

    def wait_s(self, percent: int) -> float:
        """The wait, in seconds, that so many percent of the requests did not exceed."""
        rank = -(-len(self.waits) * percent // 100)
        return sorted(self.waits)[max(rank, 1) - 1] / 1_000

    @property
    def waited_s(self) -> float:
        """What everybody waited, added up."""
        return sum(self.waits) / 1_000


@dataclass(slots=True, kw_only=True, eq=False)
class Live:
    """One replica. `orders` grows with each order, so that what an older one set in motion comes to nothing; `then` is
    what a draining one becomes."""

    number: int
    since: int
    state: ReplicaState = ReplicaState.STARTING
    then: ReplicaState = ReplicaState.ENDED
    in_flight: int = 0
    orders: int = 0

    def seen(self) -> Replica:
        """It, as `reconcile` wants it."""
        since = EPOCH + self.since * MILLISECOND
        return Replica(id=name(self.number), service=ServiceId("s"), revision=RevisionId("v"), state=self.state,
                       address="", since=since, in_flight=self.in_flight)  # fmt: skip


def name(number: int) -> ReplicaId:
    """A replica's id: those of equal worth are told apart by it, so it must sort as the numbers do."""
    return ReplicaId(f"{number:09}")


class Replay:
    """See the module."""

    def __init__(self, trace: Trace, rule: Rule, *, start_ms: int, every_report: bool = False) -> None:
        self.trace, self.rule, self.start_ms, self.every_report = trace, rule, start_ms, every_report
        self.now = 0
        self.replicas: dict[int, Live] = {}
        self.served_at: dict[int, int] = {}
        self._events: list[tuple[int, int, int, int]] = []  # when, what, of whom, by which order
        self._ready: list[Live] = []
        self._places = 0  # free ones, on the ready replicas
        self._line: deque[int] = deque()
        self._in_flight = self._reported = self._begun = self._arrived = 0
        self._awake = self._most = self._cold = self._starts = self._timers = 0
        self._report_due = False
        self._seen: Load | None = None  # at the last look
        self._put_off: int | None = None  # when the last report came that said the same
        self._cost = Cost()

    def run(self) -> Figures:
        """Replay the trace, to its end and until everybody was served."""
        arrivals = self.trace.arrivals
        if arrivals:
            self._later(arrivals[0], ARRIVED, 0)
        while self._events and (self._events[0][0] <= self.trace.length or self._unfinished()):
            self.now, what, whom, order = heapq.heappop(self._events)
            self._happen(what, whom, order)
        self.now = max(self.now, self.trace.length)
        self._cost.until(self.now)
        waits = tuple(self.served_at[one] - at for one, at in enumerate(arrivals))
        return Figures(running_s=self._cost.running_ms / 1_000, frozen_s=self._cost.frozen_ms / 1_000, waits=waits,
                       cold=self._cold, most=self._most)  # fmt: skip

    def _unfinished(self) -> bool:
        return len(self.served_at) - self._in_flight < len(self.trace.arrivals)

    # --- events ---------------------------------------------------------------------------------------------------

    def _later(self, when: int, what: int, whom: int = 0, order: int = 0) -> None:
        heapq.heappush(self._events, (when, what, whom, order))

    def _happen(self, what: int, whom: int, order: int) -> None:
        if what == REPORT:
            self._report()
        elif what == SERVED:
            self._served(self.replicas[whom])
        elif what == ARRIVED:
            self._arrive(whom)
        elif what == TIMER:
            if order == self._timers:
                self._look()
        elif whom in self.replicas and self.replicas[whom].orders == order:
            if what == READY:
                self._join(self.replicas[whom])
            else:
                self._left(self.replicas[whom])
            self._look()

    def _arrive(self, request: int) -> None:
        if request + 1 < len(self.trace.arrivals):
            self._later(self.trace.arrivals[request + 1], ARRIVED, request + 1)
        self._cold += not self._ready
        self._expect_report()
        if self._places and not self._line:
            self._begun += 1
            self._serve(request, min(self._ready, key=lambda one: (one.in_flight, one.number)))
            return
        self._line.append(request)
        self._look()

    def _serve(self, request: int, replica: Live) -> None:
        assert request not in self.served_at, "a request is served once"
        self.served_at[request] = self.now
        replica.in_flight += 1
        self._places -= 1
        self._in_flight += 1
        self._later(self.now + self.trace.services[request], SERVED, replica.number)

    def _served(self, replica: Live) -> None:
        replica.in_flight -= 1
        self._in_flight -= 1
        if replica.state is ReplicaState.READY:
            self._places += 1
            if self._line:
                self._begun += 1
                self._serve(self._line.popleft(), replica)
        elif not replica.in_flight:
            self._later(self.now + EMPTIED_MS, EMPTY, replica.number, replica.orders)

    def _expect_report(self) -> None:
        if not self._report_due:
            self._report_due = True
            self._later((self.now // REPORT_MS + 1) * REPORT_MS, REPORT)

    def _report(self) -> None:
        """What `Unit.reported` does: a report of nothing, after one of nothing, is not looked at."""
        self._report_due = False
        was_busy, self._reported = self._reported > 0, self._in_flight
        load = self._load()
        if load == self._seen and not load.idle and not self.every_report:
            self._put_off = self.now
        elif was_busy or not load.idle:
            self._look()
        if self._arrived or self._in_flight or self._reported or self._line:
            self._expect_report()

    # --- a look ---------------------------------------------------------------------------------------------------

    def _load(self) -> Load:
        return Load(in_flight=self._reported, begun=self._begun, waiting=len(self._line), arrived=self._arrived)

    def _look(self) -> None:
        if self._put_off is not None and self._seen is not None:
            self.rule.look(self._seen, self._awake, self._put_off)
            self._put_off = None
        self._seen = self._load()
        target = self.rule.look(self._seen, self._awake, self.now)
        self._begun = self._arrived = 0
        if target.rung is not Rung.RUNNING or (target.replicas, target.frozen) != (self._awake, self._cost.frozen):
            self._follow(target)  # else there is nothing to do
        while self._line and self._places:
            self._arrived += 1
            self._serve(self._line.popleft(), min(self._ready, key=lambda one: (one.in_flight, one.number)))
        self._timers += 1
        if target.look_again is not None:
            ahead = -((EPOCH - target.look_again) // MILLISECOND)
            self._later(max(ahead, self.now + 1), TIMER, order=self._timers)

    def _follow(self, target: Target) -> None:
        if target.rung is not Rung.RUNNING and not self.replicas:
            return
        there = tuple(one.seen() for one in self.replicas.values())
        for step in reconcile(target, there, may_start=True):
            if isinstance(step, Start):
                self._start()
            else:
                self._order(step, self.replicas[int(step.replica)])

    def _start(self) -> None:
        self._starts += 1
        live = Live(number=self._starts, since=self.now)
        self.replicas[live.number] = live
        self._woken(live, self.start_ms)

    def _woken(self, live: Live, takes: int) -> None:
        live.state = ReplicaState.STARTING
        self._cost.add(self.now, running=1)
        self._awake += 1
        self._most = max(self._most, self._awake)
        self._later(self.now + takes, READY, live.number, live.orders)

    def _order(self, step: Thaw | Resume | Freeze | Stop, live: Live) -> None:
        if isinstance(step, Stop) and live.state is ReplicaState.DRAINING:
            live.then = ReplicaState.ENDED  # it is on its way out already
            return
        live.orders += 1
        was_awake = live.state in AWAKE
        match step:
            case Thaw():
                self._cost.add(self.now, frozen=-1)
                self._woken(live, THAW_MS)
            case Resume():
                self._awake += 1
                self._most = max(self._most, self._awake)
                self._join(live)
            case Freeze():
                self._awake -= was_awake
                self._drain(live, ReplicaState.FROZEN)
            case Stop():
                self._awake -= was_awake
                if live.state in (ReplicaState.STARTING, ReplicaState.FROZEN):
                    self._end(live)
                else:
                    self._drain(live, ReplicaState.ENDED)

    def _join(self, live: Live) -> None:
        live.state = ReplicaState.READY
        self._ready.append(live)
        self._places += CONCURRENCY - live.in_flight

    def _drain(self, live: Live, then: ReplicaState) -> None:
        if live.state is ReplicaState.READY:
            self._ready.remove(live)
            self._places -= CONCURRENCY - live.in_flight
        live.state, live.then = ReplicaState.DRAINING, then
        if not live.in_flight:
            self._later(self.now + EMPTIED_MS, EMPTY, live.number, live.orders)

    def _left(self, live: Live) -> None:
        """A draining one is empty."""
        if live.then is ReplicaState.FROZEN:
            live.state = ReplicaState.FROZEN
            self._cost.add(self.now, running=-1, frozen=1)
        else:
            self._end(live)

    def _end(self, live: Live) -> None:
        frozen = live.state is ReplicaState.FROZEN
        self._cost.add(self.now, running=frozen - 1, frozen=-int(frozen))
        del self.replicas[live.number]


@dataclass(slots=True)
class Cost:
    """How long replicas ran and were frozen, added up."""

    running_ms: int = 0
    frozen_ms: int = 0
    running: int = 0
    frozen: int = 0
    since: int = 0

    def until(self, now: int) -> None:
        """Count up to now."""
        self.running_ms += self.running * (now - self.since)
        self.frozen_ms += self.frozen * (now - self.since)
        self.since = now

    def add(self, now: int, *, running: int = 0, frozen: int = 0) -> None:
        """So many more from now on."""
        self.until(now)
        self.running += running
        self.frozen += frozen
