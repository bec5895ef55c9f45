"""What should the gateway do, given the services and their replicas? One pure function, whole every time.

Hosts, access and shares come from the desired state and change when somebody deploys; endpoints come from the replicas
and change when something wakes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from kasbah.decide.certificates import covers
from kasbah.domain.crossing import Forwarded, Lane
from kasbah.domain.desired import DesiredState
from kasbah.domain.gateway import (
    Cluster,
    Credential,
    Crossing,
    Elsewhere,
    Endpoint,
    Gateway,
    Inside,
    Tls,
    VirtualHost,
    WeightedCluster,
)
from kasbah.domain.ids import KeyId, ProjectId, RevisionId, ServiceId, SiteId
from kasbah.domain.replica import Replica, ReplicaState
from kasbah.domain.revision import Deadlines, Protocol, Revision
from kasbah.domain.service import Access, Key, Service, own_key

SITE_HOST = "kasbah"
NO_PROJECT = ProjectId("")
SERVING = (ReplicaState.READY, ReplicaState.UNREADY, ReplicaState.DRAINING)


def cluster_name(service: ServiceId, revision: RevisionId) -> str:
    """The name of the cluster of a revision's replicas."""
    return f"{service}/{revision}"


def route(
    desired: DesiredState,
    *,
    protocols: Mapping[RevisionId, Protocol],
    lingering: Iterable[tuple[Service, Revision]],
    listen: str,
    tls: Tls | None = None,
    crossing: Crossing | None = None,
    inside: str = "",
) -> Gateway:
    """The whole gateway but for its endpoints.

    `protocols` are what replicas were found to speak. `lingering` have no traffic any more but still finish what they
    have: their clusters stay, so that it stays countable. `crossing` is how this gateway meets others. `inside` is the
    network that replicas have their addresses of, "" where they have none of their own.
    """
    routed = {
        (service.id, revision.id): (service, revision)
        for service in desired.services
        for revision in service.revisions
        if _is_routed(service, revision)
    }
    routed |= {(service.id, revision.id): (service, revision) for service, revision in lingering}
    lanes = {one.id: one for one in desired.lanes}
    hosts = [_host(service, desired.keys, lanes.get(service.lane), crossing) for service in desired.services]
    hosts += [
        _forwarded(one, desired.keys, lanes[one.lane], crossing) for one in desired.forwarded if one.lane in lanes
    ]
    secure = tuple(secured(host, tls) for host in hosts)
    return Gateway(
        listen=listen,
        site_hosts=(f"{SITE_HOST}.{desired.base_domain}",),
        tls=tls,
        hosts=secure,
        clusters=tuple(_cluster(service, revision, protocols) for service, revision in routed.values()),
        credentials=tuple(
            Credential(
                key=key.id,
                sha256=key.sha256,
                project=key.project if key.services is None else None,
                ceiling=key.max_level,
                expires_at=key.expires_at,
            )
            for key in desired.keys
        ),
        site=desired.site_name or desired.site,
        site_id=desired.site,
        crossing=crossing,
        peers=desired.peers,
        inside=Inside(network=inside, hosts=_called(desired, hosts)) if inside else None,
        cut=desired.cut,
    )


def _called(desired: DesiredState, hosts: Iterable[VirtualHost]) -> tuple[VirtualHost, ...]:
    """The services that others here call, each for the keys of those alone: no project's keys open it."""
    own = {own_key(service.id) for service in desired.services}
    keys = tuple(key for key in desired.keys if key.id in own)
    found = []
    for host in hosts if keys else ():
        if callers := _named(host.service, keys):
            found.append(replace(host, public=False, project=NO_PROJECT, allowed_keys=callers, ignored_paths=()))
    return tuple(found)


def endpoints(replicas: Iterable[Replica]) -> tuple[Endpoint, ...]:
    """Where a revision's requests go: its ready replicas; the others that may still carry some keep their place,
    so that these stay counted, and are given nothing."""
    serving = sorted((one for one in replicas if one.state in SERVING), key=lambda one: one.id)
    return tuple(Endpoint(address=one.address, draining=one.state is not ReplicaState.READY) for one in serving)


def _is_routed(service: Service, revision: Revision) -> bool:
    shared = any(share.revision == revision.id for share in service.shares)
    return shared or (service.trial is not None and service.trial.revision == revision.id)


def _cluster(service: Service, revision: Revision, protocols: Mapping[RevisionId, Protocol]) -> Cluster:
    protocol = revision.protocol
    if protocol is Protocol.AUTO:
        protocol = protocols.get(revision.id, Protocol.HTTP1)
    return Cluster(
        name=cluster_name(service.id, revision.id),
        protocol=protocol,
        max_per_replica=service.scaling.max_concurrency,
    )


def _host(service: Service, keys: tuple[Key, ...], lane: Lane | None, crossing: Crossing | None) -> VirtualHost:
    others = nearest_first(lane.to, crossing.near) if lane and crossing else ()
    public = service.access is Access.PUBLIC
    deadlines = _deadlines(service)
    return VirtualHost(
        service=service.id,
        project=service.project,
        name=service.name,
        hosts=service.hosts,
        public=public,
        allowed_keys=() if public else _named(service.id, keys),
        clusters=tuple(
            WeightedCluster(
                cluster=cluster_name(service.id, share.revision), revision=share.revision, percent=share.percent
            )
            for share in service.shares
        ),
        level=service.label.level,
        ignored_paths=service.sleep.ignore if public else (),
        request_deadline=deadlines.request,
        idle_deadline=deadlines.idle,
        startup_deadline=deadlines.startup,
        elsewhere=Elsewhere(sites=others) if others else None,
        entries=lane.entries if lane else (),
        decision=lane.id if lane else "",
    )


def _forwarded(service: Forwarded, keys: tuple[Key, ...], lane: Lane, crossing: Crossing | None) -> VirtualHost:
    """A service that runs elsewhere, which is nowhere where no other site can be met. Its paths and deadlines are kept
    there."""
    public = service.access is Access.PUBLIC
    return VirtualHost(
        service=service.id,
        project=service.project,
        name=service.name,
        hosts=service.hosts,
        public=public,
        allowed_keys=() if public else _named(service.id, keys),
        clusters=(),
        level=lane.label.level,
        here=False,
        elsewhere=Elsewhere(
            sites=nearest_first(lane.to, crossing.near) if crossing else (), revisions=service.revisions
        ),
        decision=lane.id,
    )


def nearest_first(sites: tuple[SiteId, ...], near: Sequence[SiteId]) -> tuple[SiteId, ...]:
    """The same sites: those `near` first, in that order, then the others as they were."""
    return (*(one for one in near if one in sites), *(one for one in sites if one not in near))


def _named(service: ServiceId, keys: tuple[Key, ...]) -> tuple[KeyId, ...]:
    """The keys that name this service."""
    return tuple(sorted(key.id for key in keys if key.services is not None and service in key.services))


def secured(host: VirtualHost, tls: Tls | None) -> VirtualHost:
    """The service with those of its hosts that have a certificate."""
    if tls is None or not tls.names:
        return host
    known = frozenset(tls.names)
    secure = tuple(name for name in (*host.hosts, *host.own_hosts) if covers(known, name))
    return replace(host, secure_hosts=secure, secure_port=tls.port) if secure else host


def _deadlines(service: Service) -> Deadlines:
    """Those of the revision with the greatest share."""
    best = max(service.shares, key=lambda share: share.percent, default=None)
    revision = service.revision(best.revision) if best else None
    return revision.deadlines if revision else Deadlines()
