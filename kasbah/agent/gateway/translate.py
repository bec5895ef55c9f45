"""Our gateway description as Envoy's resources: pure, whole, and checked before anything is served.

A pass over 5,000 services translates only what changed: the pieces are remembered by what they were made from.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import resources

from google.protobuf import any_pb2

from kasbah.agent.gateway import clusters, listeners, names, protos, routes
from kasbah.agent.gateway.listeners import EXTENSIONS, Json
from kasbah.agent.gateway.wiring import Wiring
from kasbah.domain.gateway import Cluster, Credential, Endpoint, Gateway, VirtualHost


class Kind(StrEnum):
    """The resource types Kasbah serves, by message name."""

    CLUSTER = "envoy.config.cluster.v3.Cluster"
    ENDPOINTS = "envoy.config.endpoint.v3.ClusterLoadAssignment"
    LISTENER = "envoy.config.listener.v3.Listener"
    ROUTES = "envoy.config.route.v3.RouteConfiguration"
    FILTER = "envoy.config.core.v3.TypedExtensionConfig"
    SECRET = "envoy.extensions.transport_sockets.tls.v3.Secret"


@dataclass(frozen=True, slots=True)
class Resource:
    """A serialised message; its version is the hash of its contents, so that what did not change is not sent."""

    version: str
    body: bytes = field(repr=False)


Resources = Mapping[Kind, Mapping[str, Resource]]


def configuration(gateway: Gateway, wiring: Wiring) -> Resources:
    """Everything but endpoints and certificates: clusters, listeners, routes, keys. Raises ValueError where the whole
    is not sound."""
    problems = check(gateway)
    if problems:
        raise ValueError("; ".join(problems))
    listening = [
        listeners.gateway_listener(gateway.listen, wiring),
        listeners.cold_listener(wiring),
        listeners.patient_listener(wiring),
    ]
    if gateway.tls is not None and gateway.tls.names:
        listening.append(listeners.tls_listener(gateway.tls.listen, gateway.tls.names, wiring))
    return {
        Kind.CLUSTER: {
            **{one.name: _cluster(one) for one in gateway.clusters},
            **{
                names.LIMITED + one.name: _limited(one, wiring.workers)
                for one in gateway.clusters
                if one.max_per_replica is not None
            },
        },
        Kind.LISTENER: {one["name"]: resource(Kind.LISTENER, one) for one in listening},
        Kind.ROUTES: {names.ROUTES: _routes(gateway)},
        Kind.FILTER: {names.KEYS_FILTER: _keys(gateway.credentials)},
    }


def endpoints(cluster: Cluster, wiring: Wiring) -> Resource:
    """Where a revision's requests go now."""
    return _endpoints(cluster.name, cluster.endpoints, wiring.cold_socket)


def certificate(host: str, chain: bytes, key: bytes) -> Resource:
    """A host's certificate, with its key. Raises ValueError, which holds nothing of the key."""
    try:
        return resource(Kind.SECRET, listeners.certificate(host, chain, key))
    except ValueError:
        raise ValueError(f"the certificate of {host} cannot be handed to the gateway") from None


def check(gateway: Gateway) -> tuple[str, ...]:
    """What is wrong with a gateway description, every fault named; empty where it is sound."""
    known = {cluster.name for cluster in gateway.clusters}
    faults = []
    owner: dict[str, str] = dict.fromkeys(gateway.site_hosts, "the site's own door")
    for host in gateway.hosts:
        for name in host.hosts:
            if name in owner:
                faults.append(f"host {name} belongs to {owner[name]} and to {host.name}")
            owner[name] = host.name
        own = [name for one in host.clusters for name in host.revision_hosts(one.revision)]
        faults.extend(
            f"host {name} belongs to {owner[name]} and to a revision of {host.name}" for name in own if name in owner
        )
        owner |= dict.fromkeys(own, f"a revision of {host.name}")
        missing = [share.cluster for share in host.clusters if share.cluster not in known]
        faults.extend(f"service {host.name} routes to {cluster}, which is not there" for cluster in missing)
        if host.clusters and sum(share.percent for share in host.clusters) != 100:
            faults.append(f"the shares of service {host.name} do not add up to 100")
    if len(known) != len(gateway.clusters):
        faults.append("two clusters have one name")
    return tuple(faults)


def resource(kind: Kind, fields: Json) -> Resource:
    """A message in JSON form, serialised and versioned. Raises ValueError naming the field that does not fit."""
    return _sealed(protos.parse(kind, fields).SerializeToString(deterministic=True))


def _sealed(body: bytes) -> Resource:
    return Resource(version=hashlib.sha256(body).hexdigest()[:16], body=body)


@functools.lru_cache(maxsize=20_000)
def _cluster(cluster: Cluster) -> Resource:
    return resource(Kind.CLUSTER, clusters.revision_cluster(cluster))


@functools.lru_cache(maxsize=20_000)
def _limited(cluster: Cluster, workers: int) -> Resource:
    return resource(Kind.CLUSTER, clusters.limited_cluster(cluster, workers))


@functools.lru_cache(maxsize=20_000)
def _endpoints(name: str, replicas: tuple[Endpoint, ...], cold_socket: str) -> Resource:
    return resource(Kind.ENDPOINTS, clusters.endpoints(name, replicas, cold_socket))


def _routes(gateway: Gateway) -> Resource:
    """The route table, put together from virtual hosts serialised one by one: messages of one type concatenate, and
    `virtual_hosts` is field 2."""
    table = {"name": names.ROUTES, "ignore_port_in_host_matching": True}
    body = bytearray(protos.parse(Kind.ROUTES, table).SerializeToString(deterministic=True))
    own = routes.virtual_hosts(Gateway(listen=gateway.listen, site_hosts=gateway.site_hosts))
    hosts = [_serialise_host(one) for one in own]
    hosts += [_service_host(host) for host in sorted(gateway.hosts, key=lambda host: host.service)]
    for host in hosts:
        body += b"\x12" + _varint(len(host)) + host
    return _sealed(bytes(body))


@functools.lru_cache(maxsize=20_000)
def _service_host(host: VirtualHost) -> bytes:
    return _serialise_host(routes.service_host(host))


def _serialise_host(fields: Json) -> bytes:
    return protos.parse("envoy.config.route.v3.VirtualHost", fields).SerializeToString(deterministic=True)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


@functools.lru_cache(maxsize=4)
def _keys(credentials: tuple[Credential, ...]) -> Resource:
    """The filter that knows the keys' hashes."""
    lines = "".join(f"{one.sha256}={one.key},{one.project or ''}\n" for one in sorted(credentials, key=lambda c: c.key))
    script = resources.files("kasbah.agent.gateway").joinpath("keys.lua").read_text()
    source = f"local DATA = [==[\n{lines}]==]\n{script}"
    config = protos.parse(f"{EXTENSIONS}filters.http.lua.v3.Lua".removeprefix(protos.TYPE_PREFIX),
                          {"default_source_code": {"inline_string": source}})  # fmt: skip
    wrapped = any_pb2.Any(
        type_url=f"{EXTENSIONS}filters.http.lua.v3.Lua", value=config.SerializeToString(deterministic=True)
    )
    named = protos.message(Kind.FILTER)(name=names.KEYS_FILTER, typed_config=wrapped)
    return _sealed(named.SerializeToString(deterministic=True))
