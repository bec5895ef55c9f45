"""What a gateway should do, in our own words: neutral of Envoy, complete, and checked whole before it is served.

`decide/routing.py` writes it; `agent/gateway/translate.py` turns it into Envoy's resources.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from kasbah.domain.crossing import Peer
from kasbah.domain.ids import KeyId, ProjectId, RevisionId, ServiceId, SiteId
from kasbah.domain.label import Level
from kasbah.domain.revision import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A replica's address in a cluster. `draining`: it finishes what it has and is given nothing new."""

    address: str
    draining: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The replicas of one revision. Behind them always stands the gate, so that a request that finds no replica
    becomes a hold and not an error. `max_per_replica` bounds what is in flight on each (None: no bound of ours); then
    every request passes the gate, which alone can keep the bound exactly."""

    name: str
    protocol: Protocol
    endpoints: tuple[Endpoint, ...] = ()
    max_per_replica: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedCluster:
    """A cluster's part of a route's traffic, in percent. One of 0 is reached at its revision's own host only."""

    cluster: str
    revision: RevisionId
    percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """Where else a service is: the other sites that serve it, the first choice first. `revisions`: what it has where it
    does not run here too."""

    sites: tuple[SiteId, ...]
    revisions: tuple[RevisionId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualHost:
    """One service as callers see it: its hosts, who may call, where its requests go and how long they may take.

    Keys that open every service of `project` may call, and so may `allowed_keys`, unless their ceiling is below
    `level`, its label's. Without clusters it answers that it is not ready. Each revision among them also answers alone,
    at `revision_hosts`. At `secure_hosts` (of its own or of its revisions) callers without TLS are sent to it, at
    `secure_port`.

    `elsewhere`: other sites serve it. `here`: this one does, and what it cannot serve is sent on; otherwise everything
    is. `entries` are the sites that may send requests for it here. `decision` names what was decided about where its
    requests may go.
    """

    service: ServiceId
    project: ProjectId
    name: str
    hosts: tuple[str, ...]
    public: bool
    allowed_keys: tuple[KeyId, ...]
    clusters: tuple[WeightedCluster, ...]
    level: Level = Level.VITAL
    ignored_paths: tuple[str, ...] = ()
    request_deadline: timedelta | None = None
    idle_deadline: timedelta = timedelta(minutes=5)
    startup_deadline: timedelta = timedelta(seconds=60)
    secure_hosts: tuple[str, ...] = ()
    secure_port: int = 443
    here: bool = True
    elsewhere: Elsewhere | None = None
    entries: tuple[SiteId, ...] = ()
    decision: str = ""

    @property
    def own_hosts(self) -> tuple[str, ...]:
        """Where its revisions answer, each alone."""
        told = self.elsewhere.revisions if self.elsewhere is not None else ()
        routed = [one.revision for one in self.clusters] if self.here else told
        return tuple(name for one in routed for name in self.revision_hosts(one))

    def revision_hosts(self, revision: RevisionId) -> tuple[str, ...]:
        """Where one revision answers, whatever its part of the traffic: `REVISION.HOST`."""
        return tuple(f"{revision}.{host}" for host in self.hosts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A key the gateway knows: its id and its SHA-256 in hexadecimal. The key itself is nowhere.

    `project`: it opens every service of that project; None: only those that name it. `ceiling` is the highest level of
    those that it opens; from `expires_at` on it opens nothing, whether or not there is an agent.
    """

    key: KeyId
    sha256: str
    project: ProjectId | None = None
    ceiling: Level | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Where TLS is spoken (`host:port`), and the names there are certificates for, wildcards included. The certificates
    themselves are no part of a description, so that one is renewed without it; keys are in none."""

    listen: str
    names: tuple[str, ...] = ()

    @property
    def port(self) -> int:
        """The port of `listen`."""
        return int(self.listen.rpartition(":")[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """How a gateway that has an identity to prove meets those of other sites. `listen`: where it takes what they send,
    `host:port`; None: nowhere. `tunnel`: nobody can dial it, so that it takes what comes through tunnels that it holds
    to others. Sites that are `near` are tried first, in this order."""

    listen: str | None = None
    tunnel: bool = False
    near: tuple[SiteId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """What replicas may ask for that have networks of their own, from whose addresses (`network`) they come: the
    services that one of them says it calls, each for those who do, and nothing else. Whoever else may call a service,
    and whatever keys others have, changes nothing for them."""

    network: str
    hosts: tuple[VirtualHost, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """Everything a site's gateway does, at one moment. `listen` is `host:port`; `site_hosts` reach the agent's
    own door for sources and logs. `tls`: where it speaks TLS too, None where it does not. `site` is the site's name,
    `crossing` how it meets its `peers`; None: it does not. `inside`: what replicas may ask for, None where they come
    from where callers do too. Where `cut` becomes another, connections that are open end: something of what they carry
    may not pass any more."""

    listen: str
    site_hosts: tuple[str, ...]
    tls: Tls | None = None
    hosts: tuple[VirtualHost, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    credentials: tuple[Credential, ...] = ()
    site: str = ""
    site_id: SiteId = SiteId("")
    crossing: Crossing | None = None
    peers: tuple[Peer, ...] = ()
    inside: Inside | None = None
    cut: str = ""
