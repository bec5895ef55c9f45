"""One request on a connection of its own, and how long its first byte took. Nothing is retried."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from dataclasses import dataclass

from demo.load import Target

SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """`first_byte` is in seconds since the connection was asked for."""

    status: int
    first_byte: float


def get(target: Target, path: str = "/") -> Answered:
    """One GET. Raises OSError where there is no answer."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {target.host}", "Connection: close"]
    if target.key is not None:
        lines.append(f"Authorization: Bearer {target.key}")
    request = "\r\n".join([*lines, "", ""]).encode()
    began = time.perf_counter()
    with socket.create_connection(target.endpoint, timeout=SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request)
        head = connection.recv(65_536)
        first_byte = time.perf_counter() - began
        with suppress(ConnectionResetError):
            while connection.recv(65_536):
                pass
    if not head.startswith(b"HTTP/1."):
        raise ConnectionError("the connection ended without an answer")
    return Answered(status=int(head.split(b" ", 2)[1]), first_byte=first_byte)
