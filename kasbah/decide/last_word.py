"""What of a desired state does a site accept? The site's own word, by nothing but what the owner signed.

A control plane that somebody captured signs desired states as before. It cannot sign facts about sites, law, grants, or
a lower label. So each site asks again, with what it holds of these: whether a service's data may be here, whether its
requests may pass here, to which other sites they may go or from which they may come, whose sources may be kept, and
what it may call. What is refused is left out, with the reason; stopping services is all that is left to who cannot
sign.

No law, no charter, or an error in an answer is a no. Public data needs neither, and is held to what the law says of it
where there are both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from operator import is_

from kasbah.decide import signed
from kasbah.decide.admission import Admissions
from kasbah.decide.egress import UNKNOWN, Called, Exits, exits, kept, limited, outside_of
from kasbah.decide.grants import Grants, lowers
from kasbah.decide.hosts import Hosts, at_hosts, of_source, strange
from kasbah.decide.signed import Signatures, Taken
from kasbah.decide.standing import standing
from kasbah.domain.charter import Charter
from kasbah.domain.crossing import Forwarded, Lane, Peer
from kasbah.domain.desired import DesiredState, Standby
from kasbah.domain.ids import Digest, ProjectId, RevisionId, ServiceId, SiteId
from kasbah.domain.label import Label, Level, combine
from kasbah.domain.law import NOBODY_SAID, Admission, Data, Place, Purpose
from kasbah.domain.service import Key, Service, own_key
from kasbah.domain.site import FIRST_SITE, OPEN

Held = Service | Forwarded | Standby
"""What a site may have of a service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What a site holds that the owner signed: charters of sites, the law with its country, grants in force. `floors`
    are the highest labels that it has seen of services; `stale_after` by level how long the last word from the control
    plane, at `heard_at`, is good for; `egress` what this site can keep replicas from calling
    (`domain.site.Isolation`); `hosts` what came to hosts before; `signatures` who deployed what (None: nothing is known
    of that, and nothing asked). `pinned` is the law with the packs that the site's own owner added: what it refuses is
    refused here, public data too."""

    charters: Mapping[SiteId, Charter] = field(default_factory=dict)
    law: Admissions | None = None
    pinned: Admissions | None = None
    home: str | None = None
    grants: Grants = Grants()
    floors: Mapping[ServiceId, Label] = field(default_factory=dict)
    stale_after: Mapping[int, timedelta] = field(default_factory=dict)
    heard_at: datetime | None = None
    egress: str = OPEN
    hosts: Hosts = field(default_factory=dict)
    signatures: Signatures | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What the site acts on, and by service, by name, why others were refused; the revisions that no deployer signed
    who may, and what was taken of those that one did. `closed` is by service, by name, what its file names and it may
    not call, with the reason. Of the services in `outspoken` alone the control plane may have what they print."""

    desired: DesiredState
    refused: Mapping[str, str]
    closed: Mapping[str, str] = field(default_factory=dict)
    unsigned: Mapping[ServiceId, Mapping[RevisionId, str]] = field(default_factory=dict)
    taken: Taken = field(default_factory=dict)
    outspoken: frozenset[ServiceId] = frozenset()


def accept(told: DesiredState, word: Word, now: datetime) -> Accepted:
    """What of it the site acts on at this moment."""
    judge = Judge(told, word, now)
    services, forwarded, refused, closed = [], [], {}, {}
    unsigned: dict[ServiceId, Mapping[RevisionId, str]] = {}
    taken = {} if word.signatures is None else dict(word.signatures.taken)
    for told_of in told.services:
        label = judge.label(told_of, told_of.label)
        if (why := judge.refusal(told_of, label, Purpose.PLACE)) is not None:
            refused[told_of.name] = why
            continue
        service: Service | None = told_of
        if word.signatures is not None:
            if left_out := signed.unsigned(told_of, label, word.signatures):
                unsigned[told_of.id] = left_out
                service = signed.without(told_of, left_out)
            taken[told_of.id] = signed.taken(told_of, label, word.signatures, left_out)
        if service is None:
            refused[told_of.name] = _unsigned(unsigned[told_of.id])
            continue
        reaches = judge.reaches(service, label)
        if (why := judge.cannot_keep(service, reaches)) is not None:
            refused[service.name] = why
            continue
        services.append(judge.confined(service, label, reaches))
        if shut := {way.entry: _because(way.admission) for reach in reaches for way in (*reach.refused, *reach.barred)}:
            closed[service.name] = "; ".join(f"{entry} ({reason})" for entry, reason in shut.items())
    opened = {own_key(one.id): judge.calls(one) for one in services}
    for one in told.forwarded:
        lane = judge.lanes.get(one.lane)
        label = Label(declared=False) if lane is None else judge.label(one, lane.label)
        if (why := judge.refusal(one, label, Purpose.FORWARD)) is None:
            forwarded.append(one)
        else:
            refused[one.name] = why
    standby = tuple(
        one for one in told.standby if judge.refusal(one, judge.label(one, one.label), Purpose.BUILD) is None
    )
    used = {*(one.lane for one in services), *(one.lane for one in forwarded)}
    open_to = tuple(judge.lane(lane, (*services, *forwarded)) for lane in told.lanes if lane.id in used)
    named = {site for lane in open_to for site in (*lane.to, *lane.entries)} & word.charters.keys()
    accepted = replace(
        told,
        services=tuple(services),
        forwarded=tuple(forwarded),
        standby=standby,
        keys=tuple(_opening(key, opened.get(key.id)) for key in told.keys),
        lanes=open_to,
        peers=tuple(judge.known(peer) for peer in told.peers if peer.site in named),
    )
    return Accepted(
        desired=replace(accepted, cut=cut(told, accepted)),
        refused=refused,
        closed=closed,
        unsigned=unsigned,
        taken=taken,
        outspoken=frozenset(one.id for one in services if judge.outspoken(one)),
    )


def level_of(service: ServiceId, told: DesiredState, word: Word, now: datetime) -> Level:
    """The level of a service's data as the site knows it; of one that it does not know, as of what nobody labelled."""
    held = next((one for one in told.services if one.id == service), None)
    if held is not None:
        return Judge(told, word, now).label(held, held.label).level
    return word.floors.get(service, Label(declared=False)).level


def cut(told: DesiredState, accepted: DesiredState) -> str:
    """What the control plane took last from what passes here, and what this site itself takes."""
    counts = [(len(one.services), len(one.forwarded)) for one in (told, accepted)]
    if accepted.lanes == told.lanes and counts[0] == counts[1]:  # of thousands, mostly none is refused
        return told.cut
    taken = sorted((told.passing - accepted.passing) | (told.sent - accepted.sent))
    return f"{told.cut} {hashlib.sha256(repr(taken).encode()).hexdigest()[:16]}" if taken else told.cut


def still_refused(services: Iterable[Service], told: DesiredState, word: Word, now: datetime) -> dict[ServiceId, str]:
    """Of services that are told here no more, those that would be refused as before, and why."""
    judge = Judge(told, word, now)
    asked = ((one.id, judge.unlawful(one, judge.label(one, one.label), Purpose.PLACE)) for one in services)
    return {service: why for service, why in asked if why is not None}


def refuses_to_hand(source: Digest, to: SiteId, told: DesiredState, word: Word, now: datetime) -> str | None:
    """Why this site does not hand a source that it has to another site; None where it does: every service that it is
    told of and that is made of it may be built there."""
    judge = Judge(told, word, now)
    made: list[Service | Standby] = [
        one for one in told.services if any(kept.source == source for kept in one.revisions)
    ]
    made += [one for one in told.standby if one.source == source]
    held = word.hosts.get(of_source(source))
    if made and held is not None and (held.project, held.service) not in {(one.project, one.name) for one in made}:
        # What it was made for first is told no more: whoever tells what a source is of now may tell it otherwise.
        own = Standby(id=ServiceId(""), project=held.project, name=held.service, source=source, label=held.label)
        if (why := judge.refusal(own, held.label, Purpose.BUILD, at=to)) is not None:
            return why
    refusals = (judge.refusal(one, judge.label(one, one.label), Purpose.BUILD, at=to) for one in made)
    return next((why for why in refusals if why is not None), None) if made else "nothing here is made of it"


def changes_at(word: Word, now: datetime) -> datetime | None:
    """When the answer may be another although nothing new is said: the next moment at which a fact begins or ends, a
    grant ends, or a deployer is named (once he is named no more, what was taken stays). None: never. Where data may go
    stale, that is at once."""
    if word.stale_after:
        return now
    facts = (standing(charter, word.home, now).until for charter in word.charters.values())
    approvals = (one.expires_at for one in word.grants.approvals)
    lowered = (one.expires_at for one in word.grants.declassifications)
    named = None if word.signatures is None else word.signatures.next_begins_at
    return min((one for one in (*facts, *approvals, *lowered, named) if one is not None), default=None)


def floors(told: DesiredState, before: Mapping[ServiceId, Label]) -> dict[ServiceId, Label]:
    """The highest labels seen, with those of this desired state, and what it says was ever declared. What is not
    declared adds nothing."""
    lanes = {lane.id: lane.label for lane in told.lanes}
    said: list[tuple[ServiceId, Label | None]] = []
    for one in told.services:
        said += [(one.id, one.label), (one.id, one.declared)]
    for other in told.forwarded:
        said += [(other.id, lanes.get(other.lane)), (other.id, other.declared)]
    for source in told.standby:
        said += [(source.id, source.label), (source.id, source.declared)]
    found = dict(before)
    for service, label in said:
        if label is not None and label.declared:
            known = found.get(service)
            found[service] = label if known is None else combine(known, label)
    return found


class Judge:
    """The question, asked as the site asks it."""

    def __init__(self, told: DesiredState, word: Word, now: datetime) -> None:
        self._told = told
        self._word = word
        self._now = now
        self._places: dict[SiteId, Place] = {
            site: standing(charter, word.home, now).place for site, charter in word.charters.items()
        }
        self._outside = [
            outside_of(charter, self._places[site]) for site, charter in word.charters.items() if charter.hosts
        ]
        self.lanes = {lane.id: lane for lane in told.lanes}
        self._called: dict[tuple[ProjectId, str], Called] | None = None

    def label(self, service: Held, said: Label) -> Label:
        """The label of a service's data: what is said of it, but no less than was ever said, unless the owner lowered
        it; and no less than came to its hosts, unless a deployer signed it."""
        floor = self._word.floors.get(service.id)
        if floor is not None and lowers(floor, said):
            return said if self._word.grants.lowered(service.id, said) is not None else combine(floor, said)
        known = self._word.signatures
        if known is None or isinstance(service, Standby):  # nobody calls what only waits
            return said
        return at_hosts(service, said, self._word.hosts, known)

    def refusal(self, service: Held, label: Label, purpose: Purpose, *, at: SiteId | None = None) -> str | None:
        """Why this service is refused here, or at another site; None where it is not."""
        limit = self._word.stale_after.get(int(label.level))
        heard = self._word.heard_at
        if limit is not None and (heard is None or self._now - heard > limit):
            return f"nothing was heard of the control plane for longer than the law allows for level {int(label.level)}"
        if not isinstance(service, Standby) and (host := strange(service)) is not None:
            return f"{host!r} is not the name of one host: what answered there could take what is sent to others"
        return self.unlawful(service, label, purpose, at=at)

    def unlawful(self, service: Held, label: Label, purpose: Purpose, *, at: SiteId | None = None) -> str | None:
        """Why this service may not be here, or at another site, however lately the control plane was heard; None where
        it may."""
        site = at or self._told.site
        asked = (service, label, site, self._places.get(site), purpose)
        if not (answer := self._law(*asked)).allowed:
            return _why("the law that the owner signed", answer, "here" if at is None else "there")
        answer = self._pins(*asked)
        pack = "a pack that this site's own owner pinned"
        return None if answer.allowed else _why(pack, answer, "here" if at is None else "there")

    def outspoken(self, service: Service) -> bool:
        """Whether its logs may be where the control plane stands, which is the first site."""
        first = next((site for site, one in self._word.charters.items() if one.name == FIRST_SITE), SiteId(""))
        return self.ask(service, service.label, first, Purpose.LOG).allowed

    def lane(self, lane: Lane, services: Iterable[Service | Forwarded]) -> Lane:
        """The lane with the sites that may have these requests; the strictest label of those in it counts."""
        inside = [one for one in services if one.lane == lane.id]
        asked = [(one, self.label(one, lane.label)) for one in inside]

        def passes(one: Service | Forwarded, label: Label, site: SiteId) -> bool:
            return self.ask(one, label, site, Purpose.FORWARD).allowed

        return replace(
            lane,
            to=tuple(site for site in lane.to if all(self._may_go(one, label, site) for one, label in asked)),
            entries=tuple(site for site in lane.entries if all(passes(one, label, site) for one, label in asked)),
        )

    def known(self, peer: Peer) -> Peer:
        """A peer by the key that its charter names: the authority's word for another is worth nothing."""
        charter = self._word.charters.get(peer.site)
        return replace(peer, key=charter.gateway_key) if charter is not None and charter.gateway_key else peer

    def reaches(self, service: Service, label: Label) -> tuple[Exits, ...]:
        """What each of a service's revisions may call."""

        def ask(site: SiteId, place: Place) -> Admission:
            return self._admit(service, label, site, place, Purpose.EGRESS)

        def called(name: str) -> Called | None:
            return self._known_services().get((service.project, name))

        return tuple(exits(label, one, ask, outside=self._outside, called=called) for one in service.revisions)

    def cannot_keep(self, service: Service, reaches: tuple[Exits, ...]) -> str | None:
        """Why this site, which cannot keep some revision's replicas from calling what they may not, does not run it;
        None where it can, or need not."""
        if all(kept(self._word.egress, one.reach) for one in reaches if one.insists):
            return None
        return f"what it calls cannot be limited here (egress: {self._word.egress}), as its label or its file asks"

    def confined(self, service: Service, label: Label, reaches: tuple[Exits, ...]) -> Service:
        """The service with the label that counts here, and with what its replicas may call."""
        pairs = zip(service.revisions, reaches, strict=True)
        revisions = tuple(limited(one, reach, self._word.egress) for one, reach in pairs)
        same = label is service.label and all(map(is_, revisions, service.revisions))
        return service if same else replace(service, label=label, revisions=revisions)

    def calls(self, service: Service) -> frozenset[ServiceId]:
        """The services that its replicas may call."""
        names = {name for one in service.revisions for name in one.calls}
        there: tuple[Service | Forwarded, ...] = (*self._told.services, *self._told.forwarded)
        return frozenset(one.id for one in there if one.name in names and one.project == service.project)

    def _known_services(self) -> dict[tuple[ProjectId, str], Called]:
        """By project and name, the label of each service that can be called from here and the sites that serve it."""
        if self._called is None:
            found: list[tuple[Service | Forwarded, Label, tuple[SiteId, ...]]] = [
                (one, self.label(one, one.label), (self._told.site,)) for one in self._told.services
            ]
            for one in self._told.forwarded:
                if (lane := self.lanes.get(one.lane)) is not None:
                    found.append((one, self.label(one, lane.label), ()))
            self._called = {
                (one.project, one.name): Called(label=label, sites=self._sites((*sites, *self._sent_to(one, label))))
                for one, label, sites in found
            }
        return self._called

    def _sent_to(self, service: Service | Forwarded, label: Label) -> tuple[SiteId, ...]:
        """The other sites that its requests go to from here."""
        lane = self.lanes.get(service.lane)
        return () if lane is None else tuple(site for site in lane.to if self._may_go(service, label, site))

    def _may_go(self, service: Service | Forwarded, label: Label, site: SiteId) -> bool:
        return all(self.ask(service, label, site, one).allowed for one in (Purpose.PLACE, Purpose.FORWARD))

    def _sites(self, sites: Iterable[SiteId]) -> tuple[tuple[SiteId, Place], ...]:
        """These with what is known of them."""
        return tuple((site, self._places.get(site, UNKNOWN)) for site in sites)

    def ask(self, service: Held, label: Label, site: SiteId, purpose: Purpose) -> Admission:
        """Whether the law, and what is pinned here, let data of this service be at a site."""
        return self._admit(service, label, site, self._places.get(site), purpose)

    def _admit(self, service: Held, label: Label, site: SiteId, place: Place | None, purpose: Purpose) -> Admission:
        answer = self._law(service, label, site, place, purpose)
        return self._pins(service, label, site, place, purpose) if answer.allowed else answer

    def _law(self, service: Held, label: Label, site: SiteId, place: Place | None, purpose: Purpose) -> Admission:
        """What the law says that the owner signed. Public data needs none, nor that the place is known."""
        public = label.level is Level.PUBLIC and not label.categories and not label.regimes
        if public and (self._word.law is None or place is None):
            return Admission(allowed=True)
        return self._says(self._word.law, service, label, site, place, purpose)

    def _pins(self, service: Held, label: Label, site: SiteId, place: Place | None, purpose: Purpose) -> Admission:
        """What the packs say that the site's own owner pinned, where there are any; of public data too."""
        pinned = self._word.pinned
        return Admission(allowed=True) if pinned is None else self._says(pinned, service, label, site, place, purpose)

    def _says(
        self,
        law: Admissions | None,
        service: Held,
        label: Label,
        site: SiteId,
        place: Place | None,
        purpose: Purpose,
    ) -> Admission:
        if law is None or place is None:
            return NOBODY_SAID
        approvals = frozenset(self._word.grants.approved(service.id, service.project, site))
        return law.admit(Data(label=label), place, purpose, approvals=approvals)


def _opening(key: Key, called: frozenset[ServiceId] | None) -> Key:
    """A service's own key opens what the service may call, and no more; other keys are their callers' business."""
    if called is None or key.services is None or called.issuperset(key.services):
        return key
    return replace(key, services=tuple(one for one in key.services if one in called))


def _unsigned(revisions: Mapping[RevisionId, str]) -> str:
    """Why a service of which no revision may run is refused, by the newest; and the next step."""
    revision, why = list(revisions.items())[-1]
    return (
        f"its data is sensitive, and of its revision {revision}: {why}. Deploy it again with a key whose holder the "
        "owner has named (kasbah deployers add)"
    )


def _why(who: str, answer: Admission, where: str) -> str:
    named = answer.rules or answer.unmet
    return f"{who} refuses it {where}: {_because(answer)}" if named else answer.problem


def _because(answer: Admission) -> str:
    return ", ".join(rule.id for rule in (answer.rules or answer.unmet)) or answer.problem
