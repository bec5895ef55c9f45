"""Replicas that are only told of: for tests and the simulator, in memory, on the event loop's own time.

A test says with `program` how each replica behaves; everything else is as the real driver has it, and what cannot be
(freezing what is not there, starting an id again) is refused as loudly.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from kasbah.clock import Clock
from kasbah.domain.ids import ReplicaId
from kasbah.domain.replica import Exit
from kasbah.domain.site import ENFORCED, Isolation
from kasbah.drivers.interface import LogLine, Running, StartOrder
from kasbah.errors import Conflict, KasbahError, NotFound

INSTANTLY = timedelta()
FIRST_PID = 1_000
MOST_EVENTS = 100_000
LAST_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """How a replica behaves. `refusal` fails its start; it accepts connections `listens_after` it began (None: never);
    `ends_after` is how long it runs by itself (None: for ever) and `ends_with` how that ends; `obeys_after` is how long
    SIGTERM takes (None: it is ignored)."""

    start_delay: timedelta = INSTANTLY
    listens_after: timedelta | None = INSTANTLY
    refusal: KasbahError | None = None
    says: tuple[str, ...] = ()
    ends_after: timedelta | None = None
    ends_with: Exit = Exit(code=0)
    obeys_after: timedelta | None = INSTANTLY


SERVES = Program()


class SimulatedDriver:
    """A driver whose replicas run nowhere. Asking for what cannot be raises what the real driver raises."""

    name = "simulated"

    def __init__(self, clock: Clock, program: Callable[[StartOrder], Program] = lambda _order: SERVES) -> None:
        self._clock = clock
        self._program = program
        self._replicas: dict[ReplicaId, Running] = {}
        self._programs: dict[ReplicaId, Program] = {}
        self._lines: dict[ReplicaId, list[LogLine]] = {}
        self._starting: dict[ReplicaId, asyncio.Event] = {}
        self._stopping: set[ReplicaId] = set()
        self._due: dict[ReplicaId, Exit] = {}
        self._ended: asyncio.Queue[ReplicaId] = asyncio.Queue(MOST_EVENTS)
        self._pids = FIRST_PID

    async def isolation(self) -> Isolation:
        return Isolation(
            mechanisms=("simulated",), missing=(("processes", "nothing runs in a simulation"),), egress=ENFORCED
        )

    async def list(self) -> tuple[Running, ...]:
        return tuple(self._replicas.values())

    async def start(self, order: StartOrder) -> Running:
        if (under_way := self._starting.get(order.replica)) is not None:
            await under_way.wait()
        known = self._replicas.get(order.replica)
        if known is None:
            return await self._begin(order)
        if known.exit is not None:
            raise Conflict(f"replica {order.replica} has ended", hint="an id is used once: start another")
        return known

    async def freeze(self, replica: ReplicaId) -> None:
        running = self._alive(replica)
        if replica in self._stopping:
            raise Conflict(f"replica {replica} is stopping", hint="it cannot be frozen any more")
        self._replicas[replica] = replace(running, frozen=True)

    async def thaw(self, replica: ReplicaId) -> None:
        self._replicas[replica] = replace(self._alive(replica), frozen=False)
        if (how := self._due.pop(replica, None)) is not None:
            self.end(replica, how)

    async def stop(self, replica: ReplicaId, *, drain: timedelta) -> None:
        running = self._replicas.get(replica)
        if running is None or running.exit is not None:
            return
        self._stopping.add(replica)
        self._replicas[replica] = replace(running, frozen=False)
        obeys = self._programs[replica].obeys_after
        if obeys is not None and obeys <= drain:
            self._later(obeys, replica, Exit(signal="SIGTERM"))
        else:
            seconds = drain.total_seconds()
            killed = Exit(signal="SIGKILL", reason=f"did not end within {seconds:g} s of SIGTERM, and was killed")
            self._later(drain, replica, killed)

    async def forget(self, replica: ReplicaId) -> None:
        running = self._replicas.get(replica)
        if running is not None and running.exit is None:
            raise Conflict(f"replica {replica} still runs", hint="stop it first")
        self._replicas.pop(replica, None)
        self._programs.pop(replica, None)
        self._lines.pop(replica, None)
        self._due.pop(replica, None)

    async def events(self) -> AsyncIterator[ReplicaId]:
        self._ended = asyncio.Queue(MOST_EVENTS)
        for running in self._replicas.values():
            if running.exit is not None:
                self._ended.put_nowait(running.replica)
        return self._events(self._ended)

    async def tail(self, replica: ReplicaId, lines: int) -> tuple[LogLine, ...]:
        return tuple(self._lines.get(replica, [])[-lines:]) if lines else ()

    def at(self, address: str) -> Running | None:
        """The replica that lives at this address."""
        return next((one for one in self._replicas.values() if one.address == address and one.exit is None), None)

    def listens(self, address: str) -> bool:
        """Whether a replica accepts connections at this address by now; a frozen one does, by its kernel."""
        running = self.at(address)
        if running is None:
            return False
        after = self._programs[running.replica].listens_after
        return after is not None and self._clock.now() >= running.started_at + after

    def say(self, replica: ReplicaId, text: str, stream: str = "stdout") -> None:
        """Have a replica write a line."""
        self._alive(replica)
        line = LogLine(at=self._clock.now(), replica=replica, stream=stream, text=text)
        self._lines.setdefault(replica, []).append(line)

    def end(self, replica: ReplicaId, how: Exit) -> None:
        """End a replica now, as a crash would."""
        running = self._alive(replica)
        tail = tuple(line.text for line in self._lines.get(replica, [])[-LAST_LINES:])
        self._replicas[replica] = replace(running, frozen=False, exit=replace(how, tail=how.tail or tail))
        self._stopping.discard(replica)
        self._ended.put_nowait(replica)  # full: nobody reads in this test, which is its mistake and raised as such

    async def _begin(self, order: StartOrder) -> Running:
        program = self._program(order)
        done = self._starting[order.replica] = asyncio.Event()
        try:
            await asyncio.sleep(program.start_delay.total_seconds())
            if program.refusal is not None:
                raise program.refusal
            return self._run(order, program)
        finally:
            del self._starting[order.replica]
            done.set()

    def _run(self, order: StartOrder, program: Program) -> Running:
        self._pids += 1
        running = Running(
            replica=order.replica,
            service=order.service,
            revision=order.revision,
            address=f"127.0.0.1:{order.port}",
            started_at=self._clock.now(),
            pid=self._pids,
        )
        self._replicas[order.replica] = running
        self._programs[order.replica] = program
        for text in program.says:
            self.say(order.replica, text)
        if program.ends_after is not None:
            self._later(program.ends_after, order.replica, program.ends_with)
        return running

    def _alive(self, replica: ReplicaId) -> Running:
        running = self._replicas.get(replica)
        if running is None:
            raise NotFound(f"replica {replica} is not known here", hint="list what is")
        if running.exit is not None:
            raise Conflict(f"replica {replica} has ended", hint="its log says how")
        return running

    def _later(self, wait: timedelta, replica: ReplicaId, how: Exit) -> None:
        """End a replica after a while, unless it has ended by then. A frozen one gets no further until it is thawed."""
        pid = self._replicas[replica].pid

        def due() -> None:
            running = self._replicas.get(replica)
            if running is None or running.exit is not None or running.pid != pid:
                return
            if running.frozen:
                self._due[replica] = how
            else:
                self.end(replica, how)

        asyncio.get_running_loop().call_later(wait.total_seconds(), due)

    async def _events(self, ended: asyncio.Queue[ReplicaId]) -> AsyncIterator[ReplicaId]:
        while True:
            yield await ended.get()
