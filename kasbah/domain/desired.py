"""Desired state: one document per site, with its place in history. Generations only grow within an epoch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kasbah.domain.attestation import RevisionAttested
from kasbah.domain.caller import StatedKey
from kasbah.domain.charter import Signed
from kasbah.domain.crossing import Forwarded, Lane, Neighbour, Peer
from kasbah.domain.grant import GrantKind
from kasbah.domain.ids import Digest, InstallationId, ProjectId, ServiceId, SiteId
from kasbah.domain.label import Label
from kasbah.domain.service import Key, Service

PROTOCOL = 1
"""The version of the documents agent and control exchange; each side understands its own and the one before."""


Pass = tuple[ServiceId, SiteId]
"""A service's requests, and the site where they come from callers and go on to another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedGrant:
    """What the owner granted, as he signed it."""

    kind: GrantKind
    signed: Signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Standby:
    """A service that a site may have to take over, and the source that it keeps for that; with the label of the
    service's data, and the most that was ever declared of it."""

    id: ServiceId
    project: ProjectId
    name: str
    source: Digest
    label: Label
    declared: Label | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredState:
    """What a site must be. `valid_until` is the earliest expiry any decision in it used (None: none had one).
    `standby` are sources that it keeps for services that it may have to take over.

    `services` run here and `forwarded` elsewhere, both in the `lanes` that they name; `peers` are the other sites that
    the lanes name, and no others may send anything here. `neighbours` are those whose distance counts for some service.

    `charters` (of this site, of its peers and of the first site), `grants` and the `lawbook` with this version are the
    owner's: the site holds everything else against them. `deployers` are those that he named, `attestations` what they
    signed of the services' revisions.

    `own_keys` is what other sites state of the keys that services there call those of this one with.

    `cut` is another whenever the law took something from what passes here: streams that are open end then. `withdrawn`
    is another whenever it took something that lay here: what is left of that is erased then.
    """

    protocol: int = PROTOCOL
    installation: InstallationId
    epoch: int
    generation: int
    site: SiteId
    issued_at: datetime
    valid_until: datetime | None = None
    base_domain: str
    services: tuple[Service, ...] = ()
    keys: tuple[Key, ...] = ()
    standby: tuple[Standby, ...] = ()
    site_name: str = ""
    peers: tuple[Peer, ...] = ()
    lanes: tuple[Lane, ...] = ()
    forwarded: tuple[Forwarded, ...] = ()
    charters: tuple[Signed, ...] = ()
    lawbook: int = 0
    grants: tuple[SignedGrant, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    deployers: tuple[Signed, ...] = ()
    attestations: tuple[RevisionAttested, ...] = ()
    own_keys: tuple[StatedKey, ...] = ()
    cut: str = ""
    withdrawn: str = ""

    @property
    def version(self) -> tuple[int, int]:
        """Its place in history: a later one is greater."""
        return (self.epoch, self.generation)

    @property
    def sources(self) -> frozenset[Digest]:
        """The sources of what runs here, and of what this site may have to take over."""
        built = (revision.source for service in self.services for revision in service.revisions)
        return frozenset((*built, *(one.source for one in self.standby)))

    @property
    def passing(self) -> frozenset[Pass]:
        """What passes here between callers and other sites."""
        lanes = {lane.id: lane for lane in self.lanes}
        sent_on = ((one.id, self.site) for one in self.forwarded if one.lane in lanes)
        mine = [(one.id, lanes[one.lane]) for one in self.services if one.lane in lanes]
        comes = ((service, entry) for service, lane in mine for entry in lane.entries)
        return frozenset((*sent_on, *((service, self.site) for service, lane in mine if lane.to), *comes))

    @property
    def sent(self) -> frozenset[tuple[ServiceId, SiteId]]:
        """Which services' requests go to which other sites from here."""
        lanes = {lane.id: lane for lane in self.lanes}
        there: tuple[Service | Forwarded, ...] = (*self.services, *self.forwarded)
        return frozenset((one.id, site) for one in there if one.lane in lanes for site in lanes[one.lane].to)
