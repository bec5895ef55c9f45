"""The load generator against real servers, good and bad: every way a request can fail is told apart."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn

from demo import load
from demo.load import Fault, Request, Tally, Target, burst, call, conversation, digest

pytestmark = pytest.mark.real

EXAMPLES = Path(__file__).parents[2] / "examples"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(answer: bytes, *, reset: bool = False) -> AsyncIterator[Target]:
    """Answers every request with these very bytes and closes; with `reset`, without even reading it."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not reset:
            await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=1024)
    async with listening:
        yield target(listening.sockets[0].getsockname()[1])


@asynccontextmanager
async def example(name: str) -> AsyncIterator[Target]:
    """An example's app, in this process."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / name / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    serving = uvicorn.Server(uvicorn.Config(module.app, log_level="warning", lifespan="off"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        task = asyncio.create_task(serving.serve([listener]))
        try:
            yield target(listener.getsockname()[1])
        finally:
            serving.should_exit = True
            await asyncio.wait_for(task, 10)


def target(port: int) -> Target:
    return Target(address=f"127.0.0.1:{port}", host="app.localhost")


WELL = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "status", "fault"),
    [
        (WELL, 200, None),
        (CHUNKED, 200, None),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, None),
        (b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno", 503, Fault.STATUS),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, Fault.WRONG),
        (WELL[:-1], None, Fault.TRUNCATED),
        (CHUNKED[:-8], None, Fault.TRUNCATED),
        (WELL[:20], None, Fault.CONNECTION),
        (b"", None, Fault.CONNECTION),
    ],
)
async def test_what_became_of_a_call(answer: bytes, status: int | None, fault: Fault | None) -> None:
    async with server(answer) as there:
        outcome = await call(there, Request())
    assert (outcome.status, outcome.fault) == (status, fault)
    assert bool(outcome.detail) == (fault is not None)


async def test_nobody_listening_is_a_connection_error() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        outcome = await call(target(held.getsockname()[1]), Request())
    assert outcome.fault is Fault.CONNECTION


async def test_no_answer_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "DEADLINE_SECONDS", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        outcome = await call(target(silent.getsockname()[1]), Request())
    assert outcome.fault is Fault.TIMEOUT


async def test_an_answer_that_comes_before_the_body_was_sent_counts() -> None:
    async with server(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig") as there:
        outcome = await call(there, Request(method="POST", body=bytes(1000), expect=413))
    assert outcome.fault is None


async def test_a_burst_counts_every_caller() -> None:
    async with server(WELL) as there:
        tally = await burst(there, Request(), 500)
    assert (tally.requests, tally.failed, dict(tally.statuses)) == (500, 0, {200: 500})
    assert tally.body == b"hello"


async def test_a_burst_tells_failures_apart() -> None:
    async with server(WELL[:-1]) as there:
        tally = await burst(there, Request(), 20)
    assert (tally.failed, dict(tally.faults)) == (20, {Fault.TRUNCATED: 20})
    assert "cut short" in tally.example


async def test_the_app_digests_what_was_sent() -> None:
    async with example("hello-python") as there:
        assert (await digest(there, "/digest", 3_000_001)).fault is None
        assert (await digest(there, "/healthz", 1)).fault is Fault.STATUS


async def test_a_wrong_digest_is_noticed() -> None:
    async with server(b'HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n{"bytes":1,"sha256":"a"}') as there:
        assert (await digest(there, "/digest", 1)).fault is Fault.WRONG


async def test_stream_and_websocket_hear_what_is_said() -> None:
    async with example("live") as there:
        tally = await conversation(there, events="/events", chat="/ws", text="salam")
    assert (tally.requests, tally.failed, dict(tally.statuses)) == (2, 0, {200: 1, 101: 1})


async def test_a_conversation_with_an_app_that_cannot() -> None:
    async with server(WELL) as there:
        tally = await conversation(there, events="/events", chat="/ws", text="salam")
    assert tally.faults == {Fault.WRONG: 1, Fault.STATUS: 1}


def test_nothing_sent_is_nothing_failed() -> None:
    assert Tally.of([]).failed == 0
