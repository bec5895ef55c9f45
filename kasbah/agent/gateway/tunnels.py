"""Envoy's tunnels, in JSON form: how a site that cannot be dialled takes what others send.

    the site that cannot be dialled                         the one that can
    dials, proves itself, and keeps the connection   --->   its peers' listener, asked for `tunnels`
    "tunnel" listener: TLS again, other way round    <---   "tunnel:" cluster, TLS   <---  hop  <---  "peer:" cluster

Envoy hands the connection over to its other end as it is: the first TLS ends there, and only the second, which the two
gateways speak through it, protects what is sent. So a tunnel that leads to the wrong site carries nothing.

The cluster of a tunnel has no endpoints until something is sent, and its health is not asked about; so it stands behind
a listener of its own, the hop, which is to the rest like any other site's gateway.
"""

from __future__ import annotations

from kasbah.agent.gateway import names, replies
from kasbah.agent.gateway.clusters import HTTP_OPTIONS, limits, socket_address
from kasbah.agent.gateway.listeners import (
    EXTENSIONS,
    GREETING,
    HTTP2_WINDOWS,
    PASSED_ON,
    ROUTER,
    inner_listener,
    listener_of,
    tls_inspector,
)
from kasbah.agent.gateway.peers import (
    DIAL_DEADLINE,
    LONG_WAY,
    PING,
    PING_DEADLINE,
    health_check,
    is_ip,
    peers_manager,
    speaks_http2,
    taking,
    tls,
    trust_secret,
)
from kasbah.agent.gateway.replies import Json
from kasbah.agent.gateway.wiring import Wiring
from kasbah.domain.crossing import Peer
from kasbah.domain.ids import SiteId

EACH = 2
"""Tunnels that each worker holds to a site."""
TENANT = "kasbah"
UNHEALTHY_CHECK = "1s"
"""Envoy writes a line to its log for each try to use a tunnel that is not there."""


def tunnel_cluster(peer: Peer) -> Json:
    """Whatever tunnel a site holds to this one."""
    kind = f"{EXTENSIONS}clusters.reverse_connection.v3.ReverseConnectionClusterConfig"
    keepalive = {"interval": PING, "timeout": PING_DEADLINE}
    return {
        "name": names.TUNNEL + peer.site,
        "connect_timeout": DIAL_DEADLINE,
        "lb_policy": "CLUSTER_PROVIDED",
        "circuit_breakers": limits(),
        "cluster_type": {
            "name": "envoy.clusters.reverse_connection",
            "typed_config": {"@type": kind, "cleanup_interval": "60s", "host_id_format": peer.site},
        },
        "transport_socket": tls("UpstreamTlsContext", trust_secret(peer.site), {"sni": peer.site}),
        "typed_extension_protocol_options": {
            HTTP_OPTIONS: speaks_http2({"connection_keepalive": keepalive, **LONG_WAY})
        },
    }


def hop_listener(peer: Peer, wiring: Wiring) -> Json:
    """The way into the tunnel. It repeats nothing, and tells how far a request came."""
    route = {"cluster": names.TUNNEL + peer.site, "timeout": "0s", "idle_timeout": "0s"}
    routes = [{"match": {"prefix": "/"}, "route": route}]
    hosts = [{"name": "tunnel", "domains": ["*"], "routes": routes}]
    manager = {
        "stat_prefix": "hop",
        "route_config": {"name": "hop", "virtual_hosts": hosts},
        "http_filters": [ROUTER],
        **PASSED_ON,
        "local_reply_config": {"mappers": replies.of_the_hop()},
    }
    return inner_listener(names.HOP + peer.site, wiring.hop_socket(peer.site), manager)


def hop_cluster(peer: Peer, wiring: Wiring) -> Json:
    """The way to the hop: to whoever tries sites in order, this is the site."""
    name = names.PEER + peer.site
    endpoint = {"endpoint": {"address": {"pipe": {"path": wiring.hop_socket(peer.site)}}}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": DIAL_DEADLINE,
        "circuit_breakers": limits(),
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "ignore_health_on_host_removal": True,
        "close_connections_on_host_health_failure": True,
        "health_checks": [health_check() | {"unhealthy_interval": UNHEALTHY_CHECK}],
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {HTTP_OPTIONS: speaks_http2(HTTP2_WINDOWS)},
    }


def taking_tunnels(listener: Json) -> Json:
    """The listener of other sites, where they may also leave tunnels."""
    return listener | {
        "listener_filters": [tls_inspector()],
        "listener_filters_timeout": GREETING,
        "filter_chains": [*listener["filter_chains"], _left()],
    }


def _left() -> Json:
    kind = f"{EXTENSIONS}filters.network.reverse_tunnel.v3.ReverseTunnel"
    config = {"@type": kind, "ping_interval": "2s", "auto_close_connections": False}
    return {
        "name": names.TUNNELS_HOST,
        "filter_chain_match": {"server_names": [names.TUNNELS_HOST]},
        "filters": [{"name": "envoy.filters.network.reverse_tunnel", "typed_config": config}],
        "transport_socket": tls(
            "DownstreamTlsContext", names.TRUST_SECRET, {"require_client_certificate": True}, alpn=()
        ),
    }


def dialled_cluster(peer: Peer) -> Json:
    """The way by which tunnels to a site are made."""
    name = names.DIALLED + peer.site
    endpoint = {"endpoint": {"address": socket_address(peer.address)}}
    return {
        "name": name,
        "type": "STATIC" if is_ip(peer.address) else "STRICT_DNS",
        "connect_timeout": DIAL_DEADLINE,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "transport_socket": tls("UpstreamTlsContext", trust_secret(peer.site), {"sni": names.TUNNELS_HOST}, alpn=()),
    }


def held_listener(peer: Peer, own: SiteId, site: str, wiring: Wiring) -> Json:
    """The end of the tunnels that this site holds to another: there it takes what that one sends."""
    dialled = {
        "address": f"rc://{own}:{TENANT}:{TENANT}@{names.DIALLED}{peer.site}:{EACH}",
        "port_value": 0,
        "resolver_name": "envoy.resolvers.reverse_connection",
    }
    manager = peers_manager(site, wiring)
    listener = listener_of(names.TUNNEL + peer.site, {"socket_address": dialled}, manager)
    return taking(listener | {"listener_filters_timeout": "0s"}, trust_secret(peer.site))
