"""What a unit needs from the rest of the agent, as small protocols: so that it runs the same on simulated parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kasbah.agent.gateway.load import LoadReport
from kasbah.domain.gateway import Endpoint
from kasbah.domain.ids import ReplicaId


class GatewayPort(Protocol):
    """The gateway, as those who wake and put to sleep see it."""

    def set_endpoints(self, cluster: str, endpoints: tuple[Endpoint, ...]) -> int:
        """Change where a cluster's requests go; answers a serial number for `settled`."""
        ...

    async def settled(self, serial: int) -> None:
        """Wait until the gateway acts on the change with this number."""
        ...

    async def report_after(self, number: int) -> LoadReport:
        """The first load report with a greater number."""
        ...

    @property
    def last_report(self) -> LoadReport:
        """The latest load report."""
        ...


class Prober(Protocol):
    """Asks replicas whether they are well."""

    async def tcp(self, address: str, timeout: float) -> bool: ...

    async def http(self, address: str, path: str, timeout: float) -> bool: ...

    async def speaks_h2c_only(self, address: str, timeout: float) -> bool: ...


NewReplicaId = Callable[[], ReplicaId]
"""Draws a fresh replica id."""
