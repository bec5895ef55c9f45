"""Envoy's virtual hosts, in JSON form: one per service, one for the site's own door, one for what nobody serves."""

from __future__ import annotations

import json
import re
from datetime import timedelta

from kasbah.agent.gateway import names
from kasbah.agent.gateway.listeners import EXTENSIONS, TYPE, WEBSOCKET, headers_of
from kasbah.agent.gateway.replies import Json, error_body
from kasbah.domain.gateway import Gateway, VirtualHost, WeightedCluster

REPEATABLE = "GET|HEAD|PUT|DELETE|OPTIONS|TRACE"
"""The methods that may be carried out twice (RFC 9110, 9.2.2): their callers ask again themselves."""
REPEATABLE_METHOD: Json = {"name": ":method", "string_match": {"safe_regex": {"regex": REPEATABLE}}}
REPEATED, SENT_AGAIN = 5, 10
"""With Envoy's pauses that is about a second: by then the site knows that a replica is gone. What may have reached a
replica is repeated less, since it may be what ends them."""


def retry(*, repeatable: bool) -> Json:
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


EXEC = "/v1/services/[^/]+/exec"
ACME = "/.well-known/acme-challenge/"
OURS = [names.RETRY_HEADER, names.REFUSED_HEADER, names.SITE_HEADER, names.DECISION_HEADER]
"""Of an answer: what no replica says."""
DISABLED: Json = {"@type": f"{TYPE}envoy.config.route.v3.FilterConfig", "disabled": True}


def virtual_hosts(gateway: Gateway) -> list[Json]:
    """Those that are there whatever is deployed."""
    return [_door(gateway.site_hosts), _nobody()]


def service_host(host: VirtualHost) -> Json:
    """One service as callers see it."""
    return {
        "name": host.service,
        "domains": [*host.hosts, *host.own_hosts],
        "routes": [*to_tls(host), *served(host)],
        "request_headers_to_add": [header(names.SERVICE_HEADER, host.service)],
        "response_headers_to_remove": OURS,
        "typed_per_filter_config": filters_of(host, {}),
    }


def filters_of(host: VirtualHost, request: dict[str, str]) -> Json:
    """What the filters do for this service: who may call, which headers a request is given, what every answer says."""
    keys = DISABLED if host.public else _who_may(host)
    headers = {names.HEADERS_FILTER: headers_of(request, host.decision)} if request or host.decision else {}
    return {names.KEYS_FILTER: keys, **headers}


def served(host: VirtualHost) -> list[Json]:
    """How a service that runs here answers, to whoever may call."""
    return [*map(_ignored, host.ignored_paths), *(_to_replicas(host) if host.clusters else [_not_ready(host)])]


def _to_replicas(host: VirtualHost) -> list[Json]:
    """A revision's own host leads to it alone; the service's, to each by its part. One that has everything needs no
    route of its own."""
    shared = [one for one in host.clusters if one.percent > 0]
    own = [_routes(host, [one], [_own_host(one)]) for one in host.clusters]
    return [*(route for one in (own if len(own) > 1 else []) for route in one), *_routes(host, shared, [])]


def _routes(host: VirtualHost, clusters: list[WeightedCluster], headers: list[Json]) -> list[Json]:
    """Two routes to the same place: what may be repeated is, until an answer begins."""
    deadline = host.request_deadline
    route = {
        **_led_to(clusters),
        "timeout": "0s" if deadline is None else _seconds(deadline + host.startup_deadline),
        "idle_timeout": _seconds(host.idle_deadline + host.startup_deadline),
        "upgrade_configs": [WEBSOCKET],
    }
    named = {} if len(clusters) > 1 else {"request_headers_to_add": [_revision(clusters[0])]}
    return [
        {
            "match": {"prefix": "/", "headers": [*headers, REPEATABLE_METHOD]},
            "route": {**route, "retry_policy": retry(repeatable=True)},
            **named,
        },
        {
            "match": {"prefix": "/", **({"headers": headers} if headers else {})},
            "route": {**route, "retry_policy": retry(repeatable=False)},
            **named,
        },
    ]


def _own_host(one: WeightedCluster) -> Json:
    """Requests whose host begins with the revision: its virtual host is the service's."""
    named = {"prefix": f"{one.revision}.", "ignore_case": True}
    return {"name": ":authority", "string_match": named}


def _led_to(clusters: list[WeightedCluster]) -> Json:
    """Where a route leads: one place is named plainly, which costs a request 3 % less than a choice of one."""
    if len(clusters) == 1:
        return {"cluster": clusters[0].cluster}
    shares = [
        {"name": one.cluster, "weight": one.percent, "request_headers_to_add": [_revision(one)]} for one in clusters
    ]
    return {"weighted_clusters": {"clusters": shares}}


def _revision(one: WeightedCluster) -> Json:
    """Which revision the cold listener is to wake."""
    return header(names.REVISION_HEADER, one.revision)


def to_tls(host: VirtualHost) -> list[Json]:
    """A route for each host that has a certificate."""
    return [_to_tls(name, host.secure_port) for name in host.secure_hosts]


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
        **answer(503, "not_ready", "server_error", message),
        "response_headers_to_add": [header("retry-after", "2"), header("content-type", "application/json")],
    }


def _ignored(path: str) -> Json:
    return {**answer(404, "ignored", "invalid_request_error", "Nothing is served here."), "match": {"prefix": path}}


def _nobody() -> Json:
    message = (
        "No service answers at this host here. Check the name: kasbah ps lists what there is, and kasbah explain NAME "
        "where each may be."
    )
    return {
        "name": "nobody",
        "domains": ["*"],
        "routes": [answer(404, "service_not_found", "invalid_request_error", message)],
        "typed_per_filter_config": {names.KEYS_FILTER: DISABLED},
    }


def not_called() -> Json:
    """What replicas are told that ask for something else."""
    message = "A service reaches only those that it says it calls: list it under `calls` in kasbah.yaml."
    return {
        "name": "nobody",
        "domains": ["*"],
        "routes": [answer(403, "not_called", "permission_error", message)],
        "typed_per_filter_config": {names.KEYS_FILTER: DISABLED},
    }


def _door(hosts: tuple[str, ...]) -> Json:
    """The agent's own door, for sources, logs and commands: its tickets are its keys."""
    route = {"cluster": names.DOOR_CLUSTER, "timeout": "0s"}
    return {
        "name": "door",
        "domains": list(hosts),
        "routes": [
            {"match": {"safe_regex": {"regex": EXEC}}, "route": {**route, "upgrade_configs": [WEBSOCKET]}},
            {"match": {"prefix": "/"}, "route": {**route, "upgrade_configs": [{**WEBSOCKET, "enabled": False}]}},
        ],
        "typed_per_filter_config": {names.KEYS_FILTER: DISABLED},
    }


def _who_may(host: VirtualHost) -> Json:
    context = {"project": host.project, "level": int(host.level), "allow": dict.fromkeys(host.allowed_keys, True)}
    return {"@type": f"{EXTENSIONS}filters.http.lua.v3.LuaPerRoute", "filter_context": context}


def answer(status: int, code: str, kind: str, message: str) -> Json:
    """A route that answers everything itself."""
    body = json.dumps(error_body(code, kind, message), separators=(",", ":"))
    return {
        "match": {"prefix": "/"},
        "direct_response": {"status": status, "body": {"inline_string": body}},
        "response_headers_to_add": [header("content-type", "application/json")],
    }


def header(name: str, value: str) -> Json:
    """Set a header, whatever it was."""
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():.3f}s"
