"""Where sites dial in: the agents' half of the application, with TLS, for those that joined and those that join.

A site proves itself with its certificate; what is asked without one is a token's business (`http/joining.py`). uvicorn
tells an application nothing of a client's certificate, so each connection gets the application with what it showed.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import uvicorn
from cryptography import x509
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from kasbah.api.joining import key_fingerprint

CERTIFIED = "kasbah.certified"
"""In the scope of a request: the fingerprint of the key in the client's certificate."""

AGENTS = "/agent/v1/"


class Certified:
    """The application, for one connection: each request says whose certificate came with it."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].startswith(AGENTS):
            await PlainTextResponse("sites dial in here; the API is elsewhere\n", status_code=404)(scope, receive, send)
            return
        await self._app({**scope, CERTIFIED: self._key}, receive, send)


class CertifiedProtocol(H11Protocol):
    """HTTP that remembers whose certificate came with its connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        self.app = Certified(self.config.loaded_app, _key(transport))


def _key(transport: asyncio.Transport) -> str:
    """The fingerprint of the key in a certificate that our authority signed; "" where none came."""
    tls: Any = transport.get_extra_info("ssl_object")
    shown = tls.getpeercert(binary_form=True) if tls is not None else None
    return key_fingerprint(x509.load_der_x509_certificate(shown).public_key()) if shown else ""


def config(app: ASGIApp, certificate: Path, key: Path, authority: Path, **settings: Any) -> uvicorn.Config:
    """How uvicorn serves it."""
    return uvicorn.Config(
        app,
        http=CertifiedProtocol,
        ssl_certfile=str(certificate),
        ssl_keyfile=str(key),
        ssl_ca_certs=str(authority),
        ssl_cert_reqs=ssl.CERT_OPTIONAL,
        **settings,
    )
