"""Envoy's listeners, in JSON form: the gateway that callers reach, without TLS and with, the cold one where requests
wait, the patient one.

The cold listener is behind the gateway, on a Unix socket: its ext_authz asks the gate, which answers when a replica is
ready; then the request, which Envoy held all the while, goes to the replica that the answer named. It asks by way of
the patient listener, which asks again, often and evenly, for as long as there is no agent to answer.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

from kasbah.agent.gateway import names, replies
from kasbah.agent.gateway.replies import Json
from kasbah.agent.gateway.wiring import HEADER_KILOBYTES, Wiring

TYPE = "type.googleapis.com/"
EXTENSIONS = f"{TYPE}envoy.extensions."
CONNECTION_BUFFER = 65_536
"""Per connection, so that a thousand held uploads cost megabytes and not gigabytes."""
HTTP2_WINDOWS = {"initial_stream_window_size": 2**18, "initial_connection_window_size": 2**20}
"""What a peer may send ahead of being read, for the same reason: Envoy would let it send 16 MiB a stream."""
GREETING = "15s"
"""How long a caller may take to say which host it wants, and to agree on TLS."""
LONGEST_HOLD = "3600s"
"""Above any deadline a service can set for its start: the gate itself ends a hold in time."""

LONGEST_PAUSE = "0.5s"
"""So much later, at the most, a new agent is asked about what waited for it: half of that on average."""
ASKED_AGAIN = 480
"""About two minutes without an agent; then who waits is told that this site cannot wake services."""

ADS: Json = {"ads": {}, "resource_api_version": "V3"}
ROUTER: Json = {
    "name": "envoy.filters.http.router",
    "typed_config": {"@type": f"{EXTENSIONS}filters.http.router.v3.Router", "suppress_envoy_headers": True},
}
WEBSOCKET: Json = {"upgrade_type": "websocket"}
PASSED_ON: Json = {
    "generate_request_id": False,
    "skip_xff_append": True,
    "server_header_transformation": "PASS_THROUGH",
    "stream_idle_timeout": "0s",
    "upgrade_configs": [WEBSOCKET],
    "http2_protocol_options": {"allow_connect": True, "max_concurrent_streams": 10_000, **HTTP2_WINDOWS},
}
"""How requests are taken that another listener of ours has taken already: as they are."""


def gateway_listener(address: str, site: str, wiring: Wiring, inside: str = "") -> Json:
    """The listener callers reach. Replicas, who come from the network `inside`, are shown a table of their own."""
    listener = listener_of(names.GATEWAY_LISTENER, address_of(address), _gateway_manager(site, wiring))
    if not inside:
        return listener
    others = listener_of(names.INSIDE, address_of(address), _gateway_manager(site, wiring, names.INSIDE))
    where, _, bits = inside.partition("/")
    match = {"source_prefix_ranges": [{"address_prefix": where, "prefix_len": int(bits)}]}
    (chain,) = others["filter_chains"]
    own = chain | {"name": names.INSIDE, "filter_chain_match": match}
    return listener | {"filter_chains": [own, *listener["filter_chains"]]}


def tls_listener(address: str, hosts: Iterable[str], site: str, wiring: Wiring) -> Json:
    """The same with TLS, for those who ask for one of these hosts; others are refused as they greet.

    Each host has a chain and a secret of its own, so that a host that comes or goes touches no connection to another.
    """
    listener = listener_of(names.TLS_LISTENER, address_of(address), _gateway_manager(site, wiring))
    (plain,) = listener["filter_chains"]
    return listener | {
        "listener_filters": [tls_inspector()],
        "listener_filters_timeout": GREETING,
        "filter_chains": [plain | _tls_chain(host) for host in sorted(hosts)],
    }


def _gateway_manager(site: str, wiring: Wiring, table: str = names.ROUTES) -> Json:
    return {
        "stat_prefix": names.GATEWAY_LISTENER,
        "rds": {"route_config_name": table, "config_source": ADS},
        "http_filters": [headers_filter(site), keys_filter(), ROUTER],
        "early_header_mutation_extensions": [strip_our_headers()],
        "use_remote_address": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "server_header_transformation": "APPEND_IF_ABSENT",
        "server_name": "kasbah",
        "stream_idle_timeout": "0s",
        "request_headers_timeout": "60s",
        "upgrade_configs": [WEBSOCKET],
        "http_protocol_options": {"accept_http_10": True},
        "http2_protocol_options": {"allow_connect": True, "max_concurrent_streams": 1_000, **HTTP2_WINDOWS},
        "local_reply_config": {"mappers": replies.of_the_gateway()},
        "access_log": [access_log(wiring.access_log, GATEWAY_LOG)],
    }


def address_of(address: str) -> Json:
    """Where a listener listens, from `HOST:PORT`."""
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}


def tls_inspector() -> Json:
    """Finds out which host is asked for, before TLS is agreed on."""
    kind = f"{EXTENSIONS}filters.listener.tls_inspector.v3.TlsInspector"
    return {"name": "envoy.filters.listener.tls_inspector", "typed_config": {"@type": kind}}


def _tls_chain(host: str) -> Json:
    """What a host's chain has beside the filters: when it is chosen, and the certificate, which comes by SDS."""
    tls = {
        "@type": f"{EXTENSIONS}transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificate_sds_secret_configs": [{"name": host, "sds_config": ADS}],
        },
    }
    return {
        "name": host,
        "filter_chain_match": {"server_names": [host]},
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
        "transport_socket_connect_timeout": GREETING,
    }


def certificate(host: str, chain: bytes, key: bytes) -> Json:
    """A host's certificate, with its key."""
    inline = {"certificate_chain": chain, "private_key": key}
    encoded = {name: {"inline_bytes": base64.b64encode(pem).decode()} for name, pem in inline.items()}
    return {"name": host, "tls_certificate": encoded}


def cold_listener(wiring: Wiring) -> Json:
    """The listener where requests for services that sleep wait."""
    manager = {
        "stat_prefix": names.COLD_LISTENER,
        "route_config": {"name": names.COLD_LISTENER, "virtual_hosts": [_woken_routes()]},
        "http_filters": [_gate_filter(), ROUTER],
        **PASSED_ON,
        "local_reply_config": {"mappers": replies.of_the_cold()},
        "access_log": [access_log(wiring.cold_log, COLD_LOG)],
    }
    return inner_listener(names.COLD_LISTENER, wiring.cold_socket, manager)


def patient_listener(wiring: Wiring) -> Json:
    """The way from the cold listener to the gate. The filter that asks there cannot be patient itself: the longest
    pause between its tries is the deadline of each try too, so that what is held long is asked again late."""
    route = {
        "match": {"prefix": "/"},
        "route": {
            "cluster": names.GATE_CLUSTER,
            "timeout": "0s",
            "idle_timeout": "0s",
            "retry_policy": {
                "retry_on": "connect-failure,refused-stream,reset",
                "num_retries": ASKED_AGAIN,
                "retry_back_off": {"base_interval": "0.025s", "max_interval": LONGEST_PAUSE},
            },
        },
    }
    hosts = [{"name": names.GATE_CLUSTER, "domains": ["*"], "routes": [route]}]
    manager = {
        "stat_prefix": names.PATIENT_LISTENER,
        "route_config": {"name": names.PATIENT_LISTENER, "virtual_hosts": hosts},
        "http_filters": [ROUTER],
        "generate_request_id": False,
        "skip_xff_append": True,
        "server_header_transformation": "PASS_THROUGH",
        "stream_idle_timeout": "0s",
        "http2_protocol_options": {"max_concurrent_streams": 10_000},
    }
    return inner_listener(names.PATIENT_LISTENER, wiring.patient_socket, manager)


def inner_listener(name: str, socket: str, manager: Json) -> Json:
    """One for Envoy itself. Who holds on here was counted among the callers already."""
    listener = listener_of(name, {"pipe": {"path": socket, "mode": 0o600}}, manager)
    return listener | {"ignore_global_conn_limit": True}


def listener_of(name: str, address: Json, manager: Json) -> Json:
    """A listener whose one chain is this HTTP connection manager."""
    manager = {
        "@type": f"{EXTENSIONS}filters.network.http_connection_manager.v3.HttpConnectionManager",
        "max_request_headers_kb": HEADER_KILOBYTES,
        **manager,
    }
    return {
        "name": name,
        "address": address,
        "per_connection_buffer_limit_bytes": CONNECTION_BUFFER,
        "tcp_backlog_size": 4_096,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def since(cut: str, listener: Json) -> Json:
    """The same, with connections of its own since that cut. Envoy lets those that chains of before have finish for two
    seconds (`--drain-time-s`), and ends them."""
    if not cut or "pipe" in listener["address"]:
        return listener
    marked = {"filter_metadata": {names.CUT: {"since": cut}}}
    return listener | {"filter_chains": [chain | {"metadata": marked} for chain in listener["filter_chains"]]}


def headers_filter(site: str) -> Json:
    """What every answer says, the gateway's own included: which sites it passed, the one that gave it first, and how
    many milliseconds after the request had come to each.

    It comes first, so that it sees the answers of the filters behind it.
    """
    name = re.sub(r"[^\w.:-]", "-", site, flags=re.ASCII)
    return {
        "name": names.HEADERS_FILTER,
        "typed_config": {
            "@type": f"{EXTENSIONS}filters.http.header_mutation.v3.HeaderMutation",
            "mutations": {
                "response_mutations": [
                    set_header(names.SITE_HEADER, name, "ADD_IF_ABSENT"),
                    set_header("server-timing", f'gateway;desc="{name}";dur=%DURATION%', "APPEND_IF_EXISTS_OR_ADD"),
                ]
            },
        },
    }


def headers_of(request: dict[str, str], decision: str) -> Json:
    """What that filter does besides, for one service: sets headers of the request, and says what was decided."""
    said = [set_header(names.DECISION_HEADER, decision, "ADD_IF_ABSENT")] if decision else []
    return {
        "@type": f"{EXTENSIONS}filters.http.header_mutation.v3.HeaderMutationPerRoute",
        "mutations": {
            "request_mutations": [set_header(name, value) for name, value in request.items()],
            "response_mutations": said,
        },
    }


def set_header(name: str, value: str, action: str = "OVERWRITE_IF_EXISTS_OR_ADD") -> Json:
    """A mutation that sets a header, whatever it was unless said otherwise."""
    return {"append": {"header": {"key": name, "value": value}, "append_action": action}}


def keys_filter() -> Json:
    """Comes by ECDS, so that a key made or revoked changes one filter and drains no listener."""
    return {
        "name": names.KEYS_FILTER,
        "config_discovery": {"config_source": ADS, "type_urls": [f"{EXTENSIONS}filters.http.lua.v3.Lua"]},
    }


def strip_our_headers() -> Json:
    """What a caller sends in our name is gone before anything reads it; with underscores too, which many frameworks
    take for dashes."""
    ours = {"safe_regex": {"regex": "x[-_](kasbah|envoy)[-_].*"}}
    return {
        "name": "kasbah.strip",
        "typed_config": {
            "@type": f"{EXTENSIONS}http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": [{"remove_on_match": {"key_matcher": ours}}],
        },
    }


def _gate_filter() -> Json:
    """Over HTTP, and by way of the patient listener, because that carries a hold across a restart of the agent."""
    exact = [{"exact": name} for name in (names.REPLICA_HEADER, names.WAKE_HEADER)]
    told = [{"exact": name} for name in ("content-type", "retry-after", names.REFUSED_HEADER)]
    return {
        "name": "envoy.filters.http.ext_authz",
        "typed_config": {
            "@type": f"{EXTENSIONS}filters.http.ext_authz.v3.ExtAuthz",
            "transport_api_version": "V3",
            "clear_route_cache": True,
            "status_on_error": {"code": "ServiceUnavailable"},
            "allowed_headers": {"patterns": [{"exact": names.SERVICE_HEADER}, {"exact": names.REVISION_HEADER}]},
            "http_service": {
                "server_uri": {"uri": "http://gate", "cluster": names.PATIENT_LISTENER, "timeout": LONGEST_HOLD},
                "authorization_response": {
                    "dynamic_metadata_from_headers": {"patterns": exact},
                    "allowed_upstream_headers": {"patterns": [{"exact": names.UPSTREAM_HEADER}]},
                    "allowed_client_headers": {"patterns": told},
                },
            },
        },
    }


def _woken_routes() -> Json:
    route = {
        "match": {"prefix": "/"},
        "request_headers_to_remove": [names.UPSTREAM_HEADER],
        "route": {
            "cluster_header": names.UPSTREAM_HEADER,
            "timeout": "0s",
            "idle_timeout": "0s",
            "retry_policy": {"retry_on": "connect-failure,refused-stream", "num_retries": 2},
        },
    }
    return {"name": "woken", "domains": ["*"], "routes": [route]}


SERVED = f"%START_TIME(%s)%\t%UPSTREAM_CLUSTER%\t%REQ({names.KEY_HEADER})%\t%RESPONSE_CODE%\t%RESPONSE_FLAGS%\t"
COUNTED = "%DURATION%\t%BYTES_RECEIVED%\t%BYTES_SENT%\n"

GATEWAY_LOG: Json = {"text_format_source": {"inline_string": SERVED + COUNTED}}
"""What `kasbah.decide.metering` reads. No path, no header, no address: what a request was about is not ours to keep."""

PEERS_LOG: Json = {"text_format_source": {"inline_string": f"{SERVED}%DOWNSTREAM_PEER_URI_SAN%\t{COUNTED}"}}
"""The same of what other sites sent, with the site that did."""

COLD_LOG: Json = {
    "json_format": {
        "at": "%START_TIME(%s.%6f)%",
        "wake": f"%DYNAMIC_METADATA(envoy.filters.http.ext_authz:{names.WAKE_HEADER})%",
        "first_byte_milliseconds": "%RESPONSE_DURATION%",
    }
}


def access_log(path: str, log_format: Json) -> Json:
    """A log of what a listener did."""
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": f"{EXTENSIONS}access_loggers.file.v3.FileAccessLog",
            "path": path,
            "log_format": log_format,
        },
    }
