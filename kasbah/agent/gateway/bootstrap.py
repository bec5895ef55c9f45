"""Envoy's bootstrap: what it must know before it can ask the agent for anything. It changes only between versions."""

from __future__ import annotations

from kasbah.agent.gateway import names
from kasbah.agent.gateway.clusters import own_clusters
from kasbah.agent.gateway.listeners import ADS, EXTENSIONS
from kasbah.agent.gateway.replies import Json
from kasbah.agent.gateway.wiring import Wiring

REDIAL = {"base_interval": "0.1s", "max_interval": "1s"}
"""How soon an agent that comes back is asked again: by itself Envoy waits up to half a minute."""
HEAP_SHRINKS, KEEPALIVE_ENDS, REQUESTS_END, CONNECTIONS_END = 0.85, 0.92, 0.95, 0.98
"""Parts of the memory that the gateway may hold, at which it gives something up."""


def bootstrap(wiring: Wiring) -> Json:
    """The bootstrap in JSON form. The admin page is on a private Unix socket."""
    dial = {"cluster_name": names.XDS_CLUSTER, "retry_policy": {"retry_back_off": REDIAL}}
    agent = {"grpc_services": [{"envoy_grpc": dial}], "transport_api_version": "V3"}
    return {
        "node": {"id": "gateway", "cluster": "kasbah"},
        "admin": {
            "address": {"pipe": {"path": wiring.admin_socket, "mode": 0o600}},
            "ignore_global_conn_limit": True,
        },
        "overload_manager": _overload(wiring),
        "dynamic_resources": {
            "ads_config": {"api_type": "DELTA_GRPC", **agent},
            "cds_config": ADS,
            "lds_config": ADS,
        },
        "cluster_manager": {"load_stats_config": {"api_type": "GRPC", **agent}},
        "static_resources": {"clusters": list(own_clusters(wiring))},
        "bootstrap_extensions": _tunnels(wiring),
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": [
            {"prefix": "server."}, {"prefix": "overload."},
             {"prefix": "cluster_manager."}, {"prefix": "listener_manager."}, {"prefix": "http."},
        ]}}},
    }  # fmt: skip


def _tunnels(wiring: Wiring) -> list[Json]:
    """What either end of a tunnel needs: a socket that was dialled from the other side."""
    kinds: list[tuple[str, str, Json]] = []
    if wiring.takes_tunnels:
        kinds.append(("upstream", "UpstreamReverseConnectionSocketInterface", {}))
    if wiring.holds_tunnels:
        again = {"max_reconnect_backoff": REDIAL["max_interval"], "maintain_interval": REDIAL["max_interval"]}
        kinds.append(("downstream", "DownstreamReverseConnectionSocketInterface", again))
    return [
        {
            "name": f"envoy.bootstrap.reverse_tunnel.{side}_socket_interface",
            "typed_config": {
                "@type": f"{EXTENSIONS}bootstrap.reverse_tunnel.{side}_socket_interface.v3.{kind}",
                "stat_prefix": "tunnels",
                **more,
            },
        }
        for side, kind, more in kinds
    ]


def _overload(wiring: Wiring) -> Json:
    """What is given up as memory fills, in this order, rather than everything by the kernel's hand: what is cached,
    idle connections, then new requests (503), then new connections. Past `connections`, callers are refused as they
    connect; those who are there notice nothing."""
    steps = (
        ("shrink_heap", HEAP_SHRINKS),
        ("disable_http_keepalive", KEEPALIVE_ENDS),
        ("stop_accepting_requests", REQUESTS_END),
        ("stop_accepting_connections", CONNECTIONS_END),
    )
    heap = "envoy.resource_monitors.fixed_heap"
    callers = "envoy.resource_monitors.global_downstream_max_connections"
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            _monitor(heap, "fixed_heap.v3.FixedHeapConfig", "max_heap_size_bytes", wiring.memory),
            _monitor(
                callers,
                "downstream_connections.v3.DownstreamConnectionsConfig",
                "max_active_downstream_connections",
                wiring.connections,
            ),
        ],
        "actions": [
            {
                "name": f"envoy.overload_actions.{action}",
                "triggers": [{"name": heap, "threshold": {"value": part}}],
            }
            for action, part in steps
        ],
    }


def _monitor(name: str, kind: str, limit: str, value: int) -> Json:
    return {"name": name, "typed_config": {"@type": f"{EXTENSIONS}resource_monitors.{kind}", limit: value}}
