"""The outermost layer: gives each request an id, bounds its body, counts it, and writes one line about it."""

from __future__ import annotations

import re
import secrets
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kasbah.control.metrics import Metrics
from kasbah.errors import TooLarge

log = structlog.get_logger()

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,100}")
"""An id a caller may choose: it goes into logs, so it may hold nothing that confuses them."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

API_BYTES = 8 * 2**20
AGENT_BYTES = 64 * 2**20
"""A site with thousands of services reports megabytes."""


class Edge:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["request_id"] = request_id = _request_id(scope)
        status, answered = 500, False

        async def sending(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], True
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, _bounded(scope, receive), sending)
        except Exception:
            if not answered:  # otherwise it was answered as a 500 and logged; the framework raises it once more
                raise
        finally:
            route = _route(scope)
            self._metrics.requests.labels(route, _method(scope), str(status)).inc()
            log.debug("request", request_id=request_id, method=scope["method"], route=route, status=status)


def _request_id(scope: Scope) -> str:
    """The caller's own id, if it is a decent one; else a new one."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if REQUEST_ID.fullmatch(given) else "rq-" + secrets.token_hex(8)


def _route(scope: Scope) -> str:
    """The path's template: names of services do not become metrics."""
    route: Any = scope.get("route")
    return getattr(route, "path", "none")


def _method(scope: Scope) -> str:
    """The method, if it is one of HTTP's own: anybody can make up others, and each would be one more figure."""
    return scope["method"] if scope["method"] in METHODS else "other"


def _bounded(scope: Scope, receive: Receive) -> Receive:
    """`receive`, refusing a body above the limit as soon as it is seen."""
    limit = AGENT_BYTES if scope["path"].startswith("/agent/") else API_BYTES
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    seen = 0

    async def receiving() -> Message:
        nonlocal seen
        if declared.isdigit() and int(declared) > limit:
            raise _too_large(limit)
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise _too_large(limit)
        return message

    return receiving


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit // 2**20} MiB", hint="sources go to a site's door, not here")
