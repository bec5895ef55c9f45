"""`kasbah exec` at the site: wakes the service, runs the command in a replica of it, and carries its bytes.

    CLI ── gateway ── here ── pipes or a terminal ── the command (runner/visits.py)

While a command runs, its replica is in use (`leases`): it is neither frozen nor stopped for being idle. Nothing is read
from the command that the caller has not taken, and no more than a window of input is kept for it. The command ends with
its caller, with its replica, with this agent, and when nothing has moved for an hour.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from kasbah.agent.ledger import Ledger
from kasbah.agent.live_replica import LiveReplica
from kasbah.agent.ready import ready
from kasbah.agent.reconciler import Reconciler
from kasbah.agent.starting import Starter
from kasbah.agent.unit import Unit
from kasbah.agent.visitors import SentAway
from kasbah.agent.waiting import Released
from kasbah.api import visits as wire
from kasbah.domain.ids import ServiceId
from kasbah.domain.replica import ReplicaState
from kasbah.drivers.process import ProcessDriver
from kasbah.drivers.visits import Ends, RunnerVisit, open_files, resize
from kasbah.errors import Conflict, Denied, Invalid, KasbahError, NotFound, Unavailable

log = structlog.get_logger()

MOST_AT_SITE = 64
FIRST_SECONDS = 10.0
IDLE_SECONDS = 3_600.0
LAST_OUTPUT_SECONDS = 60.0
"""How long the caller may take for what a command that has ended had written."""

LARGEST_SIDE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a caller asks to be run."""

    argv: tuple[str, ...]
    terminal: tuple[int, int] | None
    replica: str | None


@dataclass(slots=True, kw_only=True, eq=False)
class Session:
    """One command under way. `input` is what waits to be taken by it."""

    websocket: WebSocket
    visit: RunnerVisit
    ends: Ends
    terminal: bool
    input: bytearray = field(default_factory=bytearray)
    input_over: bool = False
    input_news: asyncio.Event = field(default_factory=asyncio.Event)
    moved_at: float = 0.0


class Visits:
    """The commands of one site."""

    def __init__(
        self,
        reconciler: Reconciler,
        ledger: Ledger,
        starter: Starter,
        driver: ProcessDriver,
        *,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._reconciler = reconciler
        self._ledger = ledger
        self._starter = starter
        self._driver = driver
        self._idle_seconds = idle_seconds
        self._count = 0

    async def answer(
        self,
        websocket: WebSocket,
        service: ServiceId,
        *,
        admit: Callable[[], AbstractContextManager[SentAway]],
        vouch: Callable[[Sequence[str]], Awaitable[None]],
    ) -> None:
        """Answer one caller. `admit` raises where it may not, and is held for as long as the command runs; `vouch`
        raises where it may not run just this."""
        await websocket.accept()
        try:
            with admit() as away:
                await self._answer(websocket, service, away, vouch)
        except KasbahError as error:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await _tell(websocket, error=_told(error))
        except WebSocketDisconnect:
            return
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await websocket.close()

    async def _answer(
        self,
        websocket: WebSocket,
        service: ServiceId,
        away: SentAway,
        vouch: Callable[[Sequence[str]], Awaitable[None]],
    ) -> None:
        if self._count >= MOST_AT_SITE:
            raise Unavailable(f"{MOST_AT_SITE} commands run at this site already", hint="end one, and try again")
        self._count += 1
        try:
            asked = await _first(websocket)
            await vouch(asked.argv)
            unit, live = await self._replica(websocket, service, asked)
            with _leased(unit, live):
                await self._run(websocket, unit, live, asked, away)
        finally:
            self._count -= 1

    async def _replica(self, websocket: WebSocket, service: ServiceId, asked: Asked) -> tuple[Unit, LiveReplica]:
        """A replica that is awake; the service is woken where it has none."""
        desired = self._ledger.desired
        if desired is None or all(one.id != service for one in desired.services):
            raise NotFound("this service is not at this site, or is being deleted", hint="`kasbah ps` lists services")
        found = self._awake(service, asked.replica)
        if found is None:
            self._refuse_unknown(service, asked.replica)
            units = self._units(service)
            serving = [one for one in units if one.percent > 0]
            if not serving:
                reason = next((f": {one.failed.reason}" for one in units if one.failed.reason), "")
                raise Unavailable(f"this service is not ready yet{reason}", hint="see more with: kasbah describe NAME")
            await _tell(websocket, waking=True)
            answer = await self._reconciler.arrive(service, serving[0].revision.id)
            if not isinstance(answer, Released):
                raise Unavailable(answer.message, hint="`kasbah logs NAME` may say why", code=answer.code)
            found = self._awake(service, asked.replica)
        if found is None:
            raise Conflict("its replica is not ready", hint="kasbah describe NAME lists replicas and their states")
        return found

    def _units(self, service: ServiceId) -> list[Unit]:
        found = [one for one in self._reconciler.units if one.service.id == service]
        return sorted(found, key=lambda one: -one.percent)

    def _awake(self, service: ServiceId, replica: str | None) -> tuple[Unit, LiveReplica] | None:
        """One that runs: the one that is named, whatever its probe says; else one that serves."""
        for unit in self._units(service):
            for live in unit.replicas:
                usable = live.state is ReplicaState.READY or (replica and live.state is ReplicaState.UNREADY)
                if usable and not live.ending and replica in (None, live.id):
                    return unit, live
        return None

    def _refuse_unknown(self, service: ServiceId, replica: str | None) -> None:
        known = {live.id: live for unit in self._units(service) for live in unit.replicas}
        if replica is None:
            return
        live = next((one for name, one in known.items() if name == replica), None)
        hint = "kasbah describe NAME lists replicas and their states"
        if live is None:
            raise NotFound(f"this service has no replica {replica}", hint=hint)
        if live.state is not ReplicaState.FROZEN:
            raise Conflict(f"replica {replica} is {live.state.value}: nothing can be run in it", hint=hint)

    async def _run(self, websocket: WebSocket, unit: Unit, live: LiveReplica, asked: Asked, away: SentAway) -> None:
        order = self._starter.visit(live, unit.service, unit.revision, asked.argv)
        log.info("exec", service=unit.service.name, replica=live.id, program=asked.argv[0], arguments=len(asked.argv))
        ends, theirs = open_files(asked.terminal)
        try:
            try:
                visit = await self._driver.visit(order, theirs, terminal=asked.terminal is not None)
            finally:
                for fd in theirs:
                    os.close(fd)
            session = Session(websocket=websocket, visit=visit, ends=ends, terminal=asked.terminal is not None)
            try:
                await _tell(websocket, replica=live.id)
                await carry(session, self._idle_seconds, away)
            finally:
                visit.close()
        finally:
            ends.close()


async def carry(session: Session, idle_seconds: float, away: SentAway) -> None:
    """Carry everything both ways until the command has ended, and say how it did; or until its caller is sent away."""
    loop = asyncio.get_running_loop()
    session.moved_at = loop.time()
    outputs = [
        loop.create_task(_output(session, fd, kind))
        for fd, kind in zip(session.ends.outputs, (wire.OUTPUT, wire.ERRORS), strict=False)
    ]
    ended = loop.create_task(session.visit.line())
    hearing, feeding = loop.create_task(_hear(session)), loop.create_task(_feed(session))
    tasks = [*outputs, ended, hearing, feeding]
    try:
        while not ended.done():
            await asyncio.wait([ended, hearing, away], timeout=idle_seconds / 4, return_when=asyncio.FIRST_COMPLETED)
            if away.done():
                raise Denied(away.result(), code="sent_away")
            if hearing.done():
                hearing.result()
            if loop.time() - session.moved_at > idle_seconds:
                raise Unavailable(f"nothing was read or written for {idle_seconds:g} s: the command was ended")
        _, late = await asyncio.wait(outputs, timeout=LAST_OUTPUT_SECONDS)
        if late:
            raise Unavailable("the last output was not taken in time")
        await _tell(session.websocket, **_outcome(ended.result()))
    except ConnectionError:
        raise Unavailable("the runner ended, and the command with it", hint="`kasbah doctor` looks at it") from None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _outcome(said: dict[str, Any]) -> dict[str, Any]:
    """How it ended, as a shell says it: a signal is 128 and its number."""
    if "error" in said:
        return {"error": said["error"]}
    found = said["visit"]
    return {"exit": found["code"] if "code" in found else 128 + found["signal"]}


async def _output(session: Session, fd: int, kind: int) -> None:
    """Send what the command writes, no faster than it is taken."""
    while True:
        try:
            part = os.read(fd, wire.CHUNK)
        except BlockingIOError:
            await ready(fd, write=False)
            continue
        except OSError:  # a terminal that nobody has open any more
            return
        if not part:
            return
        session.moved_at = asyncio.get_running_loop().time()
        await session.websocket.send_bytes(wire.data(kind, part))


async def _hear(session: Session) -> None:
    """Take in what the caller sends. Raises WebSocketDisconnect once it has left, or said nothing for too long."""
    while True:
        try:
            async with asyncio.timeout(wire.GONE_SECONDS):
                kind, payload = wire.read(await session.websocket.receive_bytes())
            size = _size(payload["resize"]) if kind == wire.CONTROL and "resize" in payload else None
        except TimeoutError:
            raise WebSocketDisconnect(reason="gone") from None
        except (ValueError, KeyError) as error:
            raise Invalid(f"this is no message of an exec: {error}") from None
        if kind == wire.INPUT:
            session.moved_at = asyncio.get_running_loop().time()
            session.input += payload
            session.input_over = session.input_over or not payload
            session.input_news.set()
            if len(session.input) > wire.WINDOW:
                raise Invalid(f"more than {wire.WINDOW} bytes of input came before any was taken")
        elif size is not None and session.terminal:
            resize(session.ends.input, size)


async def _feed(session: Session) -> None:
    """Give the command its input, and say how much it has taken."""
    fd = session.ends.input
    while True:
        await session.input_news.wait()
        session.input_news.clear()
        while session.input:
            try:
                taken = os.write(fd, bytes(session.input[: wire.CHUNK]))
            except BlockingIOError:
                await ready(fd, write=True)
                continue
            except OSError:  # it has closed its input: what comes is nobody's
                taken = len(session.input)
            del session.input[:taken]
            await _tell(session.websocket, taken=taken)
        if session.input_over:
            if not session.terminal:
                nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
                os.dup2(nowhere, fd, inheritable=False)
                os.close(nowhere)
            return


@contextlib.contextmanager
def _leased(unit: Unit, live: LiveReplica) -> Iterator[None]:
    """Within the block, the replica is in use."""
    live.leases += 1
    unit.look()
    try:
        yield
    finally:
        live.leases -= 1
        if live.state is not ReplicaState.ENDED:  # its unit may be over
            unit.look()


async def _first(websocket: WebSocket) -> Asked:
    """What the caller asks for. Raises Invalid."""
    try:
        async with asyncio.timeout(FIRST_SECONDS):
            kind, fields = wire.read(await websocket.receive_bytes())
        if kind != wire.CONTROL:
            raise ValueError("the command comes first")
        argv, terminal, replica = fields["argv"], fields.get("terminal"), fields.get("replica")
        if not argv or not isinstance(argv, list) or len(argv) > wire.MOST_ARGUMENTS:
            raise ValueError(f"`argv` is a list of 1 to {wire.MOST_ARGUMENTS} words")
        if not all(isinstance(word, str) and "\0" not in word for word in argv) or not argv[0]:
            raise ValueError("`argv` is a list of words")
        for word in argv:
            os.fsencode(word)  # halves of surrogate pairs, which JSON can spell and no program can be given
        if sum(map(len, argv)) > wire.LONGEST_COMMAND:
            raise ValueError(f"the command is longer than {wire.LONGEST_COMMAND} characters")
        size = None if terminal is None else _size(terminal)
        return Asked(argv=tuple(argv), terminal=size, replica=None if replica is None else str(replica))
    except TimeoutError:
        raise Invalid(f"no command came within {FIRST_SECONDS:g} s") from None
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(f"this is no command to run: {error}") from None


def _size(found: Any) -> tuple[int, int]:
    """Rows and columns. Raises ValueError."""
    if not isinstance(found, list) or len(found) != 2 or not all(isinstance(side, int) for side in found):
        raise ValueError("the size of a terminal is its rows and its columns")
    rows, columns = (min(max(side, 1), LARGEST_SIDE) for side in found)
    return rows, columns


async def _tell(websocket: WebSocket, **fields: object) -> None:
    await websocket.send_bytes(wire.control(**fields))


def _told(error: KasbahError) -> dict[str, object]:
    return {"code": error.code, "message": str(error), "hint": error.hint, "status": error.status}
