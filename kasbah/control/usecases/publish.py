"""What must each site be? Renders its desired state from the store; a new generation only where it says something new.

A service that was placed and that the law does not allow there any more is left out: its replicas end.

The document is signed over its exact bytes and stored in the transaction that changed what it says, so a site never
sees half a change, and two changes never share a generation. All sites that one change concerns get the same one, so
that "has acted on generation N" means the same at each.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kasbah.api.sealing import Vault
from kasbah.api.signing import DESIRED, sign
from kasbah.api.writing import Writer
from kasbah.control.store.interface import Transaction
from kasbah.control.store.records import (
    DesiredDocument,
    Installation,
    KeyRecord,
    RevisionRecord,
    ServiceRecord,
    SiteRecord,
)
from kasbah.control.usecases.callers import neighbours
from kasbah.control.usecases.crossing import Crossings, crossings
from kasbah.control.usecases.cutting import taken_by_law
from kasbah.control.usecases.law_now import LawNow
from kasbah.control.usecases.lawful import Lawful, Places, admissions, label_of, standings, until
from kasbah.control.usecases.service_keys import StatedTo, callers_keys, stated_keys, told_to
from kasbah.control.usecases.standbys import standbys
from kasbah.control.usecases.told import Reached, what_is_told
from kasbah.decide.standing import Standing
from kasbah.domain.attestation import RevisionAttested
from kasbah.domain.charter import Signed
from kasbah.domain.crossing import Forwarded, Neighbour
from kasbah.domain.desired import DesiredState, SignedGrant, Standby
from kasbah.domain.egress import met
from kasbah.domain.grant import GrantKind
from kasbah.domain.ids import Digest, ProjectId, RevisionId, ServiceId, SiteId
from kasbah.domain.label import Label, Level
from kasbah.domain.law import Admission
from kasbah.domain.service import Key, Service
from kasbah.domain.site import FIRST_SITE

NEVER = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST_LABEL = 63
OLDER_KINDS = (GrantKind.APPROVAL, GrantKind.DECLASSIFICATION)
"""What agents of the version before know among grants: they refuse a document with another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What a site is told from now on: the labels of its services, those before, and what the law takes from it."""

    site: SiteRecord
    epoch: int
    generation: int
    contents: Digest
    labels: Mapping[ServiceId, Label]
    before: Mapping[ServiceId, Label]
    refused: Mapping[ServiceId, Admission]


def publish(
    tx: Transaction,
    key: Ed25519PrivateKey,
    vault: Vault,
    law: LawNow,
    base_domain: str,
    now: datetime,
    reached: Reached,
) -> tuple[Publication, ...]:
    """Give every site whose desired state changed its next generation, all of them the same: who waits until several
    sites have taken a change waits for one number. Those sites."""
    installation = tx.installations.get()
    assert installation is not None, "the installation is made before anything is written"
    told, generation = [], tx.sites.generation(installation.epoch) + 1
    scene, last, writer = _scene(tx, installation, vault, law, base_domain, now), tx.sites.told(), Writer()
    mark = f"{installation.epoch}.{generation}"
    for site in scene.sites:
        blank = _render(scene, site)
        contents = _contents(writer, blank)
        epoch, _, known = last.get(site.id, (0, 0, None))
        if (epoch, known) == (installation.epoch, contents):
            continue
        before, there = reached.by(tx, site.id, known), what_is_told(blank)
        gone = before.passing - there.passing
        refused = _refused(tx, law, scene.there(site), before.lies - there.lies)
        now_told = replace(
            there,
            cut=mark if gone and taken_by_law(tx, law, scene.places, site.id, gone) else before.cut,
            withdrawn=mark if refused else before.withdrawn,
        )
        dated = replace(blank, generation=generation, issued_at=now)
        _write(tx, key, writer, replace(dated, cut=now_told.cut, withdrawn=now_told.withdrawn), contents)
        told.append(
            Publication(
                site=site,
                epoch=installation.epoch,
                generation=generation,
                contents=contents,
                labels=now_told.labels,
                before=before.labels,
                refused={one: why for one, why in refused.items() if one in before.labels},
            )
        )
        reached.known[site.id] = (contents, now_told)
    return tuple(told)


def clear(tx: Transaction, key: Ed25519PrivateKey, site: SiteRecord, base_domain: str, now: datetime) -> str:
    """Tell a site that was removed to run nothing: the last that it is told. The topic to announce."""
    installation = tx.installations.get()
    assert installation is not None, "the installation is made before anything is written"
    blank = DesiredState(
        installation=installation.id,
        epoch=installation.epoch,
        generation=0,
        site=site.id,
        issued_at=NEVER,
        base_domain=base_domain,
    )
    generation = tx.sites.generation(installation.epoch) + 1
    writer = Writer()
    _write(tx, key, writer, replace(blank, generation=generation, issued_at=now), _contents(writer, blank))
    return f"desired/{site.id}"


def _write(tx: Transaction, key: Ed25519PrivateKey, writer: Writer, state: DesiredState, contents: Digest) -> None:
    """Give a site its next desired state."""
    body = writer.write(state)
    tx.sites.save_desired(
        DesiredDocument(
            site=state.site,
            epoch=state.epoch,
            generation=state.generation,
            contents=contents,
            body=body,
            signature=sign(key, DESIRED, body),
        )
    )


def _contents(writer: Writer, blank: DesiredState) -> Digest:
    """What is said, but for its place in history."""
    return Digest("sha256:" + hashlib.sha256(writer.write(blank)).hexdigest())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """What every site's desired state is made from, looked at once. Services have the labels that their data has now;
    `numbers` are their places among them, `projects` are names."""

    installation: Installation
    law: LawNow
    base_domain: str
    sites: tuple[SiteRecord, ...]
    outside: tuple[SiteRecord, ...]
    standings: Mapping[SiteId, Standing]
    services: tuple[ServiceRecord, ...]
    numbers: Mapping[ServiceId, int]
    revisions: Mapping[ServiceId, Sequence[RevisionRecord]]
    attested: Mapping[ServiceId, tuple[RevisionAttested, ...]]
    projects: Mapping[ProjectId, str]
    across: Crossings
    standbys: Mapping[SiteId, tuple[Standby, ...]]
    neighbours: tuple[Neighbour, ...]
    keys: tuple[Key, ...]
    stated: StatedTo
    grants: tuple[SignedGrant, ...]
    deployers: tuple[Signed, ...]
    _forwarded: dict[ServiceId, Forwarded] = field(default_factory=dict)

    def forwarded(self, service: ServiceRecord) -> Forwarded:
        """A service that runs elsewhere, as any site takes requests for it: made once for all of them."""
        found = self._forwarded.get(service.id)
        if found is None:
            found = self._forwarded[service.id] = _forwarded(self, service, self.across.decisions[service.id].id)
        return found

    @property
    def places(self) -> Places:
        """All sites, as the law sees them."""
        return {site: one.place for site, one in self.standings.items()}

    def those(self, several: Iterable[tuple[ServiceId, ...]]) -> list[ServiceRecord]:
        """The services with these ids, in their order."""
        return [self.services[number] for number in sorted(self.numbers[one] for found in several for one in found)]

    def there(self, site: SiteRecord) -> Places:
        """This site alone, as the law sees it."""
        return {site.id: self.standings[site.id].place}


def _scene(
    tx: Transaction, installation: Installation, vault: Vault, law: LawNow, base_domain: str, now: datetime
) -> _Scene:
    revisions: dict[ServiceId, list[RevisionRecord]] = defaultdict(list)
    for revision in tx.revisions.all():
        revisions[revision.service].append(revision)
    live = tx.grants.live(now)
    everywhere, services = tx.sites.everywhere(), tuple(_labelled(law, one) for one in tx.services.all())
    sites = tuple(one for one in everywhere if not one.outside)
    here = standings(sites, now)
    lawful = Lawful(law=law, places={site: one.place for site, one in here.items()})
    callers = callers_keys(vault, services, revisions)
    return _Scene(
        installation=installation,
        law=law,
        base_domain=base_domain,
        sites=sites,
        outside=tuple(one for one in everywhere if one.outside),
        standings=here,
        services=services,
        numbers={one.id: number for number, one in enumerate(services)},
        revisions=revisions,
        attested={one.id: found for one in services if (found := tuple(_attested(revisions[one.id], one.in_use)))},
        projects={project.id: project.name for project in tx.installations.projects()},
        across=crossings(installation.id, sites, services, lawful),
        standbys=standbys(services, revisions, lawful),
        neighbours=neighbours(sites, services),
        keys=(*(_key(one) for one in tx.keys.all() if one.opens(now)), *callers),
        stated=stated_keys(sites, services, revisions),
        grants=tuple(SignedGrant(kind=one.kind, signed=one.signed) for one in live if one.kind in OLDER_KINDS),
        deployers=tuple(one.signed for one in live if one.kind is GrantKind.DEPLOYER),
    )


def _render(scene: _Scene, site: SiteRecord) -> DesiredState:
    """The site's desired state without its place in history."""
    law, across, there = scene.law, scene.across, scene.there(site)
    lanes = across.lanes(site.id)
    known = [across.classes[one] for one in lanes]
    here = scene.those(services for decision, services in known if site.id in decision.serving)
    elsewhere = scene.those(services for decision, services in known if site.id not in decision.serving)
    peers = across.met(tuple(lanes.values()))
    ends = (scene.standings[site.id].until, *(until(law, one, there) for one in here))
    return DesiredState(
        installation=scene.installation.id,
        epoch=scene.installation.epoch,
        generation=0,
        site=site.id,
        issued_at=NEVER,
        valid_until=min((one for one in ends if one is not None), default=None),
        base_domain=scene.base_domain,
        services=tuple(_service(scene, one) for one in here),
        keys=scene.keys,
        standby=scene.standbys.get(site.id, ()),
        site_name=site.name,
        peers=peers,
        lanes=tuple(lanes.values()),
        forwarded=tuple(map(scene.forwarded, elsewhere)),
        charters=_charters(scene, site, {peer.site for peer in peers}, here),
        lawbook=law.version_at(site.id),
        grants=scene.grants,
        neighbours=tuple(one for one in scene.neighbours if one.site != site.id),
        deployers=scene.deployers,
        own_keys=told_to(site.id, (one.id for one in (*here, *elsewhere)), scene.stated),
        attestations=tuple(
            found
            for one, its in scene.attested.items()
            if one in across.decisions and across.decisions[one].id in lanes
            for found in its
        ),
    )


def _attested(revisions: Sequence[RevisionRecord], in_use: Collection[RevisionId]) -> Iterator[RevisionAttested]:
    """What deployers signed of a service's revisions that sites are told of."""
    for one in revisions:
        if one.attested is not None and (one.proven or one.id in in_use):
            yield RevisionAttested(service=one.service, revision=one.id, attested=one.attested)


def _charters(
    scene: _Scene, site: SiteRecord, peers: Collection[SiteId], services: Sequence[ServiceRecord]
) -> tuple[Signed, ...]:
    """What the owner signed of this site, of those that it meets, of the first one, which says where home is, and of
    the places outside that its services name; of all of these, where one names nothing and could call anything."""
    named = [one for one in scene.sites if one.id == site.id or one.id in peers or one.name == FIRST_SITE]
    if scene.outside:
        files = [(one.label, kept.contents.egress) for one in services for kept in scene.revisions[one.id]]
        calls = {entry for _, egress in files for entry in egress or ()}
        any_of_them = any(egress is None and label.level < Level.RESTRICTED for label, egress in files)
        named += [one for one in scene.outside if any_of_them or met(one.charter.hosts, calls)]
    return tuple(one.signed for one in named if one.signed is not None)


def _key(record: KeyRecord) -> Key:
    return Key(
        id=record.id,
        project=record.project,
        sha256=record.sha256,
        services=record.services,
        max_level=record.max_level,
        expires_at=record.expires_at,
        attested=record.attested,
    )


def _refused(tx: Transaction, law: LawNow, there: Places, gone: Iterable[ServiceId]) -> dict[ServiceId, Admission]:
    """Of the services that leave a site, those that the law keeps from it, with its answer."""
    left = [one for one in map(tx.services.get, gone) if one is not None and one.deleted_at is None]
    answers = {one.id: admissions(law.of(one), label_of(law, one), there) for one in left}
    found = {service: answer for service, by_site in answers.items() for answer in by_site.values()}
    return {service: answer for service, answer in found.items() if not answer.allowed}


def _labelled(law: LawNow, record: ServiceRecord) -> ServiceRecord:
    """The service with the label that its data has now. Of thousands, most have the one that is written."""
    label = label_of(law, record)
    return record if label is record.label else replace(record, label=label)


def _service(scene: _Scene, record: ServiceRecord) -> Service:
    """A service as a site is asked to run it: with the revision under trial, those that serve, and those that did."""
    wanted = record.in_use
    return Service(
        id=record.id,
        project=record.project,
        name=record.name,
        hosts=_hosts(scene, record),
        access=record.access,
        label=record.label,
        declared=record.declared,
        scaling=record.scaling,
        sleep=record.sleep,
        revisions=tuple(one.contents for one in scene.revisions[record.id] if one.proven or one.id in wanted),
        shares=record.shares,
        trial=record.trial,
        order=record.order,
        lane=scene.across.decisions[record.id].id,
    )


def _forwarded(scene: _Scene, record: ServiceRecord, decision: str) -> Forwarded:
    return Forwarded(
        id=record.id,
        project=record.project,
        name=record.name,
        hosts=_hosts(scene, record),
        access=record.access,
        revisions=tuple(share.revision for share in record.shares),
        lane=decision,
        declared=record.declared,
    )


def _hosts(scene: _Scene, record: ServiceRecord) -> tuple[str, ...]:
    own = (domain for domain in record.domains if not is_below(domain, scene.base_domain))
    return (host(record.name, scene.projects[record.project], scene.base_domain), *own)


def host(name: str, project: str, base_domain: str) -> str:
    """Where a service answers: `NAME.BASE` in the project `default`, `NAME--PROJECT.BASE` in others."""
    return f"{name}.{base_domain}" if project == "default" else f"{name}--{project}.{base_domain}"


def host_error(name: str, project: str) -> str | None:
    """Why a service cannot answer at its host, or None where it can: resolvers refuse a longer label."""
    label = host(name, project, "").removesuffix(".")
    if len(label) <= LONGEST_LABEL:
        return None
    return f"{label!r}, where it would answer, has {len(label)} characters: a host's label may have {LONGEST_LABEL}"


def is_below(domain: str, base_domain: str) -> bool:
    """Whether a domain is one of those that services have by their names: nobody may have it as a domain of his own.
    The installation may get another base domain later, so it is asked each time."""
    return domain.endswith(f".{base_domain}")
