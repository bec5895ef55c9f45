"""Gateways as a site may want them, by name: what `test_xds.py` has translated into Envoy's configuration."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from kasbah.domain.crossing import Peer
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
from kasbah.domain.label import Level
from kasbah.domain.revision import Protocol

PROJECT = ProjectId("pr-default")
NOTES = ServiceId("sv-notes")
FIRST, SECOND = RevisionId("rv-first"), RevisionId("rv-second")


def site(*hosts: VirtualHost, clusters: tuple[Cluster, ...] = (), credentials: tuple[Credential, ...] = ()) -> Gateway:
    return Gateway(
        listen="127.0.0.1:8080",
        site_hosts=("kasbah.localhost",),
        site="rabat",
        hosts=hosts,
        clusters=clusters,
        credentials=credentials,
    )


def host(*shares: tuple[RevisionId, int], **fields: object) -> VirtualHost:
    known: dict[str, object] = {"public": True, "allowed_keys": ()} | fields
    return VirtualHost(
        service=NOTES,
        project=PROJECT,
        name="notes",
        hosts=("notes.localhost", "notes--default.localhost"),
        clusters=tuple(
            WeightedCluster(cluster=f"{NOTES}/{revision}", revision=revision, percent=percent)
            for revision, percent in shares
        ),
        **known,  # type: ignore[arg-type]
    )


def cluster(
    *addresses: str,
    revision: RevisionId = FIRST,
    draining: tuple[str, ...] = (),
    protocol: Protocol = Protocol.HTTP1,
    max_per_replica: int | None = None,
) -> Cluster:
    endpoints = [Endpoint(address=one) for one in addresses] + [
        Endpoint(address=one, draining=True) for one in draining
    ]
    return Cluster(
        name=f"{NOTES}/{revision}", protocol=protocol, endpoints=tuple(endpoints), max_per_replica=max_per_replica
    )


def key(name: str, project: ProjectId | None = None) -> Credential:
    return Credential(key=KeyId(name), sha256=hashlib.sha256(name.encode()).hexdigest(), project=project)


def peer(name: str, address: str = "", **fields: Any) -> Peer:
    return Peer(
        site=SiteId(f"st-{name}"), name=name, identity=f"spiffe://in-1/site/st-{name}", address=address, **fields
    )


CROSSES = replace(
    site(
        replace(host((FIRST, 100), public=False), entries=(SiteId("st-b"), SiteId("st-d")), decision="dc-1"),
        replace(
            host(public=False, allowed_keys=(KeyId("ky-a"),)),
            service=ServiceId("sv-far"),
            name="far",
            hosts=("far.localhost",),
            here=False,
            elsewhere=Elsewhere(sites=(SiteId("st-b"), SiteId("st-c")), revisions=(FIRST,)),
            decision="dc-2",
        ),
        replace(
            host(),
            service=ServiceId("sv-nowhere"),
            name="nowhere",
            hosts=("nowhere.localhost",),
            here=False,
            elsewhere=Elsewhere(sites=()),
            decision="dc-3",
        ),
        replace(
            host((SECOND, 100)),
            service=ServiceId("sv-both"),
            name="both",
            hosts=("both.localhost",),
            elsewhere=Elsewhere(sites=(SiteId("st-b"), SiteId("st-c"))),
            entries=(SiteId("st-c"),),
            decision="dc-4",
        ),
        clusters=(cluster("127.0.0.1:4001"), cluster("127.0.0.1:4002", revision=SECOND)),
        credentials=(key("ky-a"),),
    ),
    crossing=Crossing(listen="192.0.2.1:9443"),
    peers=(peer("b", "192.0.2.2:9443", key="ab" * 32), peer("c", "gateway.example.org:9443"), peer("d", tunnel=True)),
)
"""What crosses: a service here that others may send to, one elsewhere, one that no site serves at present, and one that
runs both here and elsewhere."""

HOLDS_TUNNELS = replace(CROSSES, site_id=SiteId("st-a"), crossing=Crossing(tunnel=True))

SPEAKS_TLS = replace(site(), tls=Tls(listen="[::1]:8443", names=("shop.example.org", "*.notes.localhost")))

CASES: dict[str, Gateway] = {
    "empty": site(),
    "public-service": site(host((FIRST, 100)), clusters=(cluster("127.0.0.1:4001", "[::1]:4002"),)),
    "asleep": site(host((FIRST, 100)), clusters=(cluster(),)),
    "not-ready": site(host()),
    "replicas-with-networks": replace(
        site(host((FIRST, 100)), clusters=(cluster("127.0.0.1:4001"),), credentials=(key("ky-sv-shop"),)),
        inside=Inside(
            network="100.64.16.0/20",
            hosts=(
                replace(host((FIRST, 100), public=False, allowed_keys=(KeyId("ky-sv-shop"),)), project=ProjectId("")),
            ),
        ),
    ),
    "keys-of-the-project": site(
        host((FIRST, 100), public=False),
        clusters=(cluster(),),
        credentials=(key("ky-b", PROJECT), key("ky-a", PROJECT), key("ky-elsewhere", ProjectId("pr-other"))),
    ),
    "keys-by-name": site(
        host((FIRST, 100), public=False, allowed_keys=(KeyId("ky-a"), KeyId("ky-b"))),
        clusters=(cluster(),),
        credentials=(key("ky-a"), key("ky-b"), key("ky-c")),
    ),
    "keys-with-ends": site(
        host((FIRST, 100), public=False, level=Level.RESTRICTED),
        clusters=(cluster(),),
        credentials=(
            replace(key("ky-a", PROJECT), ceiling=Level.PUBLIC),
            replace(key("ky-b", PROJECT), expires_at=datetime(2027, 1, 1, 12, 0, 0, 900_000, tzinfo=UTC)),
        ),
    ),
    "no-keys": site(host((FIRST, 100), public=False), clusters=(cluster(),)),
    "ignored-paths": site(host((FIRST, 100), ignored_paths=("/robots.txt", "/.well-known/")), clusters=(cluster(),)),
    "deadlines": site(
        host(
            (FIRST, 100),
            request_deadline=timedelta(seconds=2.5),
            idle_deadline=timedelta(seconds=90),
            startup_deadline=timedelta(minutes=3),
        ),
        clusters=(cluster(),),
    ),
    "h2c": site(host((FIRST, 100)), clusters=(cluster("127.0.0.1:4001", protocol=Protocol.H2C),)),
    "shares": site(
        host((FIRST, 90), (SECOND, 10)),
        clusters=(cluster("127.0.0.1:4001"), cluster("127.0.0.1:4002", revision=SECOND)),
    ),
    "at-hand": site(
        host((SECOND, 100), (FIRST, 0)),
        clusters=(cluster("127.0.0.1:4002", revision=SECOND), cluster()),
    ),
    "limited": site(host((FIRST, 100)), clusters=(cluster("127.0.0.1:4001", max_per_replica=8),)),
    "secure": site(
        host(
            (FIRST, 100),
            public=False,
            secure_hosts=("notes.localhost", f"{FIRST}.notes.localhost"),
            secure_port=8443,
        ),
        clusters=(cluster(),),
    ),
    "draining": site(host((FIRST, 100)), clusters=(cluster("127.0.0.1:4001", draining=("127.0.0.1:4002",)),)),
}
