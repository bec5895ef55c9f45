"""The gate: Envoy asks here, once per request that found no replica, and the request waits in Envoy until the answer.

HTTP/1.1 on a Unix socket, as Envoy's ext_authz speaks it. 200 names the replica; anything else goes to the caller. A
caller who leaves closes the connection, which ends the wait. No payload comes here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import cast

from kasbah.agent.gateway import names
from kasbah.agent.gateway.replies import GATE_UNAVAILABLE, error_body
from kasbah.agent.gateway.wiring import HEADER_KILOBYTES
from kasbah.agent.waiting import Answer, Released
from kasbah.decide.activation import Refuse
from kasbah.domain.ids import RevisionId, ServiceId

Arrive = Callable[[ServiceId, RevisionId], "asyncio.Future[Answer]"]
LONGEST_REQUEST = (HEADER_KILOBYTES + 8) * 1_024
BACKLOG = 4_096
END = b"\r\n\r\n"


class Gate(asyncio.Protocol):
    """One connection of Envoy's; it carries one request at a time."""

    def __init__(self, arrive: Arrive) -> None:
        self._arrive = arrive
        self._buffer = b""
        self._answer: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._take_next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None:
            self._answer.cancel()

    def _take_next(self) -> None:
        """Ask for the next request that is here whole, once the one before has its answer."""
        end = self._buffer.find(END)
        if end >= 0 and self._answer is None:
            request, self._buffer = self._buffer[: end + 2], self._buffer[end + len(END) :]
            self._ask(request)
        if len(self._buffer) > LONGEST_REQUEST and self._transport is not None:
            self._transport.abort()

    def _ask(self, request: bytes) -> None:
        service = _header(request, names.SERVICE_HEADER)
        revision = _header(request, names.REVISION_HEADER)
        self._answer = self._arrive(ServiceId(service), RevisionId(revision))
        self._answer.add_done_callback(self._reply)

    def _reply(self, answer: asyncio.Future[Answer]) -> None:
        if self._transport is None or answer.cancelled():
            return
        result = answer.result()
        self._transport.write(_released(result) if isinstance(result, Released) else _refused(result))
        self._answer = None
        self._take_next()


async def open_gate(path: Path, arrive: Arrive) -> asyncio.AbstractServer:
    """Open the gate at `path`. Envoy's retries carry the requests it holds across the time it was closed."""
    path.unlink(missing_ok=True)
    server = await asyncio.get_running_loop().create_unix_server(lambda: Gate(arrive), str(path), backlog=BACKLOG)
    path.chmod(0o600)
    return server


def _header(request: bytes, name: str) -> str:
    """The value of a header, empty where there is none. Envoy writes names in lower case."""
    start = request.find(b"\r\n" + name.encode() + b":")
    if start < 0:
        return ""
    start += len(name) + 3
    return request[start : request.index(b"\r\n", start)].strip().decode("latin-1")


def _released(released: Released) -> bytes:
    headers = {names.REPLICA_HEADER: released.forward.address, names.UPSTREAM_HEADER: released.upstream}
    if released.wake is not None:
        headers[names.WAKE_HEADER] = released.wake
    return _message(200, headers, b"")


def _refused(refusal: Refuse) -> bytes:
    kind = "rate_limit_error" if refusal.status == 429 else "server_error"
    body = json.dumps(error_body(refusal.code, kind, refusal.message)).encode()
    headers = {"content-type": "application/json", names.REFUSED_HEADER: "1"}
    if refusal.retry_after is not None:
        headers["retry-after"] = str(max(1, round(refusal.retry_after.total_seconds())))
    status = GATE_UNAVAILABLE if refusal.status == HTTPStatus.SERVICE_UNAVAILABLE else refusal.status
    return _message(status, headers, body)


def _message(status: int, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode("latin-1") + body
