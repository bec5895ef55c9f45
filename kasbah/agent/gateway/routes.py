"""Envoy's virtual hosts, in JSON form: one per service, one for the site's own door, one for what nobody serves."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta

from kasbah.agent.gateway import names
from kasbah.agent.gateway.listeners import EXTENSIONS, TYPE, WEBSOCKET, Json, error_body
from kasbah.domain.gateway import Gateway, VirtualHost, WeightedCluster

REPEATABLE = "GET|HEAD|PUT|DELETE|OPTIONS|TRACE"
"""The methods that may be carried out twice (RFC 9110, 9.2.2): their callers ask again themselves."""
REPEATED, SENT_AGAIN = 5, 10
"""With Envoy's pauses that is about a second: by then the site knows that a replica is gone. What may have reached a
replica is repeated less, since it may be what ends them."""


def _retry(*, repeatable: bool) -> Json:
    """What never reached a replica is sent again, and what may be repeated as long as no answer has begun: to the cold
    listener, where it waits for a replica that is well."""
    unsent = "connect-failure,refused-stream,reset-before-request,retriable-headers"
    match = {"present_match": True} if repeatable else {"string_match": {"exact": names.UNSENT}}
    return {
        "retry_on": f"{unsent},reset" if repeatable else unsent,
        "retriable_headers": [{"name": names.RETRY_HEADER, **match}],
        "num_retries": REPEATED if repeatable else SENT_AGAIN,
        "retry_back_off": {"base_interval": "0.01s", "max_interval": "0.8s"},
        "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {
                "@type": f"{EXTENSIONS}retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                "update_frequency": 1,
            },
        },
    }


ACME = "/.well-known/acme-challenge/"
DISABLED: Json = {"@type": f"{TYPE}envoy.config.route.v3.FilterConfig", "disabled": True}


def virtual_hosts(gateway: Gateway) -> list[Json]:
    """All of them, in a stable order."""
    services = sorted(gateway.hosts, key=lambda host: host.service)
    return [_door(gateway.site_hosts), *(service_host(host) for host in services), _nobody()]


def service_host(host: VirtualHost) -> Json:
    """One service as callers see it."""
    routes = [_to_tls(name, host.secure_port) for name in host.secure_hosts]
    routes += [_ignored(path) for path in host.ignored_paths]
    routes += _to_replicas(host) if host.clusters else [_not_ready(host)]
    own = [name for one in host.clusters for name in host.revision_hosts(one.revision)]
    return {
        "name": host.service,
        "domains": [*host.hosts, *own],
        "routes": [{**route, "metadata": _metadata(host)} for route in routes],
        "request_headers_to_add": [_header(names.SERVICE_HEADER, host.service)],
        "response_headers_to_remove": [names.RETRY_HEADER],
        "typed_per_filter_config": {names.KEYS_FILTER: DISABLED if host.public else _who_may(host)},
    }


def _to_replicas(host: VirtualHost) -> list[Json]:
    """A revision's own host leads to it alone; the service's, to each by its part. One that has everything needs no
    route of its own."""
    shared = [one for one in host.clusters if one.percent > 0]
    own = [_routes(host, [replace(one, percent=100)], [_own_host(one)]) for one in host.clusters]
    return [*(route for one in (own if len(own) > 1 else []) for route in one), *_routes(host, shared, [])]


def _routes(host: VirtualHost, clusters: list[WeightedCluster], headers: list[Json]) -> list[Json]:
    """Two routes to the same place: what may be repeated is, until an answer begins."""
    deadline = host.request_deadline
    route = {
        "weighted_clusters": {"clusters": [_weighted(one) for one in clusters]},
        "timeout": "0s" if deadline is None else _seconds(deadline + host.startup_deadline),
        "idle_timeout": _seconds(host.idle_deadline + host.startup_deadline),
        "upgrade_configs": [WEBSOCKET],
    }
    method = {"name": ":method", "string_match": {"safe_regex": {"regex": REPEATABLE}}}
    return [
        {
            "match": {"prefix": "/", "headers": [*headers, method]},
            "route": {**route, "retry_policy": _retry(repeatable=True)},
        },
        {
            "match": {"prefix": "/", **({"headers": headers} if headers else {})},
            "route": {**route, "retry_policy": _retry(repeatable=False)},
        },
    ]


def _own_host(one: WeightedCluster) -> Json:
    """Requests whose host begins with the revision: its virtual host is the service's."""
    named = {"prefix": f"{one.revision}.", "ignore_case": True}
    return {"name": ":authority", "string_match": named}


def _weighted(share: WeightedCluster) -> Json:
    return {
        "name": share.cluster,
        "weight": share.percent,
        "request_headers_to_add": [_header(names.REVISION_HEADER, share.revision)],
    }


def _to_tls(host: str, port: int) -> Json:
    """Who comes without TLS is sent to it before anything else is asked, a key included. Envoy itself writes
    `x-forwarded-proto`, whatever a caller sends. What proves to an authority that a host is ours is asked for without
    TLS, before there is a certificate and after."""
    named = rf"(?i){re.escape(host)}(:\d+)?"
    elsewhere = {} if port == 443 else {"port_redirect": port}
    return {
        "match": {"prefix": "/", "headers": [
            {"name": "x-forwarded-proto", "string_match": {"exact": "http"}},
            {"name": ":authority", "string_match": {"safe_regex": {"regex": named}}},
            {"name": ":path", "string_match": {"prefix": ACME}, "invert_match": True},
        ]},
        "redirect": {
            "scheme_redirect": "https", "host_redirect": host, "response_code": "PERMANENT_REDIRECT", **elsewhere
        },
        "typed_per_filter_config": {names.KEYS_FILTER: DISABLED},
    }  # fmt: skip


def _not_ready(host: VirtualHost) -> Json:
    message = f"The service {host.name} is not ready: its first revision has not started yet."
    return {
        **_answer(503, "not_ready", "server_error", message),
        "response_headers_to_add": [_header("retry-after", "2"), _header("content-type", "application/json")],
    }


def _ignored(path: str) -> Json:
    return {**_answer(404, "ignored", "invalid_request_error", "Nothing is served here."), "match": {"prefix": path}}


def _nobody() -> Json:
    message = "No service answers at this host. Check the name, or deploy it: kasbah ps lists what there is."
    return {
        "name": "nobody",
        "domains": ["*"],
        "routes": [_answer(404, "service_not_found", "invalid_request_error", message)],
        "typed_per_filter_config": {names.KEYS_FILTER: DISABLED},
    }


def _door(hosts: tuple[str, ...]) -> Json:
    """The agent's own door, for sources and logs: its tickets are its keys."""
    return {
        "name": "door",
        "domains": list(hosts),
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": names.DOOR_CLUSTER, "timeout": "0s"}}],
        "typed_per_filter_config": {names.KEYS_FILTER: DISABLED},
    }


def _who_may(host: VirtualHost) -> Json:
    context = {"project": host.project, "allow": dict.fromkeys(host.allowed_keys, True)}
    return {"@type": f"{EXTENSIONS}filters.http.lua.v3.LuaPerRoute", "filter_context": context}


def _answer(status: int, code: str, kind: str, message: str) -> Json:
    body = json.dumps(error_body(code, kind, message), separators=(",", ":"))
    return {
        "match": {"prefix": "/"},
        "direct_response": {"status": status, "body": {"inline_string": body}},
        "response_headers_to_add": [_header("content-type", "application/json")],
    }


def _metadata(host: VirtualHost) -> Json:
    return {"filter_metadata": {"kasbah": {"service": host.service}}}


def _header(name: str, value: str) -> Json:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():.3f}s"
