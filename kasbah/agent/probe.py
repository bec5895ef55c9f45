"""Is a replica well, and what does it speak? Asked over its own address, never through the gateway."""

from __future__ import annotations

import asyncio
import contextlib

import httpx

SETTINGS = 4
"""The type of the frame that an HTTP/2 server sends first (RFC 9113, section 3.4)."""


class NetworkProber:
    """Probes by TCP and HTTP/1.1, and listens for HTTP/2."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(follow_redirects=False, trust_env=False)

    async def tcp(self, address: str, timeout: float) -> bool:
        """Whether a connection is accepted."""
        host, _, port = address.rpartition(":")
        try:
            async with asyncio.timeout(timeout):
                _, writer = await asyncio.open_connection(host, int(port))
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    async def http(self, address: str, path: str, timeout: float) -> bool:
        """Whether GET `path` answers 2xx or 3xx."""
        try:
            answer = await self._client.get(f"http://{address}{path}", timeout=timeout)
        except httpx.HTTPError:
            return False
        return 200 <= answer.status_code < 400

    async def speaks_h2c_only(self, address: str, timeout: float) -> bool:
        """Whether it speaks HTTP/2 alone, as gRPC servers do: these send their settings before they are spoken to,
        while a server of HTTP/1.1 (or of both) waits for the client. Nothing is sent, so no log complains."""
        host, _, port = address.rpartition(":")
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(timeout):
                reader, writer = await asyncio.open_connection(host, int(port))
                try:
                    frame = await reader.readexactly(9)
                finally:
                    writer.close()
            return frame[3] == SETTINGS
        return False

    async def close(self) -> None:
        """Close what is open."""
        await self._client.aclose()
