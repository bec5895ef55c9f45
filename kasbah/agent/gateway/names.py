"""Names shared by the parts of the gateway's configuration, and by those who read what Envoy reports.

No caller can name a cluster: routes name them. Only the cold listener's takes a name from a header, which the gate has
written over whatever was there.
"""

from __future__ import annotations

from kasbah.domain.revision import Protocol

GATEWAY_LISTENER = "gateway"
TLS_LISTENER = "tls"
COLD_LISTENER = "cold"
PATIENT_LISTENER = "patient"
"""Also the name of the cluster that leads to it."""
ROUTES = "services"
KEYS_FILTER = "kasbah.keys"

XDS_CLUSTER = "xds"
GATE_CLUSTER = "gate"
DOOR_CLUSTER = "door"
WOKEN_HTTP1 = "woken-http1"
WOKEN_H2C = "woken-h2c"
"""Where the cold listener sends a request to the replica that the gate named."""
LIMITED = "woken:"
"""The beginning of such a cluster's name for one revision, whose replicas have a hard limit."""

SERVICE_HEADER = "x-kasbah-service"
REVISION_HEADER = "x-kasbah-revision"
KEY_HEADER = "x-kasbah-key"
RETRY_HEADER = "x-kasbah-retry"
"""The cold listener's answer where a replica was lost: how far the request had come, one of the next two."""
UNSENT = "unsent"
UNANSWERED = "unanswered"
UPSTREAM_HEADER = "x-kasbah-upstream"
"""The gate's answer: the cluster that leads to the replica. Whatever a caller sends under this name is gone before."""
REPLICA_HEADER = "x-kasbah-replica"
"""The gate's answer: the replica's address, kept as metadata where no caller can write it."""
WAKE_HEADER = "x-kasbah-wake"
"""The gate's answer: the wake this request waited for."""


def woken_cluster(cluster: str, protocol: Protocol, *, limited: bool) -> str:
    """The cluster through which a request reaches a replica that the gate named."""
    if limited:
        return LIMITED + cluster
    return WOKEN_H2C if protocol is Protocol.H2C else WOKEN_HTTP1
