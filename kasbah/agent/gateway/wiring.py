"""What the gateway's configuration needs to know of its own machine: sockets, logs, limits."""

from __future__ import annotations

from dataclasses import dataclass

from kasbah.domain.ids import SiteId
from kasbah.settings import DEFAULT_GATEWAY_CONNECTIONS, GATEWAY_MEMORY

HEADER_KILOBYTES = 96
"""The largest request header, in KiB, on both listeners; more is 431."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """Absolute paths of this agent's sockets and of Envoy's logs, Envoy's number of worker threads, the memory it may
    hold (bytes) and the callers' connections it takes. Tunnels are entered by sockets in the
    folder `hops`; other sites may leave some here, or this one leaves some there."""

    xds_socket: str
    gate_socket: str
    cold_socket: str
    patient_socket: str
    here_socket: str
    sources_socket: str
    handing_socket: str
    door_socket: str
    admin_socket: str
    access_log: str
    cold_log: str
    hops: str
    takes_tunnels: bool = False
    holds_tunnels: bool = False
    workers: int = 1
    memory: int = GATEWAY_MEMORY
    connections: int = DEFAULT_GATEWAY_CONNECTIONS

    def hop_socket(self, site: SiteId) -> str:
        """Where the tunnel to a site is entered."""
        return f"{self.hops}/h-{site}.sock"
