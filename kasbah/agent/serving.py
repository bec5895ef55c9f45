"""Serves an ASGI application inside the agent: uvicorn, without its hands on signals or logs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette


class Server(uvicorn.Server):
    """A uvicorn that leaves the process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the agent."""
        yield


async def serve_unix(app: Starlette, path: Path) -> None:
    """Serve on a Unix socket until cancelled."""
    path.unlink(missing_ok=True)
    await _serve(uvicorn.Config(app, uds=str(path), **_QUIET))


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


_QUIET: dict[str, Any] = {
    "log_config": None,
    "access_log": False,
    "lifespan": "off",
    "timeout_graceful_shutdown": 1,
    "server_header": False,
}
