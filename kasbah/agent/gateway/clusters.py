"""Envoy's clusters and endpoints, in JSON form.

Behind a revision's replicas (priority 0) always stands the cold listener (priority 1): with no replica, or none that
answers, a request becomes a hold. Waking and falling asleep change endpoints only.
"""

from __future__ import annotations

from datetime import timedelta

from kasbah.agent.gateway import names
from kasbah.agent.gateway.listeners import ADS, EXTENSIONS, HTTP2_WINDOWS
from kasbah.agent.gateway.replies import Json
from kasbah.agent.gateway.wiring import Wiring
from kasbah.domain.gateway import Cluster, Endpoint
from kasbah.domain.revision import Protocol

PLENTY = 100_000
"""Envoy's own default limits (1,024 connections, 3 retries) would refuse what our queues have room for."""
HTTP1_IDLE = "1s"
"""Below the 2 to 5 s after which common servers close an idle connection: a request never meets one being closed."""
H2C_IDLE = "300s"
CONNECT_TIMEOUT = "1s"
HOST_KEPT = timedelta(hours=1)
"""How long Envoy remembers a replica that the gate named, under a hard limit."""
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def revision_cluster(cluster: Cluster) -> Json:
    """The cluster of a revision's replicas."""
    return {
        "name": cluster.name,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": ADS},
        "connect_timeout": CONNECT_TIMEOUT,
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": limits(),
        "typed_extension_protocol_options": _speaks(cluster.protocol),
    }


def endpoints(cluster: str, replicas: tuple[Endpoint, ...], cold_socket: str) -> Json:
    """Where a revision's requests go now. A draining replica keeps its place, so that what is in flight on it is
    still reported, and is given nothing new."""
    warm = [
        {
            "endpoint": {"address": socket_address(replica.address)},
            **({"health_status": "DRAINING"} if replica.draining else {}),
        }
        for replica in replicas
    ]
    cold = {"endpoint": {"address": {"pipe": {"path": cold_socket}}}}
    return {
        "cluster_name": cluster,
        "endpoints": [{"priority": 0, "lb_endpoints": warm}, {"priority": 1, "lb_endpoints": [cold]}],
    }


def own_clusters(wiring: Wiring) -> tuple[Json, ...]:
    """The clusters that are there from the start: the agent's sockets, and the way to replicas the gate named."""
    return (
        unix(names.XDS_CLUSTER, wiring.xds_socket, http2=True),
        unix(names.GATE_CLUSTER, wiring.gate_socket),
        unix(names.PATIENT_LISTENER, wiring.patient_socket, http2=True),
        unix(names.DOOR_CLUSTER, wiring.door_socket),
        _woken(names.WOKEN_HTTP1, Protocol.HTTP1),
        _woken(names.WOKEN_H2C, Protocol.H2C),
    )


def limited_cluster(cluster: Cluster, workers: int) -> Json:
    """The way to the replicas of a revision with a hard limit: no replica is given more, and a few wait in line.

    Over HTTP/1.1 a connection carries one request, so connections per replica bound it; over HTTP/2 it is one
    connection with so many streams. Each worker but the first may open one connection past the bound, so that none
    starves: the bound leaves room for that, down to one. A limit below the number of workers can be exceeded; with one
    worker none can. Envoy counts by replica only once it knows the replica, which the first request to it brings
    about, and forgets one that nobody asked for `HOST_KEPT`: the gate lets the first go alone.
    """
    hard = cluster.max_per_replica
    assert hard is not None
    h2c = cluster.protocol is Protocol.H2C
    streams = max(hard // workers, 1) if h2c else None
    limited = _woken(names.LIMITED + cluster.name, cluster.protocol, max_streams=streams)
    connections = 1 if h2c else max(hard - (workers - 1), 1)
    limited["cleanup_interval"] = f"{HOST_KEPT.total_seconds():.0f}s"
    limited["circuit_breakers"]["per_host_thresholds"] = [{"max_connections": connections}]
    return limited


def _woken(name: str, protocol: Protocol, *, max_streams: int | None = None) -> Json:
    metadata = {"key": "envoy.filters.http.ext_authz", "path": [{"key": names.REPLICA_HEADER}]}
    return {
        "name": name,
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "original_dst_lb_config": {"metadata_key": metadata},
        "connect_timeout": CONNECT_TIMEOUT,
        "circuit_breakers": limits(),
        "typed_extension_protocol_options": _speaks(protocol, max_streams),
    }


def unix(name: str, path: str, *, http2: bool = False) -> Json:
    """The way to what listens on a Unix socket."""
    cluster: Json = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": CONNECT_TIMEOUT,
        "circuit_breakers": limits(),
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": path}}}}]}],
        },
    }
    if http2:
        cluster["typed_extension_protocol_options"] = _speaks(Protocol.H2C)
    return cluster


def limits() -> Json:
    """None of Envoy's own."""
    kinds = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {"thresholds": [dict.fromkeys(kinds, PLENTY)]}


def _speaks(protocol: Protocol, max_streams: int | None = None) -> Json:
    h2c = protocol is Protocol.H2C
    streams = {} if max_streams is None else {"max_concurrent_streams": max_streams}
    options: Json = {"http2_protocol_options": HTTP2_WINDOWS | streams} if h2c else {"http_protocol_options": {}}
    return {
        HTTP_OPTIONS: {
            "@type": f"{EXTENSIONS}upstreams.http.v3.HttpProtocolOptions",
            "common_http_protocol_options": {"idle_timeout": H2C_IDLE if h2c else HTTP1_IDLE},
            "explicit_http_config": options,
        }
    }


def socket_address(address: str) -> Json:
    """`HOST:PORT` as Envoy has it."""
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}
