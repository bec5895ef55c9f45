"""What a replica may call, as addresses: names are looked up here, outside, so that it needs no name server itself.

What was found is remembered and looked up again when it is older than a minute; a name that cannot be found keeps its
last addresses, and one that never was has none, so nothing is let through for it.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from kasbah.domain.egress import Destination, destination

log = structlog.get_logger()

FRESH_SECONDS = 60.0
LOOKUP_SECONDS = 5.0
MOST_ADDRESSES, MOST_NAMES = 64, 2_000
GATEWAY = "gateway"
"""In place of a network: the gateway, as replicas reach it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What the runner is told: networks with a port or None, and the addresses of the names in the file."""

    rules: tuple[tuple[str, int | None], ...]
    names: tuple[tuple[str, tuple[str, ...]], ...]


class Lookup:
    """Looks names up, and remembers."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[float, tuple[str, ...]]] = {}

    async def allowed(self, entries: Iterable[str]) -> Allowed:
        """The rules for a service's entries. Within a few seconds, whatever name servers do."""
        wanted = [destination(entry) for entry in entries]
        hosts = sorted({one.host for one in wanted if one.host})
        found = dict(zip(hosts, await asyncio.gather(*(self._addresses(host) for host in hosts)), strict=True))
        rules = {rule for one in wanted for rule in _rules(one, found)}
        return Allowed(
            rules=tuple(sorted(rules, key=str)), names=tuple((host, addresses) for host, addresses in found.items())
        )

    async def _addresses(self, host: str) -> tuple[str, ...]:
        at, known = self._found.get(host, (float("-inf"), ()))
        if time.monotonic() - at < FRESH_SECONDS:
            return known
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                answers = await asyncio.get_running_loop().getaddrinfo(
                    host, None, family=socket.AF_INET, type=socket.SOCK_STREAM
                )
            known = tuple(sorted({str(one[4][0]) for one in answers})[:MOST_ADDRESSES])
        except (OSError, TimeoutError) as error:
            log.warning("a host in egress could not be looked up", host=host, problem=str(error) or "no answer")
            return known
        if len(self._found) >= MOST_NAMES:
            self._found.clear()  # names of services that are long gone, mostly; the others are looked up again
        self._found[host] = (time.monotonic(), known)
        return known


def _rules(one: Destination, found: dict[str, tuple[str, ...]]) -> Iterable[tuple[str, int | None]]:
    if one.service is not None:
        return ((GATEWAY, None),)
    if one.network is not None:
        return ((one.network, one.port),)
    return ((f"{address}/32", one.port) for address in found[one.host or ""])
