"""Serves an ASGI application inside the agent: uvicorn, without its hands on signals or logs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kasbah.api.visits import LONGEST_MESSAGE
from kasbah.errors import Conflict, KasbahError, Unavailable

log = structlog.get_logger()


Handler = Callable[[Request], Awaitable[Response]]


class Server(uvicorn.Server):
    """A uvicorn that leaves the process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the agent."""
        yield


async def serve_unix(app: Starlette, path: Path) -> None:
    """Serve on a Unix socket until cancelled."""
    path.unlink(missing_ok=True)
    await _serve(uvicorn.Config(app, uds=str(path), **_QUIET, **_SOCKETS))


async def serve_tcp(app: Starlette, listening: socket.socket) -> None:
    """Serve on a bound socket until cancelled."""
    await _serve(uvicorn.Config(app, **_QUIET), [listening])


async def _serve(config: uvicorn.Config, sockets: list[socket.socket] | None = None) -> None:
    server = Server(config)
    serving = asyncio.create_task(server.serve(sockets))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = server.force_exit = True
        await serving
        raise


_SOCKETS: dict[str, Any] = {
    "ws": "websockets-sansio",
    "ws_max_size": LONGEST_MESSAGE,
    "ws_ping_interval": None,  # callers say that they are there themselves: one whose output stands still cannot answer
    "ws_per_message_deflate": False,
}
_QUIET: dict[str, Any] = {
    "log_config": None,
    "access_log": False,
    "lifespan": "off",
    "timeout_graceful_shutdown": 1,
    "server_header": False,
}


def bound(address: str) -> socket.socket:
    """A socket bound to `HOST:PORT`, for the agent's status. Raises Conflict where another has it."""
    host, _, port = address.rpartition(":")
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host.strip("[]"), int(port)))
    except OSError as error:
        found.close()
        raise Conflict(
            f"the agent's status cannot listen on {address}: {error.strerror}", hint="choose another with --status"
        ) from error
    return found


def announce(file: Path, gateway: str, tls: str | None, status: socket.socket) -> None:
    """Say where this agent answers, all at once, in its endpoint file."""
    host, port = status.getsockname()[:2]
    endpoint = {"gateway": gateway, "tls": tls, "status": f"{host}:{port}", "pid": os.getpid()}
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(endpoint))
    fresh.replace(file)
    log.info("agent ready", **endpoint)


def loopback(listen: str) -> str:
    """Where this machine's own processes reach what listens there."""
    host, _, port = listen.rpartition(":")
    return f"{'127.0.0.1' if host in ('0.0.0.0', 'localhost', '') else host}:{port}"


def answering(work: Handler) -> Handler:
    """Turn our errors into answers."""

    @wraps(work)
    async def answer(request: Request) -> Response:
        try:
            return await work(request)
        except KasbahError as error:
            detail = {
                "message": str(error),
                "type": "site_error",
                "code": error.code,
                "param": None,
                "hint": error.hint,
            }
            headers = {}
            if isinstance(error, Unavailable):
                headers["retry-after"] = str(max(1, round(error.retry_after.total_seconds())))
            return JSONResponse({"error": detail}, status_code=error.status, headers=headers)

    return answer
