"""Envoy's way to other sites and theirs to this one, in JSON form: clusters, the listener, and what proves who is who.

There is one cluster for each other site's gateway, whatever runs there: its health, its certificate and its connections
are asked about once. A service that may go to several has a cluster above these, which tries them in order.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Sequence

from kasbah.agent.gateway import names, replies
from kasbah.agent.gateway.across import admitted_filter, cluster_across, entries_filter
from kasbah.agent.gateway.clusters import HTTP_OPTIONS, limits, socket_address
from kasbah.agent.gateway.listeners import (
    ADS,
    EXTENSIONS,
    GATEWAY_LOG,
    GREETING,
    HTTP2_WINDOWS,
    PASSED_ON,
    PEERS_LOG,
    ROUTER,
    WEBSOCKET,
    access_log,
    address_of,
    headers_filter,
    inner_listener,
    keys_filter,
    listener_of,
    strip_our_headers,
)
from kasbah.agent.gateway.replies import Json
from kasbah.agent.gateway.wiring import Wiring
from kasbah.domain.crossing import Peer
from kasbah.domain.ids import SiteId

CHECK, CHECK_DEADLINE, FAILED_CHECKS = "0.2s", "0.25s", 2
"""A site that hangs is out within two of these, 0.9 s; one that refuses connections, within milliseconds."""
RESTING_CHECK = "1s"
"""While nothing was ever sent there."""
PING, PING_DEADLINE = "0.5s", "0.4s"
"""On connections in use: frees what waits for a site that hangs, so that it can go to another."""
DIAL_DEADLINE = "1s"
EJECTED = "2s"
HEALTH_PATH = "/kasbah/health"
LONG_WAY = {"initial_stream_window_size": 2**20, "initial_connection_window_size": 2**24}
"""What may be on its way between two sites unread: one connection carries many requests, over long distances."""
STREAMS = 1_000
GREETED_ANEW: dict[str, Json] = {
    "DownstreamTlsContext": {"disable_stateless_session_resumption": True, "disable_stateful_session_resumption": True},
    "UpstreamTlsContext": {"max_session_keys": 0},
}
"""Each connection is greeted in full: one that takes up an earlier greeting shows a certificate that is not looked at
again, and may have run out since."""
GREETED_EVERY = "3600s"
"""What is asked for later than that comes on a connection greeted anew, with the certificate that its other end has
then; what has begun is finished."""
WHOLE = 65_536
"""Bytes: an answer that says that it is no longer is passed on whole. Until then nothing of it was, and if its site is
lost the next may give it; what is longer, or does not say how long it is, is passed on as it comes."""
WAIT_UNTIL_WHOLE = f"""
function envoy_on_response(answer)
  local length = tonumber(answer:headers():get("content-length"))
  if length and length <= {WHOLE} then answer:body(true) end
end
"""
NOBODY = "spiffe://nobody"
"""The only identity trusted where none is: an empty list would trust every certificate of the authority."""


def peer_cluster(peer: Peer) -> Json:
    """The way to another site's gateway."""
    name = names.PEER + peer.site
    endpoint = {"endpoint": {"address": socket_address(peer.address)}}
    keepalive = {"interval": PING, "timeout": PING_DEADLINE}
    return {
        "name": name,
        "type": "STATIC" if is_ip(peer.address) else "STRICT_DNS",
        "connect_timeout": DIAL_DEADLINE,
        "circuit_breakers": limits(),
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "ignore_health_on_host_removal": True,
        "close_connections_on_host_health_failure": True,
        "health_checks": [health_check()],
        "outlier_detection": _outliers(),
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "transport_socket": tls("UpstreamTlsContext", trust_secret(peer.site), {"sni": peer.site}),
        "typed_extension_protocol_options": {
            HTTP_OPTIONS: speaks_http2({"connection_keepalive": keepalive, **LONG_WAY})
        },
    }


def cluster_of(ways: Sequence[str]) -> Json:
    """The cluster that tries these in order: the first that is healthy has everything."""
    config = {"@type": f"{EXTENSIONS}clusters.aggregate.v3.ClusterConfig", "clusters": list(ways)}
    return {
        "name": cluster_across(ways),
        "connect_timeout": DIAL_DEADLINE,
        "lb_policy": "CLUSTER_PROVIDED",
        "circuit_breakers": limits(),
        "cluster_type": {"name": "envoy.clusters.aggregate", "typed_config": config},
        "typed_extension_protocol_options": {HTTP_OPTIONS: speaks_http2({}) | {"http_filters": _whole_answers()}},
    }


def _whole_answers() -> list[Json]:
    """What is between the choice of a site and its answer."""
    wait = {"@type": f"{EXTENSIONS}filters.http.lua.v3.Lua", "default_source_code": {"inline_string": WAIT_UNTIL_WHOLE}}
    codec = {"@type": f"{EXTENSIONS}filters.http.upstream_codec.v3.UpstreamCodec"}
    return [
        {"name": "kasbah.whole_answers", "typed_config": wait},
        {"name": "envoy.filters.http.upstream_codec", "typed_config": codec},
    ]


def peers_listener(address: str, site: str, wiring: Wiring) -> Json:
    """Where other sites send what they do not serve."""
    listener = listener_of(names.PEERS_LISTENER, address_of(address), peers_manager(site, wiring))
    return taking(listener, names.TRUST_SECRET)


def taking(listener: Json, trusted: str) -> Json:
    """This listener, where only those who prove to be trusted are listened to; others are refused as they greet."""
    (chain,) = listener["filter_chains"]
    chain["transport_socket"] = tls("DownstreamTlsContext", trusted, {"require_client_certificate": True})
    chain["transport_socket_connect_timeout"] = GREETING
    return listener


def peers_manager(site: str, wiring: Wiring) -> Json:
    """What is done with what other sites send. Where a request came from is what a certificate says, and no header."""
    admission = (entries_filter(), admitted_filter())
    return {
        "stat_prefix": names.PEERS_LISTENER,
        "rds": {"route_config_name": names.PEERS_LISTENER, "config_source": ADS},
        "http_filters": [_health_filter(), headers_filter(site), *admission, keys_filter(), ROUTER],
        "early_header_mutation_extensions": [strip_our_headers()],
        "use_remote_address": True,
        "xff_num_trusted_hops": 1,
        "preserve_external_request_id": True,
        "server_header_transformation": "PASS_THROUGH",
        "stream_idle_timeout": "0s",
        "request_headers_timeout": "60s",
        "common_http_protocol_options": {"max_connection_duration": GREETED_EVERY},
        "upgrade_configs": [WEBSOCKET],
        "http2_protocol_options": {"allow_connect": True, "max_concurrent_streams": STREAMS, **LONG_WAY},
        "local_reply_config": {"mappers": replies.of_the_peers()},
        "access_log": [access_log(wiring.access_log, PEERS_LOG) | {"filter": {"not_health_check_filter": {}}}],
    }


def here_listener(site: str, wiring: Wiring) -> Json:
    """Where this site's gateway asks itself, as it asks others, for what it may ask others for too."""
    manager = {
        "stat_prefix": names.HERE_LISTENER,
        "rds": {"route_config_name": names.HERE_LISTENER, "config_source": ADS},
        "http_filters": [headers_filter(site), keys_filter(), ROUTER],
        "early_header_mutation_extensions": [strip_our_headers()],
        **PASSED_ON,
        "local_reply_config": {"mappers": replies.of_itself()},
        "access_log": [access_log(wiring.access_log, GATEWAY_LOG)],
    }
    return inner_listener(names.HERE_LISTENER, wiring.here_socket, manager)


def here_cluster(wiring: Wiring) -> Json:
    """The way there."""
    endpoint = {"endpoint": {"address": {"pipe": {"path": wiring.here_socket}}}}
    return {
        "name": names.HERE_LISTENER,
        "type": "STATIC",
        "connect_timeout": DIAL_DEADLINE,
        "circuit_breakers": limits(),
        "load_assignment": {"cluster_name": names.HERE_LISTENER, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {HTTP_OPTIONS: speaks_http2(HTTP2_WINDOWS)},
    }


def trust_secret(site: SiteId) -> str:
    """The name of what proves that another site's gateway is that site's."""
    return f"{names.TRUST_SECRET}/{site}"


def trust(name: str, authority: bytes, peers: Sequence[Peer]) -> Json:
    """These sites and no others, as their installation's authority vouches for them; where the key of any is known,
    only those whose key is: the authority's word alone would stand for each of them."""
    peers = [one for one in peers if one.key] or peers
    named = [{"san_type": "URI", "matcher": {"exact": one}} for one in [one.identity for one in peers] or [NOBODY]]
    context: Json = {"trusted_ca": _inline(authority), "match_typed_subject_alt_names": named}
    if peers and peers[0].key:
        context["verify_certificate_spki"] = [base64.b64encode(bytes.fromhex(one.key)).decode() for one in peers]
    return {"name": name, "validation_context": context}


def identity(chain: bytes, key: bytes) -> Json:
    """What proves this site to others."""
    proof = {"certificate_chain": _inline(chain), "private_key": _inline(key)}
    return {"name": names.IDENTITY_SECRET, "tls_certificate": proof}


def _inline(pem: bytes) -> Json:
    return {"inline_bytes": base64.b64encode(pem).decode()}


def tls(kind: str, trusted: str, more: Json, *, alpn: tuple[str, ...] = ("h2",)) -> Json:
    """TLS 1.3 alone, both ways: Envoy's own maximum for what it dials is 1.2."""
    context = {
        "@type": f"{EXTENSIONS}transport_sockets.tls.v3.{kind}",
        "common_tls_context": {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "alpn_protocols": list(alpn),
            "tls_certificate_sds_secret_configs": [{"name": names.IDENTITY_SECRET, "sds_config": ADS}],
            "validation_context_sds_secret_config": {"name": trusted, "sds_config": ADS},
        },
        **GREETED_ANEW[kind],
        **more,
    }
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def health_check() -> Json:
    """How another site's gateway is asked whether it is well."""
    asked = {"host": names.PEERS_LISTENER, "path": HEALTH_PATH, "codec_client_type": "HTTP2"}
    return {
        "timeout": CHECK_DEADLINE,
        "interval": CHECK,
        "no_traffic_interval": RESTING_CHECK,
        "no_traffic_healthy_interval": RESTING_CHECK,
        "unhealthy_threshold": FAILED_CHECKS,
        "healthy_threshold": 1,
        "http_health_check": asked,
    }


def _health_filter() -> Json:
    path = {"name": ":path", "string_match": {"exact": HEALTH_PATH}}
    kind = f"{EXTENSIONS}filters.http.health_check.v3.HealthCheck"
    config = {"@type": kind, "pass_through_mode": False, "headers": [path]}
    return {"name": "envoy.filters.http.health_check", "typed_config": config}


def _outliers() -> Json:
    """Connections that fail, and those alone: what a service answers says nothing of its site's gateway."""
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": FAILED_CHECKS,
        "enforcing_consecutive_local_origin_failure": 100,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "enforcing_local_origin_success_rate": 0,
        "interval": "0.5s",
        "base_ejection_time": EJECTED,
        "max_ejection_time": EJECTED,
        "max_ejection_percent": 100,
    }


def speaks_http2(more: Json) -> Json:
    """One connection for many requests, WebSockets included."""
    return {
        "@type": f"{EXTENSIONS}upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"idle_timeout": "300s"},
        "explicit_http_config": {"http2_protocol_options": {"allow_connect": True, **more}},
    }


def is_ip(address: str) -> bool:
    """Whether `HOST:PORT` names no host that must be looked up."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
