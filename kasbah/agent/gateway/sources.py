"""Envoy's way for sources from site to site, in JSON form: where the agent asks, and what other sites may ask.

    the agent that lacks one  --->  "sources" listener  --->  "peer:" cluster, mTLS, tunnels too
    the agent that has it     <---  "sources" host      <---  the other site's peers' listener

Which site asks is what its certificate says. Whether it may have what it asks for is the agent's to say.
"""

from __future__ import annotations

from collections.abc import Iterable

from kasbah.agent.gateway import names, routes
from kasbah.agent.gateway.across import only
from kasbah.agent.gateway.clusters import unix
from kasbah.agent.gateway.listeners import ADS, PASSED_ON, ROUTER, inner_listener
from kasbah.agent.gateway.replies import Json
from kasbah.agent.gateway.wiring import Wiring
from kasbah.domain.ids import SiteId

PATH = "/v1/sources/"
STANDSTILL = "60s"
"""How long a source may stand still on its way."""


def sources_listener(wiring: Wiring) -> Json:
    """Where the agent asks; the host that it asks for is the site."""
    manager = {
        "stat_prefix": names.SOURCES,
        "rds": {"route_config_name": names.SOURCES, "config_source": ADS},
        "http_filters": [ROUTER],
        **PASSED_ON,
    }
    return inner_listener(names.SOURCES, wiring.sources_socket, manager)


def asked_host(site: SiteId) -> Json:
    """Another site, as the agent asks it."""
    route = {"cluster": names.PEER + site, "host_rewrite_literal": names.SOURCES, **_patient()}
    return {"name": site, "domains": [site], "routes": [{"match": {"prefix": PATH}, "route": route}]}


def handing_host(senders: Iterable[str]) -> Json:
    """What the gateways with these identities may ask this site's agent."""
    method = {"name": ":method", "string_match": {"exact": "GET"}}
    route = {"cluster": names.HANDING_CLUSTER, **_patient()}
    return {
        "name": names.SOURCES,
        "domains": [names.SOURCES],
        "routes": [{"match": {"prefix": PATH, "headers": [method]}, "route": route}],
        "typed_per_filter_config": {names.KEYS_FILTER: routes.DISABLED, names.ENTRIES_FILTER: only(tuple(senders))},
    }


def handing_cluster(wiring: Wiring) -> Json:
    """The way to the agent."""
    return unix(names.HANDING_CLUSTER, wiring.handing_socket)


def _patient() -> Json:
    return {"timeout": "0s", "idle_timeout": STANDSTILL}
