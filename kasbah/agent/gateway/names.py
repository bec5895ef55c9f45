"""Names shared by the parts of the gateway's configuration, and by those who read what Envoy reports.

No caller can name a cluster: routes name them. Only the cold listener's takes a name from a header, which the gate has
written over whatever was there.
"""

from __future__ import annotations

from kasbah.domain.revision import Protocol

GATEWAY_LISTENER = "gateway"
TLS_LISTENER = "tls"
COLD_LISTENER = "cold"
PEERS_LISTENER = "peers"
"""Where other sites send what they do not serve. Also the name of its routes."""
HERE_LISTENER = "here"
"""Where this site asks itself for what it may ask others for too. Also the name of its cluster and routes."""
PATIENT_LISTENER = "patient"
"""Also the name of the cluster that leads to it."""
ROUTES = "services"
INSIDE = "inside"
"""What replicas may ask for: the name of that table, and of the chain that is chosen for who comes from their network.
"""
KEYS_FILTER = "kasbah.keys"
HEADERS_FILTER = "kasbah.headers"
CUT = "kasbah.cut"
"""What a listener's chains say of themselves: since when they are, so that those of before end with what they carry."""
ENTRIES_FILTER = "envoy.filters.http.rbac"
"""Which sites may send requests for a service."""

XDS_CLUSTER = "xds"
GATE_CLUSTER = "gate"
DOOR_CLUSTER = "door"
WOKEN_HTTP1 = "woken-http1"
WOKEN_H2C = "woken-h2c"
"""Where the cold listener sends a request to the replica that the gate named."""
LIMITED = "woken:"
"""The beginning of such a cluster's name for one revision, whose replicas have a hard limit."""

PEER = "peer:"
"""The beginning of the name of the cluster that leads to another site's gateway."""
ACROSS = "across:"
"""The beginning of such a name for several sites, tried in order. No slash: usage is counted where it is served."""
TUNNEL = "tunnel:"
"""The beginning of the names of a tunnel's two ends: the cluster at the one that sends, the listener at the other."""
HOP = "hop:"
DIALLED = "dialled-"
"""The beginning of the name of the cluster by which tunnels are made. No colon: it is written between colons."""
TUNNELS_HOST = "tunnels"
"""Who asks the listener of other sites for this host leaves a tunnel there."""
SOURCES = "sources"
"""Where this site's agent asks other sites for sources: the name of that listener, of its routes, and of the host that
is asked at the other site."""
HANDING_CLUSTER = "handing"
"""The way to the agent, who hands sources to other sites."""
IDENTITY_SECRET = "kasbah/identity"
TRUST_SECRET = "kasbah/trust"
"""What proves this site to others, and the others to it. No host has a slash: certificates of hosts are apart."""

SITE_HEADER = "x-kasbah-site"
"""The answer's: the name of the site that gave it."""
DECISION_HEADER = "x-kasbah-decision"
"""The answer's: what was decided about where such requests may go."""
ENTRY_HEADER = "x-kasbah-entry"
"""The request's, where it crosses: the site at which its caller came, by its certificate once it has crossed."""
AUTHORIZATION_HEADER = "x-kasbah-authorization"
"""Carries the caller's `authorization` past the filter of keys, which takes it away, to the other site's."""
SERVICE_HEADER = "x-kasbah-service"
REVISION_HEADER = "x-kasbah-revision"
KEY_HEADER = "x-kasbah-key"
RETRY_HEADER = "x-kasbah-retry"
"""The cold listener's answer where a replica was lost: how far the request had come, one of the next two."""
UNSENT = "unsent"
UNANSWERED = "unanswered"
LOST = "lost"
"""A hop's answer: the site at the other end of the tunnel is gone, as where a connection to one breaks."""
REFUSED_HEADER = "x-kasbah-refused"
"""The gate's answer where it lets a request go to no replica of this site: another site may have it."""
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
