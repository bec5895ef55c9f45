"""What the agent's core needs from its other parts, as small protocols: so that it runs the same on simulated ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from kasbah.agent.build.launch import Built
from kasbah.agent.gateway.load import LoadReport
from kasbah.domain.gateway import Crossing, Endpoint, Gateway, Tls
from kasbah.domain.ids import Digest, ReplicaId, RevisionId
from kasbah.domain.revision import Revision


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


class SiteGateway(GatewayPort, Protocol):
    """The gateway, as the reconciler sees it."""

    listen: str
    inside: str

    @property
    def tls(self) -> Tls | None:
        """Where it speaks TLS, and for which names."""
        ...

    @property
    def crossing(self) -> Crossing | None:
        """How it meets those of other sites."""
        ...

    async def apply(self, gateway: Gateway) -> None:
        """Bring a description into force, endpoints apart."""
        ...


class Builds(Protocol):
    """Builds revisions; see `build/builder.py`."""

    def built(self, revision: Revision) -> Built | None: ...

    async def build(self, revision: Revision, *, cache: str, report: Callable[[str], None], log: Path) -> Built: ...

    async def remove(self, revision: RevisionId) -> None: ...


class Sources(Protocol):
    """The source bundles that are here; see `blobs.py`."""

    def has(self, digest: Digest) -> bool: ...


class Secrets(Protocol):
    """The secrets of a revision, by the variable that brings each; see `keyring.py`."""

    def environment(self, revision: Revision) -> Mapping[str, str]: ...

    def files(self, revision: Revision) -> Mapping[str, bytes]: ...


class Prober(Protocol):
    """Asks replicas whether they are well."""

    async def tcp(self, address: str, timeout: float) -> bool: ...

    async def http(self, address: str, path: str, timeout: float) -> bool: ...

    async def speaks_h2c_only(self, address: str, timeout: float) -> bool: ...


NewReplicaId = Callable[[], ReplicaId]
"""Draws a fresh replica id."""
