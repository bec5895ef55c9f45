"""Is a replica well, and what does it speak? Asked over its own address, never through the gateway.

While an app starts it is asked often, and every processor second spent on asking is taken from it and from who waits
for it. So a question is one connection, some bytes and h11, without a client's pools and layers, which cost a start
tens of milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket

import h11

SETTINGS = 4
"""The type of the frame that an HTTP/2 server sends first (RFC 9113, section 3.4)."""
FRAME_HEAD = 9
MOST_AT_ONCE = 65_536


class NetworkProber:
    """Probes by TCP and HTTP/1.1, and listens for HTTP/2."""

    async def tcp(self, address: str, timeout: float) -> bool:
        """Whether a connection is accepted."""
        with contextlib.suppress(OSError, TimeoutError), _dialled(address) as connection:
            async with asyncio.timeout(timeout):
                await _connected(connection, address)
            return True
        return False

    async def http(self, address: str, path: str, timeout: float) -> bool:
        """Whether GET `path` answers 2xx or 3xx."""
        with contextlib.suppress(OSError, TimeoutError, h11.ProtocolError), _dialled(address) as connection:
            async with asyncio.timeout(timeout):
                await _connected(connection, address)
                return 200 <= await _status(connection, address, path) < 400
        return False

    async def speaks_h2c_only(self, address: str, timeout: float) -> bool:
        """Whether it speaks HTTP/2 alone, as gRPC servers do: these send their settings before they are spoken to,
        while a server of HTTP/1.1 (or of both) waits for the client. Nothing is sent, so no log complains."""
        frame = b""
        with contextlib.suppress(OSError, TimeoutError), _dialled(address) as connection:
            async with asyncio.timeout(timeout):
                await _connected(connection, address)
                while len(frame) < FRAME_HEAD and (said := await _received(connection)):
                    frame += said
        return len(frame) >= FRAME_HEAD and frame[3] == SETTINGS


def _dialled(address: str) -> socket.socket:
    """A connection to a replica, begun. Raises OSError: where nobody listens on this machine the kernel says so at
    once, and a start asks this most of the time."""
    host, port = _parts(address)
    connection = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    connection.setblocking(False)
    code = connection.connect_ex((host, port))
    if code not in (0, errno.EINPROGRESS):
        connection.close()
        raise OSError(code, os.strerror(code))
    return connection


async def _connected(connection: socket.socket, address: str) -> None:
    """Wait until it is accepted. Raises OSError."""
    try:
        await asyncio.get_running_loop().sock_connect(connection, _parts(address))
    except OSError as error:
        if error.errno != errno.EISCONN:
            raise


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


async def _status(connection: socket.socket, address: str, path: str) -> int:
    """The status that GET `path` is answered with. Raises h11.ProtocolError for what is no answer of HTTP/1.1."""
    ours = h11.Connection(h11.CLIENT)
    headers = [("Host", address), ("User-Agent", "kasbah"), ("Accept", "*/*"), ("Connection", "close")]
    asked = ours.send(h11.Request(method="GET", target=path, headers=headers))
    await asyncio.get_running_loop().sock_sendall(connection, asked or b"")
    while True:
        event = ours.next_event()
        if isinstance(event, h11.Response):
            return event.status_code
        if event is h11.NEED_DATA:
            ours.receive_data(await _received(connection))


async def _received(connection: socket.socket) -> bytes:
    """The next bytes; b"" where the other side ended."""
    return await asyncio.get_running_loop().sock_recv(connection, MOST_AT_ONCE)
