"""Traffic: real requests on sockets of their own, and what became of each.

HTTP/1.1 is spoken on plain asyncio streams, a connection a request, so that hundreds of callers arriving at once are
hundreds of connections, and so that a refused connection, a cut answer and an error status are told apart. Nothing is
retried. Every exchange has a deadline.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

DEADLINE_SECONDS = 90.0
LONGEST_HEAD = 65_536
PIECE = 262_144
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT_FRAME, FINAL, MASKED = 0x1, 0x80, 0x80


class Fault(StrEnum):
    """How a request failed."""

    CONNECTION = "connection error"
    TRUNCATED = "answer cut short"
    TIMEOUT = "no answer in time"
    STATUS = "error status"
    WRONG = "wrong answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a service answers: the gateway's address, and the name to ask for."""

    address: str
    host: str
    key: str | None = None

    @property
    def endpoint(self) -> tuple[str, int]:
        """The address in two parts."""
        host, _, port = self.address.rpartition(":")
        return host.strip("[]"), int(port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is sent. `expect` is the status that counts as success; `check` says of a body whether it is right."""

    method: str = "GET"
    path: str = "/"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    expect: int = 200
    check: Callable[[bytes], bool] = bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one request. `fault` is None where all was well."""

    milliseconds: float
    status: int | None = None
    body: bytes = b""
    fault: Fault | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What became of many."""

    requests: int
    failed: int
    statuses: Counter[int]
    faults: Counter[Fault]
    slowest_ms: float
    example: str = ""
    body: bytes = b""

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> Tally:
        """The outcomes, counted; `example` tells of the first that failed, `body` is the last one that was right."""
        every = list(outcomes)
        bad = [outcome for outcome in every if outcome.fault is not None]
        good = [outcome.body for outcome in every if outcome.fault is None]
        return cls(
            requests=len(every),
            failed=len(bad),
            statuses=Counter(outcome.status for outcome in every if outcome.status is not None),
            faults=Counter(outcome.fault for outcome in bad if outcome.fault is not None),
            slowest_ms=max((outcome.milliseconds for outcome in every), default=0.0),
            example=bad[0].detail if bad else "",
            body=good[-1] if good else b"",
        )


class _Cut(Exception):
    """The answer began and did not end."""


Exchange = Callable[[], Awaitable[tuple[int, bytes]]]


async def call(target: Target, request: Request) -> Outcome:
    """Send one request and read its whole answer."""
    return await _attempt(lambda: _exchange(target, request), request)


async def burst(target: Target, request: Request, count: int) -> Tally:
    """Send the same request `count` times, all at once."""
    return Tally.of(await asyncio.gather(*(call(target, request) for _ in range(count))))


async def digest(target: Target, path: str, size: int) -> Outcome:
    """Send `size` bytes and see that the app digested these very bytes."""
    block = bytes(range(256))
    body = block * (size // len(block)) + block[: size % len(block)]
    expected = {"bytes": size, "sha256": hashlib.sha256(body).hexdigest()}
    return await call(
        target, Request(method="POST", path=path, body=body, check=lambda got: json.loads(got) == expected)
    )


async def conversation(target: Target, *, events: str, chat: str, text: str) -> Tally:
    """Open an event stream and a WebSocket at once; say `text` on the one and see it arrive on both."""
    watching = asyncio.Event()
    wanted = text.encode()

    async def watch() -> tuple[int, bytes]:
        try:
            return await _watch(target, events, wanted, watching)
        finally:
            watching.set()

    async def talk() -> tuple[int, bytes]:
        return await _talk(target, chat, wanted, watching)

    return Tally.of(
        await asyncio.gather(
            _attempt(watch, Request(check=lambda got: wanted in got)),
            _attempt(talk, Request(expect=101, check=lambda got: wanted in got)),
        )
    )


async def _attempt(exchange: Exchange, request: Request) -> Outcome:
    """Run an exchange within the deadline, and give what came of it, whatever that is, as an outcome."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    status, body, fault, detail = None, b"", None, ""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            status, body = await exchange()
    except TimeoutError:
        fault, detail = Fault.TIMEOUT, f"no answer within {DEADLINE_SECONDS:.0f} s"
    except _Cut as error:
        fault, detail = Fault.TRUNCATED, str(error)
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        fault, detail = Fault.CONNECTION, f"{type(error).__name__}: {error}"
    else:
        fault, detail = _judge(request, status, body)
    milliseconds = (loop.time() - started) * 1000
    return Outcome(milliseconds=milliseconds, status=status, body=body, fault=fault, detail=detail)


def _judge(request: Request, status: int, body: bytes) -> tuple[Fault | None, str]:
    shown = body[:300].decode(errors="replace")
    if status != request.expect:
        return Fault.STATUS, f"{request.method} {request.path} answered {status}: {shown}"
    try:
        right = request.check(body)
    except ValueError:
        right = False
    return (None, "") if right else (Fault.WRONG, f"{request.method} {request.path} answered: {shown}")


async def _exchange(target: Target, request: Request) -> tuple[int, bytes]:
    headers = {"connection": "close", "content-length": str(len(request.body)), **request.headers}
    async with _connection(target) as (reader, writer):
        sending = asyncio.create_task(_send(writer, _head(target, request, headers), request.body))
        try:
            status, answered = await _read_head(reader, sending)
            return status, b"".join([piece async for piece in _pieces(reader, answered)])
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def _watch(target: Target, path: str, wanted: bytes, watching: asyncio.Event) -> tuple[int, bytes]:
    """Read an event stream until `wanted` arrives. Sets `watching` once the first event has."""
    request = Request(path=path)
    async with _connection(target) as (reader, writer):
        await _send(writer, _head(target, request, {"accept": "text/event-stream"}), b"")
        status, answered = await _read_head(reader)
        seen = b""
        async for piece in _pieces(reader, answered):
            watching.set()
            seen += piece
            if wanted in seen:
                break
        return status, seen


async def _talk(target: Target, path: str, wanted: bytes, watching: asyncio.Event) -> tuple[int, bytes]:
    """Open a WebSocket, say `wanted` once somebody watches, and read until it comes back."""
    nonce = base64.b64encode(os.urandom(16))
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": nonce.decode(),
    }
    async with _connection(target) as (reader, writer):
        await _send(writer, _head(target, Request(path=path), upgrade), b"")
        status, answered = await _read_head(reader)
        if status != 101:
            return status, b"".join([piece async for piece in _pieces(reader, answered)])
        if answered.get("sec-websocket-accept") != _accept(nonce):
            return status, b"the handshake was answered wrongly"
        await watching.wait()
        await _send(writer, _masked_text(wanted), b"")
        seen = b""
        while wanted not in seen:
            seen = await _frame(reader)
        return status, seen


def _accept(nonce: bytes) -> str:
    return base64.b64encode(hashlib.sha1(nonce + WEBSOCKET_GUID).digest()).decode()


def _masked_text(text: bytes) -> bytes:
    """A WebSocket text frame from a client, which must mask what it sends (RFC 6455, section 5.3)."""
    if len(text) > 125:
        raise ValueError("longer frames have another head")
    mask = os.urandom(4)
    return bytes([FINAL | TEXT_FRAME, MASKED | len(text)]) + mask + bytes(c ^ mask[i % 4] for i, c in enumerate(text))


async def _frame(reader: asyncio.StreamReader) -> bytes:
    """The payload of the next WebSocket frame from a server."""
    try:
        _, length = await reader.readexactly(2)
        if length == 126:
            length = int.from_bytes(await reader.readexactly(2))
        elif length == 127:
            length = int.from_bytes(await reader.readexactly(8))
        return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise _Cut("the WebSocket ended before the message came back") from error


@asynccontextmanager
async def _connection(target: Target) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*target.endpoint, limit=LONGEST_HEAD)
    try:
        yield reader, writer
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


def _head(target: Target, request: Request, headers: Mapping[str, str]) -> bytes:
    lines = [f"{request.method} {request.path} HTTP/1.1", f"host: {target.host}"]
    if target.key is not None:
        lines.append(f"authorization: Bearer {target.key}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


async def _send(writer: asyncio.StreamWriter, head: bytes, body: bytes) -> None:
    writer.write(head)
    await writer.drain()
    for start in range(0, len(body), PIECE):
        writer.write(body[start : start + PIECE])
        await writer.drain()


async def _read_head(
    reader: asyncio.StreamReader, sending: asyncio.Task[None] | None = None
) -> tuple[int, dict[str, str]]:
    """Status and headers. A request that could not be sent fails with that error, unless an answer came anyway."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError):
        if sending is not None and sending.done():
            sending.result()
        raise
    first, *lines = head.split("\r\n")
    fields = (line.partition(":") for line in lines if line)
    return int(first.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in fields}


async def _pieces(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises _Cut where it ends before its own end."""
    try:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while length := int(await reader.readuntil(b"\r\n"), 16):
                yield (await reader.readexactly(length + 2))[:-2]
        elif "content-length" in headers:
            yield await reader.readexactly(int(headers["content-length"]))
        else:
            yield await reader.read()
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise _Cut("the answer began and was cut short") from error
