"""Where the control plane listens, and how it serves there until it is told to end.

People and programs reach the API; sites that joined dial in at an address of their own, with TLS (`sites_door.py`).
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp

from kasbah.clock import Clock
from kasbah.control import sites_door
from kasbah.control.access.authority import Authority, load_or_make_ec_key
from kasbah.control.folder import Folder, keep_port, last_port
from kasbah.errors import Conflict, Invalid

log = structlog.get_logger()

END_WITHIN = 2
"""Seconds that requests under way get to finish once the process is told to end."""

MOST_CONNECTIONS = 2_000
PORT = re.compile(r"[0-9]{1,5}")
LOOPBACK = ("127.0.0.1", "::1", "localhost")

SETTINGS: dict[str, Any] = {
    "log_config": None,
    "access_log": False,
    "server_header": False,
    "lifespan": "off",
    "ws": "none",
    "proxy_headers": False,
    "limit_concurrency": MOST_CONNECTIONS,
    "timeout_graceful_shutdown": END_WITHIN,
}


class Server(uvicorn.Server):
    """uvicorn, with the signals left to us: it would end the process by the signal it was told to end with."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def api_server(app: ASGIApp) -> Server:
    """Serves the API."""
    return Server(uvicorn.Config(app, **SETTINGS))


def sites_server(app: ASGIApp, folder: Folder, authority: Authority, host: str, clock: Clock) -> Server:
    """Serves sites that dial `host`: with a certificate made now, so that it names where we listen."""
    key = load_or_make_ec_key(folder.tls_key)
    folder.tls_certificate.write_text(authority.for_control(key, host, clock.now()))
    return Server(sites_door.config(app, folder.tls_certificate, folder.tls_key, folder.authority, **SETTINGS))


def listen(address: str, remembered: Path, *, option: str, tls: bool = False) -> socket.socket:
    """A listening socket at HOST:PORT. Port 0 asks for the port it was given last time, then for any."""
    host, _, text = address.rpartition(":")
    host = host.strip("[]")
    if not host or not PORT.fullmatch(text) or int(text) > 65_535:
        raise Invalid(f"{address!r} is no address to listen at", where=option, hint="write HOST:PORT: 127.0.0.1:7070")
    if host not in LOOPBACK and not tls:
        log.warning("the API listens without TLS beyond this machine: tokens travel in plain text", host=host)
    last = last_port(remembered)
    if int(text) == 0 and last is not None:
        with contextlib.suppress(Conflict):
            return _bind(host, last, option)
    listener = _bind(host, int(text), option)
    keep_port(remembered, listener.getsockname()[1])
    return listener


def address_of(listener: socket.socket) -> tuple[str, str]:
    """The host to dial, and HOST:PORT."""
    host, port = listener.getsockname()[:2]
    return host, f"{_reachable(host)}:{port}"


def _bind(host: str, port: int, option: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1_024)
    except OSError as error:
        listener.close()
        raise Conflict(
            f"the control plane cannot listen at {host}:{port}: {error.strerror}",
            hint=f"see who has the port (ss -ltnp), or choose another: --{option} HOST:PORT, port 0 takes a free one",
            code="address_in_use",
        ) from error
    listener.setblocking(False)
    return listener


def _reachable(host: str) -> str:
    """A host to dial: who listens everywhere is reached here too."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{reached}]" if ":" in reached else reached
