"""What each site's desired state says of the others: who they are, where requests go, and what is forwarded.

Decided once for all sites, from where services were placed, the law, and the addresses that sites report.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from kasbah.control.store.records import ServiceRecord, SiteRecord
from kasbah.control.usecases.lawful import Lawful
from kasbah.decide.crossing import Decision, decide, lane
from kasbah.domain.crossing import Lane, Peer, address_error, spiffe_id
from kasbah.domain.ids import InstallationId, ServiceId, SiteId
from kasbah.domain.label import Label
from kasbah.domain.law import Purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossings:
    """What was decided about every service that is placed, each decision with its services in `classes`, and how sites
    meet."""

    decisions: Mapping[ServiceId, Decision]
    classes: Mapping[str, tuple[Decision, tuple[ServiceId, ...]]]
    peers: Mapping[SiteId, Peer]
    _passing: dict[tuple[str, bool], Lane | None] = field(default_factory=dict)
    """What sites that serve nothing of it have in common, by decision and by whether they are dialled themselves."""

    def lanes(self, site: SiteId) -> dict[str, Lane]:
        """By decision, its lane at this site; none where its requests may not be."""
        comes = site in self.peers and bool(self.peers[site].address)
        dialled = {one.site for one in self.peers.values() if one.address or (one.tunnel and comes)}
        found = {}
        for decision, _ in self.classes.values():
            its = self._lane(decision, site, dialled, comes=comes)
            if its is not None:
                found[decision.id] = its
        return found

    def _lane(self, decision: Decision, site: SiteId, dialled: Collection[SiteId], *, comes: bool) -> Lane | None:
        if site in decision.serving or site not in decision.passing:
            return lane(decision, site, dialled)
        asked = (decision.id, comes)
        if asked not in self._passing:
            self._passing[asked] = lane(decision, site, dialled)
        return self._passing[asked]

    def met(self, lanes: Sequence[Lane]) -> tuple[Peer, ...]:
        """The sites that these lanes name."""
        named = {site for one in lanes for site in (*one.to, *one.entries)}
        return tuple(peer for site, peer in self.peers.items() if site in named)


def crossings(
    installation: InstallationId, sites: Sequence[SiteRecord], services: Sequence[ServiceRecord], lawful: Lawful
) -> Crossings:
    """For all sites and services at once: of many services few are decided differently."""
    known: dict[tuple[Label, tuple[SiteId, ...], frozenset[SiteId], frozenset[SiteId]], Decision] = {}
    decisions: dict[ServiceId, Decision] = {}
    for service in services:
        chosen = service.placement.chosen if service.placement else ()
        if not chosen:
            continue
        place, forward = lawful.at(service, Purpose.PLACE), lawful.at(service, Purpose.FORWARD)
        asked = (service.label, chosen, place, forward)
        if asked not in known:
            known[asked] = decide(service.label, chosen, place=place, forward=forward)
        decisions[service.id] = known[asked]
    alike: dict[str, list[ServiceId]] = defaultdict(list)
    for one, decision in decisions.items():
        alike[decision.id].append(one)
    return Crossings(
        decisions=decisions,
        classes={its: (decisions[found[0]], tuple(found)) for its, found in alike.items()},
        peers={one.id: _peer(installation, one) for one in sites},
    )


def _peer(installation: InstallationId, site: SiteRecord) -> Peer:
    """An address that is none is left out: it must not spoil what other sites are told."""
    address = site.report.peers_address if site.report else ""
    return Peer(
        site=site.id,
        name=site.name,
        identity=spiffe_id(installation, site.id),
        address="" if address_error(address) else address,
        tunnel=site.report.tunnel if site.report else False,
        key=site.charter.gateway_key,
    )
