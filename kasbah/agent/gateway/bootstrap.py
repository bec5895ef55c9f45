"""Envoy's bootstrap: what it must know before it can ask the agent for anything. It changes only between versions."""

from __future__ import annotations

from kasbah.agent.gateway import names
from kasbah.agent.gateway.clusters import own_clusters
from kasbah.agent.gateway.listeners import ADS, Json
from kasbah.agent.gateway.wiring import Wiring

REDIAL = {"base_interval": "0.1s", "max_interval": "1s"}
"""How soon an agent that comes back is asked again: by itself Envoy waits up to half a minute."""


def bootstrap(wiring: Wiring) -> Json:
    """The bootstrap in JSON form. The admin page is on a private Unix socket."""
    dial = {"cluster_name": names.XDS_CLUSTER, "retry_policy": {"retry_back_off": REDIAL}}
    agent = {"grpc_services": [{"envoy_grpc": dial}], "transport_api_version": "V3"}
    return {
        "node": {"id": "gateway", "cluster": "kasbah"},
        "admin": {"address": {"pipe": {"path": wiring.admin_socket, "mode": 0o600}}},
        "dynamic_resources": {
            "ads_config": {"api_type": "DELTA_GRPC", **agent},
            "cds_config": ADS,
            "lds_config": ADS,
        },
        "cluster_manager": {"load_stats_config": {"api_type": "GRPC", **agent}},
        "static_resources": {"clusters": list(own_clusters(wiring))},
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": [
            {"prefix": "server."}, {"prefix": "cluster_manager."}, {"prefix": "listener_manager."}, {"prefix": "http."},
        ]}}},
    }  # fmt: skip
