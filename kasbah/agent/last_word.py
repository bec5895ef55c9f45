"""The site's own word on a desired state: what the owner signed, as this site has seen it, kept beside the ledger.

DATA/agent/ledger/word.json   charters by site, the newest lawbook, the highest label seen of each service and host,
                              and what was taken as a deployer signed it

Versions only grow: an older charter or lawbook is not taken, however well it is signed. What the owner did not sign is
not there. A site that pins no owner (one that was made before there were owners) has no word of its own, and says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import TypeAdapter

from kasbah.agent.files import replace_whole
from kasbah.agent.own_keys import OwnKeys
from kasbah.agent.signatures import KnownSignatures
from kasbah.agent.site_clock import SiteClock
from kasbah.api.agent import Identity
from kasbah.api.errands import read_errand, ticket_of
from kasbah.api.owner import APPROVAL, CHARTER, DECLASSIFICATION, LAWBOOK, verify_document
from kasbah.api.signing import EXEC, Ticket, parse_public
from kasbah.decide import errands
from kasbah.decide.admission import Admissions
from kasbah.decide.callers import NOT_SIGNED, Stated, held_to, shut
from kasbah.decide.grants import in_force
from kasbah.decide.hosts import seen
from kasbah.decide.last_word import (
    Accepted,
    Word,
    accept,
    changes_at,
    floors,
    level_of,
    refuses_to_hand,
    still_refused,
)
from kasbah.decide.open_keys import with_open_keys
from kasbah.decide.signed import Signatures
from kasbah.decide.stated import lawful
from kasbah.decide.telling import without_lines
from kasbah.domain.charter import Charter, Lawbook, Signed
from kasbah.domain.desired import DesiredState
from kasbah.domain.errand import Errand
from kasbah.domain.grant import Approval, Declassification, Grant, GrantKind
from kasbah.domain.ids import Digest, RevisionId, ServiceId, SiteId
from kasbah.domain.label import Label, Level
from kasbah.domain.law import Pack
from kasbah.domain.observed import ServiceStatus, TurnedAway
from kasbah.domain.revision import Revision
from kasbah.domain.secret import SecretUse
from kasbah.domain.service import Service
from kasbah.domain.site import ENFORCED, FIRST_SITE
from kasbah.errors import Denied, Invalid, KasbahError
from kasbah.packs import law_of, shipped
from kasbah.packs.own import beside

log = structlog.get_logger()

MOST_TURNED_AWAY = 1_000
SIGNATURES = "signatures"
DESIRED_FILE = "desired.json"
"""The ledger's, which lies beside."""
FLOORS = TypeAdapter(dict[ServiceId, Label])
AT_ITS_SITE = "(what was printed last stays at its site: `kasbah logs` shows it, with --build what a build said)"
NO_OWNER = "this site pins no owner's key: it cannot hold what it is told against what the owner signed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was accepted of a desired state by which word, which holds `since` then `until` then (None: until something
    new is said); a clock that was ahead for a moment is asked again."""

    told: DesiredState
    word: Word
    accepted: DesiredState
    since: datetime
    until: datetime | None

    def holds(self, now: datetime) -> bool:
        """Whether it still does."""
        return self.since <= now and (self.until is None or now < self.until)


class LastWord:
    """See the module. `refused` is by service, by name, why this site does not serve it; `closed` what of its file it
    may not call, and why; `clock` is the site's, and `pinned` are the packs of its own owner."""

    def __init__(
        self, file: Path, clock: SiteClock, pinned: tuple[Pack, ...] = (), own_keys: OwnKeys | None = None
    ) -> None:
        self.own_keys = own_keys
        self.refused: dict[str, str] = {}
        self.closed: dict[str, str] = {}
        self._shut: list[str] = []
        self._outspoken: frozenset[ServiceId] | None = None
        self._egress = ENFORCED  # until it is measured, and before that nothing runs by what is said here
        self.pinned = pinned
        self._turned_away: dict[ServiceId, tuple[Service, str]] = {}
        self._unsigned: dict[tuple[ServiceId, RevisionId], TurnedAway] = {}
        self._signatures = KnownSignatures()
        self._file = file
        self.clock = clock
        self._charters: dict[SiteId, tuple[Charter, Signed]] = {}
        self._lawbook: tuple[Lawbook, Signed] | None = None
        self._law: Admissions | None = None
        self._stricter = _stricter(shipped(), pinned)
        self._floors: dict[ServiceId, Label] = {}
        self._read = False
        self._unwritten = False
        self._last: Answer | None = None
        self._older = (file.parent / DESIRED_FILE).exists() and not _keeps_signatures(file)

    @property
    def law_version(self) -> int:
        """That of the lawbook it holds; 0: none."""
        return self._lawbook[0].version if self._lawbook is not None else 0

    def keeps(self, egress: str) -> None:
        """What this site can keep replicas from calling, as it was measured."""
        self._egress, self._last = egress, None

    def judge(self, identity: Identity, told: DesiredState) -> DesiredState:
        """What of it this site acts on now."""
        self.clock.take(told.issued_at)
        now = self.clock.now()
        return with_open_keys(self._accepted(identity, told, now), now)

    def _accepted(self, identity: Identity, told: DesiredState, now: datetime) -> DesiredState:
        if self._older:
            self._take_over(identity, told)
        if not identity.owner_key:
            return told
        if self._unwritten:
            self._write()
        if (last := self._last) is not None and last.told is told and last.holds(now):
            return last.accepted
        owner = parse_public(identity.owner_key)
        self._load(owner)
        self._take(owner, identity, told)
        known = self._signatures.look(owner, identity, told, now)
        self._signatures.see(seen(told, self._signatures.memory.hosts, known))
        word = self._word(owner, identity, told, known)
        said = accept(self._signatures.open(told, known, self._stated(identity, told, known, word)), word, now)
        self._signatures.remember(said.taken)
        if self._signatures.news:
            self._write()
        self._remember_unsigned(told, said)
        desired = held_to(said.desired, self._signatures.memory.opened)
        self._last = Answer(told=told, word=word, accepted=desired, since=now, until=changes_at(word, now))
        for name, why in said.refused.items():
            if self.refused.get(name) != why:
                log.warning("this site refuses a service", service=name, reason=why)
        for name, why in said.closed.items():
            if self.closed.get(name) != why:
                log.warning("this site keeps a service from calling what its file names", service=name, reason=why)
        self.refused, self.closed = dict(said.refused), dict(said.closed)
        self._shut = shut(said.desired, desired)
        self._outspoken = said.outspoken
        self._remember_refusals(told, said, word, now)
        return desired

    @property
    def turned_away(self) -> tuple[TurnedAway, ...]:
        """What this site refuses, be it told so any more or not: who places services elsewhere must not try again."""
        found = (TurnedAway(service=one.id, label=one.label, reason=why) for one, why in self._turned_away.values())
        return (*found, *self._unsigned.values())

    def refuses_to_hand(self, source: Digest, to: SiteId) -> str | None:
        """Why this source does not go to another site, by the word that was last asked; None where it does."""
        if (last := self._last) is None:
            return NO_OWNER
        return refuses_to_hand(source, to, last.told, last.word, self.clock.now())

    def refuses_errand(self, identity: Identity, ticket: Ticket, text: str, words: Digest, said: str) -> str | None:
        """Why whoever has this ticket may not do this with a service, by what he says that a deployer signed; None
        where he may. A site that knows no owner holds nothing against what he signed."""
        if not identity.owner_key:
            return None
        if (last := self._last) is None or last.word.signatures is None:
            return NO_OWNER
        service = next((one for one in last.told.services if one.id == ticket.object), None)
        wanted = None if service is None else Errand(
            installation=identity.installation, project=service.project, service=service.name, act=ticket.act,
            words=words, ticket=ticket_of(text),
        )  # fmt: skip
        now = self.clock.now()
        level = self._level_of(ServiceId(ticket.object), ticket.act, last, now)
        return errands.refusal(read_errand(said), wanted, level, last.word.signatures.deployers, now)

    def _level_of(self, service: ServiceId, act: str, last: Answer, now: datetime) -> Level:
        """That of its data; or, for who goes into a replica, of what its keys have ever opened: one may run still that
        holds such a key."""
        level = level_of(service, last.told, last.word, now)
        return max(level, Level(self._signatures.memory.holders.get(service, 0))) if act == EXEC else level

    def _stated(self, identity: Identity, told: DesiredState, known: Signatures, word: Word) -> tuple[Stated, ...]:
        """The keys of services of their own, those here and those that other sites state."""
        own = self.own_keys
        if own is None:
            return ()
        heard = lawful(own.hear(identity, told, word.charters), told, word, self.clock.now())
        return (*own.look(identity, told, known), *heard)

    def own(self, use: SecretUse, revision: Revision) -> str | None:
        """The key that this site makes for a revision; None where this is another secret."""
        return None if self.own_keys is None else self.own_keys.value(use, revision)

    def may_hear(self, status: ServiceStatus) -> ServiceStatus:
        """A service's status as the control plane may have it."""
        told = self._outspoken is None or status.service in self._outspoken
        return status if told else without_lines(status, AT_ITS_SITE)

    def take_law(self, identity: Identity, signed: Signed) -> None:
        """Take a lawbook. Raises Denied where the owner did not sign it for this installation, or it is not later than
        the one that is held; Invalid where it is not sound."""
        owner = parse_public(identity.owner_key)
        self._load(owner)
        lawbook = verify_document(owner, LAWBOOK, signed, Lawbook)
        if lawbook.installation != identity.installation or lawbook.version <= self.law_version:
            raise Denied(f"lawbook {lawbook.version} is of another installation, or older than {self.law_version}")
        self._hold(lawbook, signed)
        self._last = None
        self._write()

    def notes(self, identity: Identity | None) -> tuple[str, ...]:
        """What the site's owner should look after."""
        own = () if identity is None or identity.owner_key else (NO_OWNER,)
        return (
            *own,
            *(f"{name} is refused here: {why}" for name, why in sorted(self.refused.items())),
            *(f"{name} may not call {why}" for name, why in sorted(self.closed.items())),
            *(f"{name}: {NOT_SIGNED}" for name in sorted(self._shut)),
        )

    def _hold(self, lawbook: Lawbook, signed: Signed) -> None:
        self._law, self._lawbook = Admissions(law=law_of(lawbook.packs)), (lawbook, signed)
        self._stricter = _stricter(lawbook.packs, self.pinned)

    def _remember_refusals(self, told: DesiredState, said: Accepted, word: Word, now: datetime) -> None:
        """Those of this desired state, and those of before that would be the same now. Before it holds the law that it
        is told of, and the facts about itself, a refusal says only that it has yet to come."""
        if word.law is None or self.law_version < told.lawbook or told.site not in word.charters:
            return
        here = {one.id: one for one in told.services}
        gone = [one for service, (one, _) in self._turned_away.items() if service not in here]
        still = still_refused((*gone, *(one for one in told.services if one.name in said.refused)), told, word, now)
        known = {one.id: one for one in gone} | here
        self._turned_away = {service: (known[service], why) for service, why in [*still.items()][-MOST_TURNED_AWAY:]}

    def _remember_unsigned(self, told: DesiredState, said: Accepted) -> None:
        """The revisions that no deployer signed who may, until the owner names others or they are told again."""
        if self._last is not None and self._last.told.deployers != told.deployers:
            self._unsigned.clear()
        signatures = {(one.service, one.revision): one.attested.signed.signature for one in told.attestations}
        for service in told.services:
            refused = said.unsigned.get(service.id, {})
            for revision in service.in_use:
                self._unsigned.pop((service.id, revision), None)
                if revision in refused:
                    self._unsigned[service.id, revision] = TurnedAway(
                        service=service.id,
                        label=service.label,
                        reason=f"of its revision {revision}: {refused[revision]}",
                        revisions=((revision, signatures.get((service.id, revision), "")),),
                    )
        self._unsigned = dict([*self._unsigned.items()][-MOST_TURNED_AWAY:])

    def _take_over(self, identity: Identity, told: DesiredState) -> None:
        """This site was here before signatures were asked for: what it holds already stays."""
        self._older = False
        if identity.owner_key:
            self._load(parse_public(identity.owner_key))
        self._signatures.take_over(told)
        self._write()

    def _take(self, owner: Ed25519PublicKey, identity: Identity, told: DesiredState) -> None:
        """Take the charters that are later than those held, and remember the labels."""
        changed = False
        for signed in told.charters:
            try:
                charter = verify_document(owner, CHARTER, signed, Charter)
            except KasbahError as error:
                log.warning("a charter is not taken", reason=error.message)
                continue
            held = self._charters.get(charter.site)
            if charter.installation == identity.installation and (held is None or charter.version > held[0].version):
                self._charters[charter.site] = (charter, signed)
                changed = True
        highest = floors(told, self._floors)
        if changed or highest != self._floors:
            self._floors = highest
            self._write()

    def _word(self, owner: Ed25519PublicKey, identity: Identity, told: DesiredState, known: Signatures) -> Word:
        charters = {
            site: charter
            for site, (charter, signed) in self._charters.items()
            if not charter.hosts or signed in told.charters  # a place outside that is gone is declared by nobody
        }
        lawbook = self._lawbook[0] if self._lawbook is not None else None
        first = next((one.facts.country for one in charters.values() if one.name == FIRST_SITE), None)
        granted = [found for one in told.grants if (found := _grant(owner, one.kind, one.signed)) is not None]
        ours = [one for one in granted if one.installation == identity.installation]
        return Word(
            charters=charters,
            law=self._law,
            pinned=self._stricter,
            home=(lawbook.home if lawbook is not None else None) or (None if first is None else first.value),
            grants=in_force(ours, self.clock.now()),
            floors=self._floors,
            stale_after=lawbook.stale_after if lawbook is not None else {},
            heard_at=self.clock.heard_at or told.issued_at,
            egress=self._egress,
            hosts=self._signatures.memory.hosts,
            signatures=known,
        )

    def _load(self, owner: Ed25519PublicKey) -> None:
        """What was held when the agent ended, as far as the owner signed it."""
        if self._read:
            return
        self._read = True
        try:
            kept: dict[str, Any] = json.loads(self._file.read_text())
            self._floors = FLOORS.validate_python(kept["floors"])
            if SIGNATURES in kept:
                self._signatures.load(kept[SIGNATURES])
            for one in kept["charters"]:
                signed = Signed(**one)
                charter = verify_document(owner, CHARTER, signed, Charter)
                self._charters[charter.site] = (charter, signed)
            if kept["lawbook"] is not None:
                signed = Signed(**kept["lawbook"])
                self._hold(verify_document(owner, LAWBOOK, signed, Lawbook), signed)
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError, Denied, Invalid) as error:
            log.warning("what the owner signed is not held any more", file=str(self._file), reason=str(error))

    def _write(self) -> None:
        kept = {
            "floors": FLOORS.dump_python(self._floors, mode="json"),
            "charters": [asdict(signed) for _, signed in self._charters.values()],
            "lawbook": asdict(self._lawbook[1]) if self._lawbook is not None else None,
            SIGNATURES: self._signatures.kept(),
        }
        try:
            replace_whole(self._file, json.dumps(kept))
        except OSError as error:  # a full disk keeps nothing from ending; what is told is in the ledger
            log.warning("what the owner signed cannot be kept", file=str(self._file), reason=str(error))
            self._unwritten = True
        else:
            self._signatures.news = self._unwritten = False


def _keeps_signatures(file: Path) -> bool:
    """Whether the word that is kept knows of signatures."""
    try:
        return SIGNATURES in json.loads(file.read_text())
    except FileNotFoundError:
        return False
    except (ValueError, TypeError):
        return True  # what is damaged is no older version's


def _stricter(law: Iterable[Pack], pinned: tuple[Pack, ...]) -> Admissions | None:
    """The law with the packs of the site's own owner; None where he pinned none."""
    return Admissions(law=beside(law, pinned)) if pinned else None


def _grant(owner: Ed25519PublicKey, kind: GrantKind, signed: Signed) -> Grant | None:
    """What was granted; None where the owner did not sign it."""
    try:
        if kind is GrantKind.APPROVAL:
            return verify_document(owner, APPROVAL, signed, Approval)
        if kind is GrantKind.DECLASSIFICATION:
            return verify_document(owner, DECLASSIFICATION, signed, Declassification)
        return None
    except KasbahError:
        return None
