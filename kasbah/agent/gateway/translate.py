"""Our gateway description as Envoy's resources: pure, whole, and checked before anything is served.

A pass over 5,000 services translates only what changed: the pieces are remembered by what they were made from.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from importlib import resources

from google.protobuf import any_pb2

from kasbah.agent.gateway import across, clusters, listeners, names, peers, protos, routes, sources, tunnels
from kasbah.agent.gateway.listeners import EXTENSIONS
from kasbah.agent.gateway.replies import Json
from kasbah.agent.gateway.wiring import Wiring
from kasbah.domain.crossing import Peer
from kasbah.domain.gateway import Cluster, Credential, Endpoint, Gateway, VirtualHost
from kasbah.domain.ids import ServiceId


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
        listeners.gateway_listener(
            gateway.listen, gateway.site, wiring, gateway.inside.network if gateway.inside else ""
        ),
        listeners.cold_listener(wiring),
        listeners.patient_listener(wiring),
        peers.here_listener(gateway.site, wiring),
    ]
    if gateway.tls is not None and gateway.tls.names:
        listening.append(listeners.tls_listener(gateway.tls.listen, gateway.tls.names, gateway.site, wiring))
    listening += _for_others(gateway, wiring)
    listening = [listeners.since(gateway.cut, one) for one in listening]
    return {
        Kind.CLUSTER: {
            **{one.name: _cluster(one) for one in gateway.clusters},
            **{
                names.LIMITED + one.name: _limited(one, wiring.workers)
                for one in gateway.clusters
                if one.max_per_replica is not None
            },
            **_ways(gateway, wiring),
        },
        Kind.LISTENER: {one["name"]: resource(Kind.LISTENER, one) for one in listening},
        Kind.ROUTES: {
            names.ROUTES: _routes(gateway),
            names.HERE_LISTENER: _here(gateway),
            **_entries(gateway),
            **_sources(gateway),
            **_inside(gateway),
        },
        Kind.FILTER: {names.KEYS_FILTER: _keys(gateway.credentials)},
    }


def endpoints(cluster: Cluster, wiring: Wiring) -> Resource:
    """Where a revision's requests go now."""
    return _endpoints(cluster.name, cluster.endpoints, wiring.cold_socket)


def proofs(authority: bytes, chain: bytes, key: bytes, gateway: Gateway) -> dict[str, Resource]:
    """What proves this site to others, and the others to it, by name. Raises ValueError, which holds nothing of the
    key."""
    trusted = {names.TRUST_SECRET: gateway.peers} | {peers.trust_secret(one.site): (one,) for one in gateway.peers}
    try:
        return {
            names.IDENTITY_SECRET: resource(Kind.SECRET, peers.identity(chain, key)),
            **{name: resource(Kind.SECRET, peers.trust(name, authority, one)) for name, one in trusted.items()},
        }
    except ValueError:
        raise ValueError("the site's identity cannot be handed to the gateway") from None


def certificate(host: str, chain: bytes, key: bytes) -> Resource:
    """A host's certificate, with its key. Raises ValueError, which holds nothing of the key."""
    try:
        return resource(Kind.SECRET, listeners.certificate(host, chain, key))
    except ValueError:
        raise ValueError(f"the certificate of {host} cannot be handed to the gateway") from None


def check(gateway: Gateway) -> tuple[str, ...]:
    """What is wrong with a gateway description, every fault named; empty where it is sound."""
    faults = [fault for found in _faults(gateway).values() for fault in found]
    if len({cluster.name for cluster in gateway.clusters}) != len(gateway.clusters):
        faults.append("two clusters have one name")
    return tuple(faults)


def sound(gateway: Gateway) -> tuple[Gateway, tuple[str, ...]]:
    """The description without the services that something is wrong with, of two that claim one host the second; and
    what is wrong. One service must not keep the others from changing, nor from going."""
    faults = _faults(gateway)
    if not any(faults.values()):
        return gateway, ()
    kept = tuple(host for host in gateway.hosts if not faults[host.service])
    return replace(gateway, hosts=kept), tuple(fault for found in faults.values() for fault in found)


def _faults(gateway: Gateway) -> dict[ServiceId, list[str]]:
    """By service, what is wrong with it."""
    known = {cluster.name for cluster in gateway.clusters}
    owner: dict[str, str] = dict.fromkeys(gateway.site_hosts, "the site's own door")
    met = {peer.site for peer in _reached(gateway)}
    found: dict[ServiceId, list[str]] = {}
    for host in gateway.hosts:
        faults = found.setdefault(host.service, [])
        named = {name.lower(): host.name for name in host.hosts}
        named |= {name.lower(): f"a revision of {host.name}" for name in host.own_hosts}
        faults += (f"host {name} belongs to {owner[name]} and to {who}" for name, who in named.items() if name in owner)
        missing = [share.cluster for share in host.clusters if share.cluster not in known]
        faults += (f"service {host.name} routes to {cluster}, which is not there" for cluster in missing)
        strangers = [site for site in (host.elsewhere.sites if host.elsewhere else ()) if site not in met]
        faults += (f"service {host.name} is sent on to {site}, which is no peer" for site in strangers)
        if host.clusters and sum(share.percent for share in host.clusters) != 100:
            faults.append(f"the shares of service {host.name} do not add up to 100")
        if not faults:
            owner |= named
    return found


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


def _for_others(gateway: Gateway, wiring: Wiring) -> Iterator[Json]:
    """Where other sites are listened to, and where tunnels are entered."""
    crossing = gateway.crossing
    if crossing is None:
        return
    yield sources.sources_listener(wiring)
    if crossing.listen is not None:
        yield tunnels.taking_tunnels(peers.peers_listener(crossing.listen, gateway.site, wiring))
        yield from (tunnels.hop_listener(peer, wiring) for peer in gateway.peers if peer.tunnel)
    if crossing.tunnel:
        held = (peer for peer in gateway.peers if peer.address)
        yield from (tunnels.held_listener(peer, gateway.site_id, gateway.site, wiring) for peer in held)


def _reached(gateway: Gateway) -> tuple[Peer, ...]:
    """The sites that something can be sent to: by their address, or through a tunnel that they hold to this one."""
    tunnels_come = gateway.crossing is not None and gateway.crossing.listen is not None
    return tuple(peer for peer in gateway.peers if peer.address or (peer.tunnel and tunnels_come))


def _ways(gateway: Gateway, wiring: Wiring) -> dict[str, Resource]:
    """The ways to other sites: one for each that can be dialled, and one for each order in which some are tried."""
    if gateway.crossing is None:
        return {}
    orders = {tried for host in gateway.hosts if host.elsewhere is not None and (tried := across.ways(host))}
    found = [peers.peer_cluster(one) for one in gateway.peers if one.address]
    if gateway.crossing.tunnel:
        found += [tunnels.dialled_cluster(one) for one in gateway.peers if one.address]
    if gateway.crossing.listen is not None:
        held = [one for one in gateway.peers if one.tunnel]
        found += [made for one in held for made in (tunnels.tunnel_cluster(one), tunnels.hop_cluster(one, wiring))]
    found += [peers.cluster_of(one) for one in orders]
    found += [sources.handing_cluster(wiring)]
    found += [peers.here_cluster(wiring)] if any(names.HERE_LISTENER in one for one in orders) else []
    return {one["name"]: resource(Kind.CLUSTER, one) for one in found}


def _routes(gateway: Gateway) -> Resource:
    """What callers may ask for."""
    own = [_serialise_host(one) for one in routes.virtual_hosts(gateway)]
    services = sorted(gateway.hosts, key=lambda host: host.service)
    return _table(names.ROUTES, [*own, *map(_service_host, services)])


def _inside(gateway: Gateway) -> dict[str, Resource]:
    """What replicas may ask for."""
    if gateway.inside is None:
        return {}
    services = sorted(gateway.inside.hosts, key=lambda host: host.service)
    return {names.INSIDE: _table(names.INSIDE, [_serialise_host(routes.not_called()), *map(_service_host, services)])}


def _here(gateway: Gateway) -> Resource:
    """What this site asks itself for as it asks others."""
    hosts = sorted(gateway.hosts, key=lambda host: host.service)
    found = [_here_host(host) for host in hosts if host.here and host.elsewhere is not None]
    return _table(names.HERE_LISTENER, found)


def _entries(gateway: Gateway) -> dict[str, Resource]:
    """What other sites may ask for."""
    if gateway.crossing is None or not (gateway.crossing.listen or gateway.crossing.tunnel):
        return {}
    identities = {peer.site: peer.identity for peer in gateway.peers}
    found = [_serialise_host(across.not_placed())]
    if identities:
        found.append(_serialise_host(sources.handing_host(identities.values())))
    for host in sorted(gateway.hosts, key=lambda host: host.service):
        senders = tuple(identities[site] for site in host.entries if site in identities)
        if senders and host.here:
            found.append(_entry_host(host, senders))
    return {names.PEERS_LISTENER: _table(names.PEERS_LISTENER, found)}


def _sources(gateway: Gateway) -> dict[str, Resource]:
    """Where this site asks for sources."""
    if gateway.crossing is None:
        return {}
    return {
        names.SOURCES: _table(
            names.SOURCES, [_serialise_host(sources.asked_host(one.site)) for one in _reached(gateway)]
        )
    }


def _table(name: str, hosts: Iterable[bytes]) -> Resource:
    """A route table, put together from virtual hosts serialised one by one: messages of one type concatenate, and
    `virtual_hosts` is field 2."""
    table = {"name": name, "ignore_port_in_host_matching": True}
    body = bytearray(protos.parse(Kind.ROUTES, table).SerializeToString(deterministic=True))
    for host in hosts:
        body += b"\x12" + _varint(len(host)) + host
    return _sealed(bytes(body))


@functools.lru_cache(maxsize=20_000)
def _service_host(host: VirtualHost) -> bytes:
    return _serialise_host(routes.service_host(host) if host.elsewhere is None else across.forwarded_host(host))


@functools.lru_cache(maxsize=20_000)
def _here_host(host: VirtualHost) -> bytes:
    return _serialise_host(across.here_host(host))


@functools.lru_cache(maxsize=20_000)
def _entry_host(host: VirtualHost, senders: tuple[str, ...]) -> bytes:
    return _serialise_host(across.entry_host(host, senders))


def _serialise_host(fields: Json) -> bytes:
    return protos.parse("envoy.config.route.v3.VirtualHost", fields).SerializeToString(deterministic=True)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


PLAIN = re.compile(r"[0-9a-f]{64}=[A-Za-z0-9._-]+,[A-Za-z0-9._-]*,[0-9]*,-?[0-9]*\n")
"""A key's line. What is written otherwise would be something else in the script, and opens nothing."""


def _key_line(one: Credential) -> str:
    """What the script reads of a key. Its expiry is rounded down to a second: it never lasts longer than was said."""
    ceiling = "" if one.ceiling is None else str(int(one.ceiling))
    expires = "" if one.expires_at is None else str(int(one.expires_at.timestamp()))
    return f"{one.sha256}={one.key},{one.project or ''},{ceiling},{expires}\n"


@functools.lru_cache(maxsize=4)
def _keys(credentials: tuple[Credential, ...]) -> Resource:
    """The filter that knows the keys' hashes."""
    lines = "".join(line for one in sorted(credentials, key=lambda c: c.key) if PLAIN.fullmatch(line := _key_line(one)))
    script = resources.files("kasbah.agent.gateway").joinpath("keys.lua").read_text()
    source = f"local DATA = [==[\n{lines}]==]\n{script}"
    config = protos.parse(f"{EXTENSIONS}filters.http.lua.v3.Lua".removeprefix(protos.TYPE_PREFIX),
                          {"default_source_code": {"inline_string": source}})  # fmt: skip
    wrapped = any_pb2.Any(
        type_url=f"{EXTENSIONS}filters.http.lua.v3.Lua", value=config.SerializeToString(deterministic=True)
    )
    named = protos.message(Kind.FILTER)(name=names.KEYS_FILTER, typed_config=wrapped)
    return _sealed(named.SerializeToString(deterministic=True))
