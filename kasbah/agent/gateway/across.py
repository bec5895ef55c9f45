"""Envoy's virtual hosts for what crosses between sites, in JSON form: what is sent on, and what others may send here.

What another site sent is led to this site's own clusters and nowhere else, so that nothing can cross twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from kasbah.agent.gateway import names, replies, routes
from kasbah.agent.gateway.listeners import EXTENSIONS, WEBSOCKET, set_header
from kasbah.agent.gateway.replies import Json
from kasbah.domain.gateway import VirtualHost

ENTRIES = f"{EXTENSIONS}filters.http.rbac.v3."


def ways(host: VirtualHost) -> tuple[str, ...]:
    """The clusters that are tried for what crosses, in order: this site's own first, where it serves it too."""
    assert host.elsewhere is not None
    others = [names.PEER + site for site in host.elsewhere.sites]
    return (names.HERE_LISTENER, *others) if host.here else tuple(others)


def cluster_across(ways: Sequence[str]) -> str:
    """The name of the cluster that tries these in order. Services that may go to the same ones share it."""
    return names.ACROSS + hashlib.sha256(" ".join(ways).encode()).hexdigest()[:16]


def forwarded_host(host: VirtualHost) -> Json:
    """One service that other sites serve, as callers see it. Its key is asked for here, and once more where it runs."""
    tried = ways(host)
    crosses = {names.ENTRY_HEADER: "1"}
    if not host.public:
        crosses[names.AUTHORIZATION_HEADER] = "%REQ(authorization)%"
    return {
        "name": host.service,
        "domains": [*host.hosts, *host.own_hosts],
        "routes": [*routes.to_tls(host), *(_sent_on(host, tried) if tried else [_nowhere()])],
        "request_headers_to_remove": [names.AUTHORIZATION_HEADER],
        "response_headers_to_remove": [names.RETRY_HEADER, names.REFUSED_HEADER],
        "typed_per_filter_config": routes.filters_of(host, crosses),
    }


def entry_host(host: VirtualHost, senders: tuple[str, ...]) -> Json:
    """One service that runs here, as the gateways with these identities see it."""
    entry = here_host(host)
    entry["typed_per_filter_config"][names.ENTRIES_FILTER] = only(senders)
    return entry


def only(senders: tuple[str, ...]) -> Json:
    """For a virtual host: the gateways with these identities may ask for it, and no others."""
    named = [{"authenticated": {"principal_name": {"exact": sender}}} for sender in senders]
    rules = {"action": "ALLOW", "policies": {"entries": {"permissions": [{"any": True}], "principals": named}}}
    return {"@type": f"{ENTRIES}RBACPerRoute", "rbac": {"rules": rules}}


def here_host(host: VirtualHost) -> Json:
    """One service that runs here, as this site's own gateway sees it that could ask others too. How far a request came
    that is lost is told: it may go on to another site."""
    return {
        "name": host.service,
        "domains": [*host.hosts, *host.own_hosts],
        "routes": routes.served(host),
        "request_headers_to_add": [routes.header(names.SERVICE_HEADER, host.service)],
        "response_headers_to_remove": [names.SITE_HEADER, names.DECISION_HEADER],
        "typed_per_filter_config": routes.filters_of(host, {}),
    }


def entries_filter() -> Json:
    """Which sites may send what: for each service its virtual host says so, and for anything else nobody may."""
    return {"name": names.ENTRIES_FILTER, "typed_config": {"@type": f"{ENTRIES}RBAC", "rules": {"action": "ALLOW"}}}


def admitted_filter() -> Json:
    """Behind that one: names the site that sent a request, by its certificate. What is refused has no such header."""
    return {
        "name": "kasbah.admitted",
        "typed_config": {
            "@type": f"{EXTENSIONS}filters.http.header_mutation.v3.HeaderMutation",
            "mutations": {"request_mutations": [set_header(names.ENTRY_HEADER, "%DOWNSTREAM_PEER_URI_SAN%")]},
        },
    }


def not_placed() -> Json:
    """What does not run here is sent on by nobody twice: the site that sent it is told to try another."""
    answer = routes.answer(503, "not_placed_here", "server_error", replies.NOT_PLACED)
    answer["response_headers_to_add"].append(routes.header(names.RETRY_HEADER, names.UNSENT))
    return {
        "name": "nobody",
        "domains": ["*"],
        "routes": [answer],
        "typed_per_filter_config": {
            names.KEYS_FILTER: routes.DISABLED,
            names.ENTRIES_FILTER: {"@type": f"{ENTRIES}RBACPerRoute"},
        },
    }


def _sent_on(host: VirtualHost, tried: Sequence[str]) -> list[Json]:
    """As to replicas: what may be repeated is, until an answer begins, and what no site has had goes to the next. The
    site that serves it keeps its deadlines; one that is lost is noticed by its connections."""
    several = len(tried) > 1
    route = {"cluster": cluster_across(tried), "timeout": "0s", "idle_timeout": "0s", "upgrade_configs": [WEBSOCKET]}
    caller = routes.header("authorization", f"%REQ({names.AUTHORIZATION_HEADER})%")
    named = {} if host.public else {"request_headers_to_add": [caller]}
    return [
        {
            "match": {"prefix": "/", "headers": [routes.REPEATABLE_METHOD]},
            "route": {**route, "retry_policy": _retry(repeatable=True, several=several)},
            **named,
        },
        {
            "match": {"prefix": "/"},
            "route": {**route, "retry_policy": _retry(repeatable=False, several=several)},
            **named,
        },
    ]


def _retry(*, repeatable: bool, several: bool) -> Json:
    """What no replica had goes to the next site, where there are `several` also what this one cannot start. The site
    that was tried has repeated what may be repeated: what ended its replicas is not tried on others'."""
    how_far = (names.UNSENT, names.LOST) if repeatable else (names.UNSENT,)
    again = [{"name": names.RETRY_HEADER, "string_match": {"exact": one}} for one in how_far]
    refused = [{"name": names.REFUSED_HEADER, "present_match": True}] if several else []
    return routes.retry(repeatable=repeatable) | {"retriable_headers": [*again, *refused]}


def _nowhere() -> Json:
    answer = routes.answer(503, "no_lawful_site", "server_error", replies.NO_LAWFUL_SITE)
    answer["response_headers_to_add"].append(routes.header("retry-after", "1"))
    return answer
