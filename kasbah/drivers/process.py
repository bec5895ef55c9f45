"""Replicas as processes of this machine: asks the site's runner, which owns them, over its Unix socket.

Each call has a connection of its own from a small pool and a deadline. Where nobody answers, a runner is started
(`revive`) and the call made once more: every operation of the runner is idempotent.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from kasbah.domain.ids import ReplicaId, RevisionId, ServiceId
from kasbah.domain.replica import Exit
from kasbah.domain.site import Isolation
from kasbah.drivers import visits
from kasbah.drivers.egress import Allowed, Lookup
from kasbah.drivers.interface import LogLine, Running, StartOrder
from kasbah.drivers.visits import RunnerVisit
from kasbah.errors import Conflict, Denied, Invalid, KasbahError, NotFound, Unavailable

PROTOCOL = 1
CONNECTIONS = 8
LONGEST_ANSWER = 128 * 2**20
CALL_SECONDS = 15.0
START_SECONDS = 75.0
"""Longer than the runner's own deadline, so that its reason arrives."""

RECONNECT_SECONDS = 0.2
HOST = "127.0.0.1"

ERRORS: Mapping[str, type[KasbahError]] = {
    "not_found": NotFound,
    "conflict": Conflict,
    "denied": Denied,
    "unavailable": Unavailable,
    "internal": Unavailable,
}
"""The runner's codes; every other is about an order that cannot be carried out."""


class ProcessDriver:
    """Drives one site's runner. Close it when done; replicas stay."""

    name = "process"

    def __init__(self, socket: Path, token: Path, *, revive: Callable[[], Awaitable[None]]) -> None:
        self._socket = socket
        self._token = token
        self._revive = revive
        self.on_ending: Callable[[ReplicaId], None] = lambda _replica: None
        """Called with a replica that answers nobody any more, some time before `events` tells that it has ended."""
        self._idle: list[_Connection] = []
        self._lookup = Lookup()
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._start_slots = asyncio.Semaphore(CONNECTIONS)
        """Apart, so that a thaw never waits for a start."""

    async def isolation(self) -> Isolation:
        facts = await self._call("isolation")
        return Isolation(
            mechanisms=tuple(facts["mechanisms"]),
            missing=tuple((name, reason) for name, reason in facts["missing"]),
            egress=facts["egress"],
        )

    async def builder(self) -> tuple[int | None, bool]:
        """The user as whom sources are built (None: the site's own), and whether there is one who reaches package
        indexes only. A runner of before says nothing of them."""
        facts = await self._call("isolation")
        return facts.get("builder"), facts.get("closed_builder") is not None

    async def supply(self, indexes: Iterable[str]) -> tuple[int, Mapping[str, tuple[str, ...]]]:
        """Let builds that reach package indexes only reach these, each HOST:PORT. The user that they run as, and the
        addresses of the names."""
        allowed = await self._lookup.allowed(indexes)
        ends = [(network.partition("/")[0], port) for network, port in allowed.rules]
        answer = await self._call("supply", indexes=ends)
        return int(answer["user"]), dict(allowed.names)

    async def list(self) -> tuple[Running, ...]:
        return tuple(_running(record) for record in await self._call("list"))

    async def start(self, order: StartOrder) -> Running:
        allowed = None if order.egress is None else _allowed(order.egress, await self._lookup.allowed(order.egress))
        fields = {**_fields(order), "egress": allowed}
        record = await self._call("start", seconds=START_SECONDS, slots=self._start_slots, order=fields)
        return _running(record)

    async def renew(self) -> None:
        """Look the names in every replica's egress up again, and let it call where they are now."""
        for record in await self._call("list"):
            entries = record.get("calls")
            if entries and record["ending"] is None:
                allowed = _allowed(entries, await self._lookup.allowed(entries))
                await self._call("permit", replica=record["replica"], egress=allowed)

    async def network(self) -> str:
        """The network that replicas have their addresses of; "" where they have none of their own, or the runner is
        older than the question."""
        with suppress(Invalid):
            return str((await self._call("network"))["network"])
        return ""

    async def lead_to(self, gateway: str) -> str:
        """Lead replicas that may call the gateway, which listens there, to it. Answers with the HOST:PORT at which
        they do."""
        host, _, port = gateway.rpartition(":")
        host = HOST if host in ("0.0.0.0", "localhost", "") else host
        found = await self._call("gateway", host=host, port=int(port))
        return f"{found['address'] or host}:{port}"

    async def freeze(self, replica: ReplicaId) -> None:
        await self._call("freeze", replica=replica)

    async def thaw(self, replica: ReplicaId) -> None:
        await self._call("thaw", replica=replica)

    async def stop(self, replica: ReplicaId, *, drain: timedelta) -> None:
        await self._call("stop", replica=replica, drain=drain.total_seconds())

    async def visit(self, order: StartOrder, files: tuple[int, int, int], *, terminal: bool) -> RunnerVisit:
        """Run the order's command in its replica, which runs; closing the answer ends it."""
        begun = await visits.begin(
            self._socket, self._token, PROTOCOL, {**_fields(order), "egress": None}, files, terminal=terminal
        )
        if isinstance(begun, RunnerVisit):
            return begun
        if "is no operation" in begun["message"]:
            hint = "`kasbah down` and `kasbah up` start a new one; replicas start again"
            raise Conflict("this site's runner is older and runs no commands", hint=hint, code="runner_too_old")
        raise _error(begun)

    async def forget(self, replica: ReplicaId) -> None:
        await self._call("forget", replica=replica)

    async def tail(self, replica: ReplicaId, lines: int) -> tuple[LogLine, ...]:
        found = await self._call("tail", replica=replica, lines=lines)
        return tuple(
            LogLine(at=datetime.fromisoformat(at), replica=replica, stream=stream, text=text)
            for at, stream, text in found
        )

    async def events(self) -> AsyncIterator[ReplicaId]:
        """Reconnects for as long as it is read; each end is told once, also across reconnections."""
        return self._events(await self._subscribed())

    async def shutdown(self, *, drain: timedelta) -> None:
        """Stop every replica, then the runner itself; answers once all is gone. Nothing runs: nothing to do."""
        seconds = drain.total_seconds() + CALL_SECONDS
        try:
            async with asyncio.timeout(seconds):
                await self._shut_down(drain)
        except TimeoutError:
            raise _unavailable(f"the runner did not end within {seconds:g} s") from None

    async def close(self) -> None:
        """Close the connections."""
        while self._idle:
            self._idle.pop().close()

    async def _shut_down(self, drain: timedelta) -> None:
        with suppress(ConnectionError, FileNotFoundError):
            connection = await self._open()
            try:
                await connection.ask({"op": "shutdown", "drain": drain.total_seconds()})
                await connection.closed()
            finally:
                connection.close()

    async def _call(
        self,
        operation: str,
        *,
        seconds: float = CALL_SECONDS,
        slots: asyncio.Semaphore | None = None,
        **fields: object,
    ) -> Any:
        request = {"op": operation, **fields}
        try:
            async with asyncio.timeout(seconds), slots or self._slots:
                try:
                    return await self._ask(request)
                except (ConnectionError, FileNotFoundError):
                    await self.close()  # the pool's other connections are to the same dead runner
                    await self._revive()
                    return await self._ask(request)
        except TimeoutError:
            raise _unavailable(f"the runner did not answer `{operation}` within {seconds:g} s") from None
        except OSError as error:
            raise _unavailable(f"the runner cannot be reached: {error}") from error

    async def _ask(self, request: Mapping[str, object]) -> Any:
        connection = self._idle.pop() if self._idle else await self._open()
        try:
            answer = await connection.ask(request)
        except KasbahError:
            self._idle.append(connection)
            raise
        except BaseException:  # cut or cancelled: what it carries next could be an answer to this request
            connection.close()
            raise
        self._idle.append(connection)
        return answer

    async def _open(self) -> _Connection:
        reader, writer = await asyncio.open_unix_connection(self._socket, limit=LONGEST_ANSWER)
        connection = _Connection(reader, writer)
        try:
            await connection.ask({"op": "hello", "token": self._token.read_text(), "protocol": PROTOCOL})
        except BaseException:
            connection.close()
            raise
        return connection

    async def _subscribed(self) -> _Connection:
        async with asyncio.timeout(CALL_SECONDS):
            while True:
                try:
                    connection = await self._open()
                    await connection.ask({"op": "events"})
                    return connection
                except (OSError, Denied):  # Denied: a runner that has just started has written another token
                    await self._revive()

    async def _events(self, connection: _Connection) -> AsyncIterator[ReplicaId]:
        told: set[ReplicaId] = set()
        try:
            while True:
                try:
                    event = await connection.line()
                except ConnectionError:
                    connection.close()
                    await asyncio.sleep(RECONNECT_SECONDS)
                    connection = await self._subscribed()
                    told &= {one.replica for one in await self.list()}
                    continue
                if "ending" in event:
                    self.on_ending(ReplicaId(event["ending"]))
                elif (replica := ReplicaId(event["ended"])) not in told:
                    told.add(replica)
                    yield replica
        finally:
            connection.close()


class _Connection:
    """One connection to the runner; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, request: Mapping[str, object]) -> Any:
        self._writer.write(json.dumps({"id": 0, **request}).encode() + b"\n")
        await self._writer.drain()
        answer = await self.line()
        if "error" in answer:
            raise _error(answer["error"])
        return answer["ok"]

    async def line(self) -> Any:
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the runner closed the connection")
        return json.loads(line)

    async def closed(self) -> None:
        """Wait until the runner has closed its side: it closes when it ends."""
        while await self._reader.read(4096):
            pass

    def close(self) -> None:
        self._writer.close()


def _fields(order: StartOrder) -> Mapping[str, object]:
    return {
        "replica": order.replica,
        "service": order.service,
        "revision": order.revision,
        "argv": order.argv,
        "env": dict(order.env),
        "app": str(order.app),
        "port": order.port,
        "readable": [str(path) for path in order.readable],
        "cpu": order.resources.cpu,
        "memory": order.resources.memory,
        "hosts": dict(order.hosts),
        "volumes": {volume.name: volume.path for volume in order.volumes},
        "files": {name: base64.b64encode(contents).decode() for name, contents in order.files.items()},
    }


def _allowed(entries: Iterable[str], allowed: Allowed) -> Mapping[str, object]:
    return {"calls": list(entries), "rules": allowed.rules, "names": dict(allowed.names)}


def _running(record: Mapping[str, Any]) -> Running:
    ending = record["ending"]
    return Running(
        replica=ReplicaId(record["replica"]),
        service=ServiceId(record["service"]),
        revision=RevisionId(record["revision"]),
        address=f"{record.get('address', HOST)}:{record['port']}",
        started_at=datetime.fromisoformat(record["started_at"]),
        pid=record["pid"] or None,
        frozen=record["frozen"],
        exit=None if ending is None else Exit(**{**ending, "tail": tuple(ending["tail"])}),
        egress=None if record.get("calls") is None else tuple(record["calls"]),
    )


def _error(fields: Mapping[str, str]) -> KasbahError:
    kind = ERRORS.get(fields["code"], Invalid)
    return kind(fields["message"], hint=fields["hint"], code=fields["code"])


def _unavailable(message: str) -> Unavailable:
    return Unavailable(message, hint="`kasbah doctor` looks at the runner", code="runner_unavailable")
