"""Probes over real sockets: what counts as well, and what does not, whatever answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kasbah.agent.probe import NetworkProber

pytestmark = pytest.mark.real

PATIENCE, IMPATIENCE = 10.0, 0.05
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"


@asynccontextmanager
async def answering(said: bytes, *, host: str = "127.0.0.1", first: bool = False) -> AsyncIterator[tuple[str, bytes]]:
    """An address where one says this to whoever asks (or at `first`, before it is asked) and then waits."""
    heard = bytearray()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not first:
            heard.extend(await reader.readuntil(b"\r\n\r\n"))
        for byte in said:
            writer.write(bytes([byte]))
            await writer.drain()
        if not said.endswith(b"..."):
            writer.write_eof()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, host, 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield (f"[{host}]:{port}" if ":" in host else f"{host}:{port}"), heard  # type: ignore[misc]


@pytest.mark.parametrize(
    ("said", "well"),
    [
        (OK, True),
        (b"HTTP/1.0 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 204\r\n\r\n", True),
        (b"HTTP/1.1 302 Found\r\nlocation: /in\r\n\r\n", True),
        (b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK, True),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", False),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", False),
        (b"HTTP/1.1 200", False),
        (b"HTTP/1.1 200 OK\r\nx: " + b"x" * 200_000, False),
        (b"SSH-2.0-OpenSSH_9\r\n", False),
        (SETTINGS, False),
        (b"", False),
    ],
    ids=["ok", "1.0", "bare", "elsewhere", "hints", "missing", "failing", "torn", "endless", "ssh", "h2c", "nothing"],
)
async def test_a_replica_is_well_that_answers_2xx_or_3xx(said: bytes, well: bool) -> None:
    async with answering(said) as (address, _):
        assert await NetworkProber().http(address, "/healthz", PATIENCE) is well


async def test_a_probe_says_who_asks_and_that_it_stays_for_one_answer() -> None:
    async with answering(OK) as (address, heard):
        await NetworkProber().http(address, "/healthz?deep=1", PATIENCE)
        first, *headers = bytes(heard).decode().strip().split("\r\n")
    assert first == "GET /healthz?deep=1 HTTP/1.1"
    assert {f"Host: {address}", "User-Agent: kasbah", "Connection: close"} <= set(headers)


async def test_who_is_silent_is_not_well_once_the_time_is_over() -> None:
    async with answering(b"HTTP/1.1 ...") as (address, _):
        assert not await NetworkProber().http(address, "/", IMPATIENCE)


async def test_where_nobody_listens_nobody_is_well() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        assert not await NetworkProber().tcp(address, PATIENCE)
        assert not await NetworkProber().http(address, "/", PATIENCE)
        assert not await NetworkProber().speaks_h2c_only(address, PATIENCE)


async def test_a_connection_is_enough_where_no_path_is_asked() -> None:
    async with answering(b"") as (address, _):
        assert await NetworkProber().tcp(address, PATIENCE)


async def test_addresses_of_version_6() -> None:
    try:
        async with answering(OK, host="::1") as (address, _):
            assert await NetworkProber().http(address, "/", PATIENCE)
    except OSError:
        pytest.skip("this machine has no IPv6")


@pytest.mark.parametrize(
    ("said", "is_h2c"), [(SETTINGS, True), (b"", False), (b"\0\0\0\4", False), (b"\0\0\0\0\0\0\0\0\0", False)]
)
async def test_http2_is_known_by_its_first_frame(said: bytes, is_h2c: bool) -> None:
    async with answering(said, first=True) as (address, _):
        assert await NetworkProber().speaks_h2c_only(address, PATIENCE) is is_h2c


async def test_a_server_that_waits_to_be_asked_speaks_http1() -> None:
    async with answering(OK) as (address, _):
        assert not await NetworkProber().speaks_h2c_only(address, IMPATIENCE)
