"""What the gateway's configuration needs to know of its own machine: sockets, logs, limits."""

from __future__ import annotations

from dataclasses import dataclass

from kasbah.settings import DEFAULT_GATEWAY_CONNECTIONS, GATEWAY_MEMORY

HEADER_KILOBYTES = 96
"""The largest request header, in KiB, on both listeners; more is 431."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """Absolute paths of this agent's sockets and of Envoy's logs, Envoy's number of worker threads, the memory it may
    hold (bytes) and the callers' connections it takes."""

    xds_socket: str
    gate_socket: str
    cold_socket: str
    patient_socket: str
    door_socket: str
    admin_socket: str
    access_log: str
    cold_log: str
    workers: int = 1
    memory: int = GATEWAY_MEMORY
    connections: int = DEFAULT_GATEWAY_CONNECTIONS
