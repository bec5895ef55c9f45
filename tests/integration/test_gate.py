"""The gate's own protocol on a Unix socket: HTTP as Envoy sends it, in whatever pieces it comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from real_gateway import Arrival, released
from site_runner import DEADLINE

from kasbah.agent.activator import LONGEST_REQUEST, open_gate
from kasbah.agent.waiting import Answer
from kasbah.domain.ids import ReplicaId, RevisionId, ServiceId, WakeId

ASKS = (
    b"GET /any/path HTTP/1.1\r\nhost: gate\r\ncontent-length: 0\r\nx-kasbah-service: sv-a\r\n"
    b"x-kasbah-revision: rv-b\r\n\r\n"
)
REPLICA = "127.0.0.1:4001"


@dataclass
class Envoy:
    """The other end of the gate."""

    path: Path
    arrivals: asyncio.Queue[Arrival] = field(default_factory=asyncio.Queue)

    def arrive(self, service: ServiceId, revision: RevisionId) -> asyncio.Future[Answer]:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.arrivals.put_nowait(Arrival(service=service, revision=revision, answer=answer))
        return answer

    async def next(self) -> Arrival:
        async with asyncio.timeout(DEADLINE):
            return await self.arrivals.get()

    async def connect(self) -> Connection:
        return Connection(*await asyncio.open_unix_connection(str(self.path)))


@dataclass
class Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def hear(self) -> tuple[int, dict[str, str], bytes]:
        """An answer: its status, headers and body."""
        async with asyncio.timeout(DEADLINE):
            first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            headers = dict(line.split(": ", 1) for line in lines if line)
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(first.split()[1]), headers, body

    async def closed(self) -> bool:
        async with asyncio.timeout(DEADLINE):
            try:
                return await self.reader.read() == b""
            except ConnectionResetError:
                return True


@pytest.fixture
async def envoy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Envoy]:
    envoy = Envoy(tmp_path_factory.mktemp("g") / "gate.sock")
    server = await open_gate(envoy.path, envoy.arrive)
    yield envoy
    server.close()


async def test_a_request_is_told_its_replica(envoy: Envoy) -> None:
    connection = await envoy.connect()
    connection.writer.write(ASKS)
    arrival = await envoy.next()
    assert (arrival.service, arrival.revision) == ("sv-a", "rv-b")
    arrival.release(REPLICA, "woken-http1")
    status, headers, body = await connection.hear()
    assert (status, body) == (200, b"")
    assert headers == {"x-kasbah-replica": REPLICA, "x-kasbah-upstream": "woken-http1", "content-length": "0"}


async def test_the_wake_it_waited_for_is_named(envoy: Envoy) -> None:
    connection = await envoy.connect()
    connection.writer.write(ASKS)
    found = released(REPLICA)
    answer = type(found)(forward=found.forward, upstream=found.upstream, wake=WakeId("wk-a"))
    (await envoy.next()).answer.set_result(answer)
    assert (await connection.hear())[1]["x-kasbah-wake"] == "wk-a"
    assert found.forward.replica == ReplicaId("rp-a")


@pytest.mark.parametrize(
    ("status", "sent", "kind"), [(404, 404, "server_error"), (429, 429, "rate_limit_error"), (503, 424, "server_error")]
)
async def test_a_refusal_has_the_callers_shape(envoy: Envoy, status: int, sent: int, kind: str) -> None:
    """503 travels as 424: of a 5xx Envoy would keep nothing but the status."""
    connection = await envoy.connect()
    connection.writer.write(ASKS)
    (await envoy.next()).refuse(status, "the_code", "L\u2019\u00e9chec.", timedelta(milliseconds=100))
    found, headers, body = await connection.hear()
    assert (found, headers["content-type"], headers["retry-after"]) == (sent, "application/json", "1")
    error = {"message": "L\u2019\u00e9chec.", "type": kind, "param": None, "code": "the_code"}
    assert json.loads(body) == {"error": error}


@pytest.mark.parametrize("size", [1, 7, len(ASKS) - 1])
async def test_in_pieces(envoy: Envoy, size: int) -> None:
    connection = await envoy.connect()
    for start in range(0, len(ASKS), size):
        connection.writer.write(ASKS[start : start + size])
        await connection.writer.drain()
        await asyncio.sleep(0)
    (await envoy.next()).release(REPLICA)
    assert (await connection.hear())[0] == 200


async def test_one_connection_after_another_request(envoy: Envoy) -> None:
    connection = await envoy.connect()
    for _ in range(3):
        connection.writer.write(ASKS)
        (await envoy.next()).release(REPLICA)
        assert (await connection.hear())[0] == 200


async def test_requests_that_come_at_once_are_asked_one_by_one(envoy: Envoy) -> None:
    connection = await envoy.connect()
    connection.writer.write(ASKS * 2 + ASKS[:30])
    first = await envoy.next()
    assert envoy.arrivals.empty()
    first.release(REPLICA)
    assert (await connection.hear())[0] == 200
    (await envoy.next()).refuse(429, "waking", "Full.")
    assert (await connection.hear())[0] == 429
    connection.writer.write(ASKS[30:])
    (await envoy.next()).release(REPLICA)
    assert (await connection.hear())[0] == 200


@pytest.mark.parametrize("start", [b"", ASKS])
async def test_a_request_without_end_is_cut(envoy: Envoy, start: bytes) -> None:
    connection = await envoy.connect()
    connection.writer.write(start + b"x" * (LONGEST_REQUEST + 1))
    assert await connection.closed()
    if start:
        await (await envoy.next()).abandoned()


async def test_as_large_a_request_as_envoy_lets_pass(envoy: Envoy) -> None:
    connection = await envoy.connect()
    connection.writer.write(ASKS[:-2] + b"x: " + b"x" * 96 * 1_024 + b"\r\n\r\n")
    (await envoy.next()).release(REPLICA)
    assert (await connection.hear())[0] == 200


async def test_who_is_not_named_is_asked_for_all_the_same(envoy: Envoy) -> None:
    connection = await envoy.connect()
    connection.writer.write(b"GET /x-kasbah-service:%20sv-z HTTP/1.1\r\nx-other: x-kasbah-service: sv-y\r\n\r\n")
    arrival = await envoy.next()
    assert (arrival.service, arrival.revision) == ("", "")


async def test_a_lost_connection_ends_its_wait_alone(envoy: Envoy) -> None:
    leaves, stays = await envoy.connect(), await envoy.connect()
    leaves.writer.write(ASKS)
    left = await envoy.next()
    stays.writer.write(ASKS)
    stayed = await envoy.next()
    leaves.writer.close()
    await left.abandoned()
    stayed.release(REPLICA)
    assert (await stays.hear())[0] == 200


async def test_an_answer_that_comes_too_late_harms_nobody(envoy: Envoy) -> None:
    connection = await envoy.connect()
    connection.writer.write(ASKS)
    arrival = await envoy.next()
    arrival.release(REPLICA)
    connection.writer.transport.abort()
    other = await envoy.connect()
    other.writer.write(ASKS)
    (await envoy.next()).release(REPLICA)
    assert (await other.hear())[0] == 200


async def test_the_gate_opens_where_a_dead_one_left_its_socket(envoy: Envoy) -> None:
    again = await open_gate(envoy.path, envoy.arrive)
    assert envoy.path.stat().st_mode & 0o777 == 0o600
    connection = await envoy.connect()
    connection.writer.write(ASKS)
    (await envoy.next()).release(REPLICA)
    assert (await connection.hear())[0] == 200
    again.close()
