"""What this site knows of who deployed what: the deployers whom the owner named, what they signed, what it took before.

A deployer whom the control plane tells of no more is not named again by the same document, so that who hides nothing
today cannot bring him back tomorrow; the owner signs another. What is taken is kept with the site's own word
(`last_word.py`). A site that was here before there were signatures takes what its ledger held at that moment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import TypeAdapter

from kasbah.api.agent import Identity
from kasbah.api.attesting import contents_of, digest_of, read_attestation
from kasbah.api.caller_keys import read_key
from kasbah.api.owner import DEPLOYER, verify_document
from kasbah.decide.callers import (
    Opened,
    Stated,
    TakenKey,
    holders_of,
    of_before,
    opened,
    own_keys,
    taken_keys,
    taken_own_keys,
)
from kasbah.decide.callers import keys as held_keys
from kasbah.decide.hosts import Host
from kasbah.decide.signed import Signature, Signatures, Taken, begins_at, mark
from kasbah.domain.attestation import Attested
from kasbah.domain.caller import SignedKey
from kasbah.domain.charter import Signed
from kasbah.domain.desired import DesiredState
from kasbah.domain.grant import Deployer
from kasbah.domain.ids import Digest, RevisionId, ServiceId
from kasbah.domain.label import Level
from kasbah.domain.revision import Revision
from kasbah.domain.service import Key
from kasbah.errors import KasbahError

Name = TypeVar("Name")
Kept = TypeVar("Kept")

MOST_TAKEN = 100
"""Revisions that are remembered of a service, the newest."""
MOST_OPENED = 20_000
"""Services and keys of which it is remembered what was signed, the newest."""
KEYS = "keys"
MOST_REMEMBERED = 50_000
"""Digests and signatures that need not be found again."""


@dataclass(slots=True)
class Memory:
    """What is kept over a restart. `holders` are the services here whose keys opened what is sensitive, and the highest
    level of that. `named` is by the digest of a deployer's document when it ends, `gone` the same of those that were
    told of no more."""

    taken: dict[ServiceId, dict[str, int]] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    opened: dict[str, Opened] = field(default_factory=dict)
    keys: dict[str, TakenKey] = field(default_factory=dict)
    holders: dict[ServiceId, int] = field(default_factory=dict)
    named: dict[str, datetime] = field(default_factory=dict)
    gone: dict[str, datetime] = field(default_factory=dict)


MEMORY = TypeAdapter(Memory)


class KnownSignatures:
    """See the module. `news`: the memory is to be kept again."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.news = False
        self._contents: dict[Revision, Digest] = {}
        self._read: dict[Attested, Signature | None] = {}
        self._deployers: dict[Signed, Deployer | None] = {}
        self._keys: dict[Attested, SignedKey | None] = {}
        self._older = False

    def load(self, kept: Any) -> None:
        """Take up what was kept. Raises ValueError."""
        self.memory = MEMORY.validate_python(kept)
        self._older = KEYS not in kept

    def kept(self) -> Any:
        """What is to be kept."""
        return MEMORY.dump_python(self.memory, mode="json")

    def take_over(self, told: DesiredState) -> None:
        """Take all that this desired state holds: the site ran it before signatures were asked for."""
        for service in told.services:
            marks = {mark(service, self._digest(one)): int(Level.VITAL) for one in service.revisions}
            self.memory.taken[service.id] = marks
        self._older = self.news = True

    def look(self, owner: Ed25519PublicKey, identity: Identity, told: DesiredState, now: datetime) -> Signatures:
        """What is known with this desired state."""
        named = self._named(owner, identity, told, now)
        by_revision = {(one.service, one.revision): one.attested for one in told.attestations}
        by_service: dict[ServiceId, list[Attested]] = {}
        for one in told.attestations:
            by_service.setdefault(one.service, []).append(one.attested)

        def signed(service: ServiceId, revision: RevisionId) -> Signature | None:
            attested = by_revision.get((service, revision))
            return None if attested is None else self._signature(attested)

        def all_signed(service: ServiceId) -> tuple[Signature, ...]:
            found = (self._signature(one) for one in by_service.get(service, ()))
            return tuple(one for one in found if one is not None)

        return Signatures(
            installation=identity.installation,
            contents=self._digest,
            signed=signed,
            all_signed=all_signed,
            deployers=tuple(one for one in named if one.issued_at <= now < one.expires_at),
            next_begins_at=begins_at(named, now),
            taken=self.memory.taken,
        )

    def remember(self, taken: Taken) -> None:
        """Remember what was taken."""
        bounded = {service: dict([*marks.items()][-MOST_TAKEN:]) for service, marks in taken.items() if marks}
        self.news = self.news or bounded != self.memory.taken
        self.memory.taken = bounded

    def open(self, told: DesiredState, known: Signatures, stated: Sequence[Stated]) -> DesiredState:
        """What is told, with the keys as far as they were signed, and those that sites state of services' own.
        Remembers what was signed of them, and of who may call services; a site that asked nobody for that before takes
        what it is told first."""
        memory = self.memory
        if self._older:
            memory.opened, memory.keys = of_before(told, known)
        keys = taken_own_keys(stated, taken_keys(told, known, self._key, memory.keys))
        opens, keys = _newest(opened(told, known, memory.opened)), _newest(keys)
        holders = _newest(holders_of(told, stated, memory.holders))
        was = (memory.opened, memory.keys, memory.holders)
        self.news = self.news or self._older or (opens, keys, holders) != was
        memory.opened, memory.keys, memory.holders, self._older = opens, keys, holders, False
        return replace(told, keys=held_keys(told, own_keys(told, stated), known.installation, keys))

    def see(self, hosts: dict[str, Host]) -> None:
        """Remember what came to hosts."""
        self.news = self.news or hosts != self.memory.hosts
        self.memory.hosts = hosts

    def _named(
        self, owner: Ed25519PublicKey, identity: Identity, told: DesiredState, now: datetime
    ) -> tuple[Deployer, ...]:
        """The deployers that are told of, whom the owner signed, and of whom it was not told that they are no more."""
        found = {}
        for signed in told.deployers:
            if signed not in self._deployers:
                _bound(self._deployers)
                self._deployers[signed] = _deployer(owner, signed)
            deployer = self._deployers[signed]
            if deployer is not None and deployer.installation == identity.installation:
                found[_digest_of(signed)] = deployer
        memory = self.memory
        lost = {one: until for one, until in memory.named.items() if one not in found}
        gone = {one: until for one, until in {**memory.gone, **lost}.items() if until > now}
        now_named = {one: _utc(deployer.expires_at) for one, deployer in found.items()}
        self.news = self.news or (gone, now_named) != (memory.gone, memory.named)
        memory.gone, memory.named = gone, now_named
        return tuple(deployer for one, deployer in found.items() if one not in memory.gone)

    def _key(self, key: Key) -> SignedKey | None:
        if key.attested is None:
            return None
        if key.attested not in self._keys:
            _bound(self._keys)
            self._keys[key.attested] = read_key(key.attested)
        return self._keys[key.attested]

    def _digest(self, revision: Revision) -> Digest:
        found = self._contents.get(revision)
        if found is None:
            _bound(self._contents)
            found = self._contents[revision] = digest_of(contents_of(revision))
        return found

    def _signature(self, attested: Attested) -> Signature | None:
        if attested not in self._read:
            _bound(self._read)
            said = read_attestation(attested)
            self._read[attested] = None if said is None else Signature(key=attested.key, attestation=said)
        return self._read[attested]


def _deployer(owner: Ed25519PublicKey, signed: Signed) -> Deployer | None:
    """Whom the owner named; None where he did not sign it."""
    try:
        found = verify_document(owner, DEPLOYER, signed, Deployer)
    except KasbahError:
        return None
    return found if found.issued_at.tzinfo is not None and found.expires_at.tzinfo is not None else None


def _newest(known: dict[Name, Kept]) -> dict[Name, Kept]:
    return known if len(known) <= MOST_OPENED else dict([*known.items()][-MOST_OPENED:])


def _digest_of(signed: Signed) -> str:
    return hashlib.sha256(signed.document.encode()).hexdigest()


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


def _bound(known: dict[Any, Any]) -> None:
    if len(known) >= MOST_REMEMBERED:
        known.clear()
