"""Which law holds at which site now? The lawbooks of the store, each only with its owner's signature, and his grants.

While a new lawbook goes from site to site, what runs at a site is under the lawbook that has arrived there. What would
come to a site is under the newest one where that has arrived; elsewhere under all of them: as soon as one says no,
nothing new comes.

A lawbook that the owner did not sign is no law, whatever the store says of it. Then nothing is decided any more, and
what runs goes on as it was last decided.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from kasbah.api.owner import APPROVAL, DECLASSIFICATION, DEPLOYER, LAWBOOK, read_document, verify_document
from kasbah.control.store.interface import Transaction
from kasbah.control.store.lawbooks import LawbookState
from kasbah.control.store.records import ServiceRecord
from kasbah.decide.admission import Admissions
from kasbah.decide.conclusions import at_home
from kasbah.decide.grants import Grants, in_force, used_until
from kasbah.decide.opening import openings
from kasbah.domain.charter import Lawbook, Signed
from kasbah.domain.grant import Approval, Declassification, Deployer, Grant, GrantKind
from kasbah.domain.ids import InstallationId, ProjectId, ServiceId, SiteId
from kasbah.domain.law import Admission, Data, Place, Purpose
from kasbah.errors import Denied, Invalid, KasbahError, Unavailable
from kasbah.packs import law_of

MOST_REMEMBERED = 500
"""Signed documents whose signatures need not be looked at again: lawbooks in force or on their way, and grants."""

Document = TypeVar("Document", Lawbook, Approval, Declassification, Deployer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """A lawbook that its owner signed, and its answers."""

    lawbook: Lawbook
    admissions: Admissions


class Library:
    """Reads signed documents, each only if this installation's owner signed it for this installation."""

    def __init__(self) -> None:
        self._owner: Ed25519PublicKey | None = None
        self._installation: InstallationId | None = None
        self._books: dict[Signed, Book] = {}
        self._grants: dict[Signed, Grant] = {}

    def trust(self, owner: Ed25519PublicKey, installation: InstallationId) -> None:
        """Take this key for the owner's."""
        self._owner, self._installation = owner, installation
        self._books.clear()
        self._grants.clear()

    def book(self, signed: Signed) -> Book:
        """The law that was signed. Raises Denied where the owner did not, Invalid where it is not sound."""
        found = self._books.get(signed)
        if found is None:
            lawbook = self._read(signed, LAWBOOK, Lawbook)
            found = Book(lawbook=lawbook, admissions=Admissions(law=law_of(lawbook.packs)))
            _remember(self._books, signed, found)
        return found

    def draft(self, document: str) -> Book:
        """The law in a document that nobody signed: to be planned, never to hold. Raises Invalid where it is not
        sound."""
        lawbook = read_document(document, Lawbook)
        return Book(lawbook=lawbook, admissions=Admissions(law=law_of(lawbook.packs)))

    def grant(self, kind: GrantKind, signed: Signed) -> Grant:
        """What was granted. Raises Denied, Invalid."""
        found = self._grants.get(signed)
        if found is None:
            if kind is GrantKind.APPROVAL:
                found = self._read(signed, APPROVAL, Approval)
            elif kind is GrantKind.DECLASSIFICATION:
                found = self._read(signed, DECLASSIFICATION, Declassification)
            else:
                found = self._read(signed, DEPLOYER, Deployer)
            _remember(self._grants, signed, found)
        return found

    def now(self, tx: Transaction, now: datetime) -> LawNow:
        """The law at this moment. Raises Unavailable where there is none that its owner signed."""
        live = tx.lawbooks.live()
        force = next((one for one in reversed(live) if one.state is LawbookState.IN_FORCE), None)
        if force is None:
            raise Unavailable("there is no law in force", hint=RESTORE, code="law_missing")
        coming = [one for one in live if one.version > force.version]
        try:
            books = [self.book(one.signed) for one in (force, *coming)]
        except (Denied, Invalid) as error:
            raise Unavailable(f"the law cannot be used: {error.message}", hint=RESTORE, code="law_unsigned") from error
        return LawNow(
            force=books[0],
            coming=tuple(
                (book, frozenset(arrival.site for arrival in record.arrivals))
                for book, record in zip(books[1:], coming, strict=True)
            ),
            grants=in_force(self._granted(tx, now), now),
        )

    def _granted(self, tx: Transaction, now: datetime) -> Iterator[Grant]:
        """What the owner granted. What he did not sign grants nothing."""
        for record in tx.grants.live(now):
            try:
                yield self.grant(record.kind, record.signed)
            except KasbahError:
                continue

    def _read(self, signed: Signed, context: bytes, shape: type[Document]) -> Document:
        if self._owner is None:
            raise Unavailable("nobody owns this installation yet", hint="start it once: kasbah up", code="no_owner")
        found = verify_document(self._owner, context, signed, shape)
        if found.installation != self._installation:
            raise Denied(
                f"this {shape.__name__.lower()} was signed for another installation ({found.installation})",
                hint=f"sign it for this one, {self._installation}",
                code="not_signed",
            )
        return found


RESTORE = "restore a backup of the control plane (kasbah restore), or have the owner sign the law again"

Kept = TypeVar("Kept")


def _remember(known: dict[Signed, Kept], signed: Signed, found: Kept) -> None:
    if len(known) >= MOST_REMEMBERED:
        known.clear()
    known[signed] = found


@dataclass(frozen=True, slots=True, kw_only=True)
class LawNow:
    """The law at every site at one moment, as it is for one service (`of`); for nobody in particular, without approvals
    and as what would be new. `coming` are newer lawbooks and the sites they have arrived at, oldest first."""

    force: Book
    coming: tuple[tuple[Book, frozenset[SiteId]], ...] = ()
    grants: Grants = Grants()
    service: ServiceId | None = None
    project: ProjectId | None = None
    runs_at: frozenset[SiteId] = frozenset()

    def of(self, service: ServiceRecord) -> LawNow:
        """As it is for this service."""
        runs_at = frozenset(service.placement.chosen) if service.placement else frozenset()
        return LawNow(  # not `replace`, which takes thrice as long: it is asked for each of thousands
            force=self.force,
            coming=self.coming,
            grants=self.grants,
            service=service.id,
            project=service.project,
            runs_at=runs_at,
        )

    def under(self, book: Book) -> LawNow:
        """As it would be if this lawbook held everywhere."""
        return replace(self, force=book, coming=())

    @property
    def newest(self) -> Book:
        """The lawbook that was applied last."""
        return self.coming[-1][0] if self.coming else self.force

    @property
    def is_everywhere_the_same(self) -> bool:
        """Whether all sites that are alike have the same answer: no law is on its way to some of them, and nothing is
        approved for one."""
        return not self.coming and not self.grants.approvals

    def version_at(self, site: SiteId) -> int:
        """The version of the lawbook that what runs at a site is under."""
        return self._arrived(site).lawbook.version

    def admit(self, site: SiteId, data: Data, place: Place, purpose: Purpose) -> Admission:
        """Whether data of this service may be at a site."""
        return self._admit(site, data, place, purpose, frozenset(self._approved(site)))

    def admit_all(self, data: Data, places: Mapping[SiteId, Place], purpose: Purpose) -> dict[SiteId, Admission]:
        """The same of several sites."""
        if not self.is_everywhere_the_same:
            return {site: self.admit(site, data, place, purpose) for site, place in places.items()}
        home = self.force.lawbook.home
        seen = {site: at_home(place, home) for site, place in places.items()}
        return self.force.admissions.admit_all(data, seen, purpose)

    def opens(self, site: SiteId, data: Data, place: Place, purpose: Purpose) -> tuple[str, ...]:
        """In words, each single change after which it may; none where it may already."""
        approvals = frozenset(self._approved(site))
        for book in self._books(site):
            seen = at_home(place, book.lawbook.home)
            if not book.admissions.admit(data, seen, purpose, approvals=approvals).allowed:
                found = openings(book.admissions, data, seen, purpose, approvals=approvals)
                return tuple(one.words for one in found)
        return ()

    def until(self, site: SiteId, data: Data, place: Place, purpose: Purpose) -> datetime | None:
        """Until when a yes holds: the first expiry of the approvals that it rests on."""
        return used_until(self._approved(site), lambda names: self._admit(site, data, place, purpose, names).allowed)

    def _admit(self, site: SiteId, data: Data, place: Place, purpose: Purpose, approvals: frozenset[str]) -> Admission:
        answers = (
            book.admissions.admit(data, at_home(place, book.lawbook.home), purpose, approvals=approvals)
            for book in self._books(site)
        )
        found = Admission(allowed=True)
        for answer in answers:
            if not answer.allowed:
                return answer
        return found

    def _books(self, site: SiteId) -> tuple[Book, ...]:
        """The lawbooks that this service is under at a site."""
        if site in self.runs_at:
            return (self._arrived(site),)
        if self.coming and site in self.coming[-1][1]:
            return (self.coming[-1][0],)
        return (self.force, *(book for book, _ in self.coming))

    def _arrived(self, site: SiteId) -> Book:
        """The newest lawbook that has arrived at a site."""
        return next((book for book, sites in reversed(self.coming) if site in sites), self.force)

    def _approved(self, site: SiteId) -> dict[str, datetime]:
        if self.service is None or self.project is None:
            return {}
        return self.grants.approved(self.service, self.project, site)
