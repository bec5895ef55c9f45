"""What use cases ask of a store, and what any store must hold to.

- A transaction sees one moment. What `write` hands out is committed whole when its block ends, and is durable then; an
  exception undoes it. What `read` hands out refuses to write.
- Writes happen one after another; nothing that was read in a write transaction has changed when it commits.
- Nothing here waits for anything but the store itself, and that with a deadline (`Unavailable`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from kasbah.control.store.lawbooks import GrantRecord, LawbookRecord, LawbookState
from kasbah.control.store.records import (
    AuditLog,
    DesiredDocument,
    Difference,
    Installation,
    Joining,
    KeptAnswer,
    KeyRecord,
    LoggedEntry,
    Project,
    RevisionRecord,
    RolloutRecord,
    SecretRecord,
    SecretValue,
    ServiceRecord,
    ServiceReport,
    SiteRecord,
    TokenRecord,
    WakeRecord,
)
from kasbah.domain.ids import GrantId, JoiningId, ProjectId, RevisionId, RolloutId, SecretId, ServiceId, SiteId, TokenId
from kasbah.domain.observed import ServiceStatus
from kasbah.domain.usage import Usage, UsageKey

Cursor = tuple[str, str]
"""The name and id of the last object of a page; lists are ordered by both."""


class Installations(Protocol):
    """The installation itself (one row) and its projects."""

    def get(self) -> Installation | None: ...
    def add(self, installation: Installation) -> None: ...
    def save(self, installation: Installation) -> None: ...
    def projects(self) -> tuple[Project, ...]:
        """Those not deleted."""
        ...

    def page_of_projects(self, after: Cursor | None, limit: int) -> tuple[Project, ...]: ...
    def add_project(self, project: Project) -> None: ...
    def save_project(self, project: Project) -> None: ...


class Sites(Protocol):
    """Sites, what they said last, and their newest desired states."""

    def all(self) -> tuple[SiteRecord, ...]:
        """Those that were not removed, by name; without the places that are only called."""
        ...

    def outside(self) -> tuple[SiteRecord, ...]:
        """The places that are only called, by name."""
        ...

    def get(self, site: SiteId) -> SiteRecord | None:
        """The site with this id, removed ones included."""
        ...

    def find(self, name: str) -> SiteRecord | None:
        """The site that is called so, of those not removed."""
        ...

    def certified(self, key: str) -> SiteRecord | None:
        """The site whose key has this fingerprint, removed ones included."""
        ...

    def add(self, site: SiteRecord) -> None: ...
    def save(self, site: SiteRecord) -> None: ...
    def desired(self, site: SiteId) -> DesiredDocument | None: ...
    def save_desired(self, document: DesiredDocument) -> None: ...


class Joinings(Protocol):
    """Sites that join."""

    def get(self, joining: JoiningId) -> Joining | None: ...
    def by_token(self, sha256: str) -> Joining | None: ...
    def waiting(self, site: SiteId | None = None) -> tuple[Joining, ...]:
        """Those that asked and were not approved, of this site or of all, the oldest first."""
        ...

    def put(self, joining: Joining) -> None:
        """Add it, or save it."""
        ...

    def drop_before(self, moment: datetime) -> None:
        """Forget those that were worth nothing any more at this moment."""
        ...


class Reports(Protocol):
    """What sites say of services."""

    def differences(self, site: SiteId, statuses: Iterable[ServiceStatus]) -> tuple[Difference, ...]:
        """What these statuses, all that the site reports, change; without saving them."""
        ...

    def save(self, site: SiteId, difference: Difference) -> None: ...
    def of(self, services: Iterable[ServiceId]) -> tuple[ServiceReport, ...]: ...
    def drop(self, service: ServiceId) -> None: ...


class Services(Protocol):
    """Services. Those that were deleted are kept, unlisted, for the ledgers that name them."""

    def get(self, service: ServiceId) -> ServiceRecord | None:
        """The service with this id, deleted ones included."""
        ...

    def find(self, project: ProjectId, name: str) -> ServiceRecord | None: ...
    def all(self) -> tuple[ServiceRecord, ...]: ...
    def ids(self) -> frozenset[ServiceId]:
        """The ids of those not deleted."""
        ...

    def page(self, project: ProjectId | None, after: Cursor | None, limit: int) -> tuple[ServiceRecord, ...]: ...
    def add(self, service: ServiceRecord) -> None: ...
    def save(self, service: ServiceRecord) -> None: ...
    def bump(self, services: Iterable[ServiceId]) -> None:
        """Give each the next version."""
        ...


class Revisions(Protocol):
    """Revisions, oldest first."""

    def all(self) -> tuple[RevisionRecord, ...]:
        """Those of every service that is not deleted."""
        ...

    def of_deleted(self) -> tuple[RevisionRecord, ...]:
        """Those of services that were deleted."""
        ...

    def of(self, service: ServiceId) -> tuple[RevisionRecord, ...]: ...
    def get(self, service: ServiceId, revision: RevisionId) -> RevisionRecord | None: ...
    def put(self, revision: RevisionRecord) -> None:
        """Add it, or save it where the service has it already."""
        ...

    def drop(self, service: ServiceId, revisions: Iterable[RevisionId]) -> None: ...


class Rollouts(Protocol):
    """Rollouts."""

    def get(self, rollout: RolloutId) -> RolloutRecord | None: ...
    def add(self, rollout: RolloutRecord) -> None: ...
    def save(self, rollout: RolloutRecord) -> None: ...
    def last(self, services: Iterable[ServiceId]) -> tuple[RolloutRecord, ...]:
        """The newest rollout of each."""
        ...

    def of(self, service: ServiceId) -> tuple[RolloutRecord, ...]:
        """Those of a service, the newest first."""
        ...

    def open(self) -> tuple[RolloutRecord, ...]:
        """Those that have not ended."""
        ...

    def counts(self) -> dict[str, int]:
        """How many there are, by state."""
        ...

    def trim(self, service: ServiceId, keep: int) -> None:
        """Drop all but the newest `keep`."""
        ...


class Keys(Protocol):
    """Callers' keys."""

    def all(self) -> tuple[KeyRecord, ...]:
        """Those not revoked."""
        ...

    def find(self, project: ProjectId, name_or_id: str) -> KeyRecord | None:
        """By id; or by name, among those not revoked."""
        ...

    def page(self, project: ProjectId, after: Cursor | None, limit: int, *, revoked: bool) -> tuple[KeyRecord, ...]: ...
    def add(self, key: KeyRecord) -> None: ...
    def save(self, key: KeyRecord) -> None: ...


class Secrets(Protocol):
    """Secrets and their sealed values."""

    def get(self, secret: SecretId) -> SecretRecord | None:
        """The secret with this id, deleted ones included."""
        ...

    def find(self, project: ProjectId, name: str) -> SecretRecord | None: ...
    def page(self, project: ProjectId, after: Cursor | None, limit: int) -> tuple[SecretRecord, ...]: ...
    def put(self, secret: SecretRecord, value: SecretValue | None = None) -> None:
        """Write the secret, and a new value of it."""
        ...

    def value(self, secret: SecretId, version: int) -> SecretValue | None: ...
    def keep(self, used: Iterable[tuple[SecretId, int]]) -> int:
        """Erase every value that is neither used nor the newest of a secret that is not deleted, and secrets that are
        deleted and have none; how many values were erased."""
        ...


class Tokens(Protocol):
    """Tokens for the API."""

    def by_sha256(self, sha256: str) -> TokenRecord | None: ...
    def find(self, name_or_id: str) -> TokenRecord | None:
        """By id; or by name, among those not revoked."""
        ...

    def all(self) -> tuple[TokenRecord, ...]:
        """Those not revoked."""
        ...

    def page(self, after: Cursor | None, limit: int, *, revoked: bool) -> tuple[TokenRecord, ...]: ...
    def add(self, token: TokenRecord) -> None: ...
    def save(self, token: TokenRecord) -> None: ...


class Wakes(Protocol):
    """The last wakings of each service, newest first."""

    def of(self, service: ServiceId) -> tuple[WakeRecord, ...]: ...
    def put(self, wakes: Iterable[WakeRecord]) -> None:
        """Add them, or save those that are known: what a waking took becomes known in pieces."""
        ...

    def trim(self, service: ServiceId, keep: int) -> None: ...


class UsageCounts(Protocol):
    """Usage by minute, and totals by service."""

    def add(self, usage: Iterable[tuple[UsageKey, Usage]]) -> None: ...
    def totals(self, services: Iterable[ServiceId]) -> dict[ServiceId, Usage]: ...
    def by_revision(self, service: ServiceId, *, since: datetime) -> dict[RevisionId, Usage]:
        """What each revision of a service served in the minutes from `since` on."""
        ...


class Answers(Protocol):
    """Answers kept for callers that ask again."""

    def get(self, token: TokenId, key: str) -> KeptAnswer | None: ...
    def add(self, answer: KeptAnswer) -> None: ...
    def drop_before(self, moment: datetime) -> None: ...


class Lawbooks(Protocol):
    """The law as its owner signed it, every version that ever was."""

    def get(self, version: int) -> LawbookRecord | None: ...
    def newest(self) -> int:
        """The highest version there is; 0: none."""
        ...

    def live(self) -> tuple[LawbookRecord, ...]:
        """The one in force, and those on their way to sites, oldest first."""
        ...

    def page(self, before: int | None, limit: int) -> tuple[LawbookRecord, ...]:
        """The newest first, from the one before `before` on."""
        ...

    def in_state(self, state: LawbookState) -> tuple[LawbookRecord, ...]: ...
    def add(self, lawbook: LawbookRecord) -> None: ...
    def save(self, lawbook: LawbookRecord) -> None: ...


class Grants(Protocol):
    """What the owner granted, signed."""

    def get(self, grant: GrantId) -> GrantRecord | None: ...
    def live(self, now: datetime) -> tuple[GrantRecord, ...]:
        """Those neither revoked nor expired."""
        ...

    def newest(self, limit: int) -> tuple[GrantRecord, ...]:
        """The last ones, the newest first, revoked and expired ones too."""
        ...

    def add(self, grant: GrantRecord) -> None: ...
    def save(self, grant: GrantRecord) -> None: ...


class Audit(Protocol):
    """The control plane's audit log, which only grows, and what is known of every log."""

    def size(self) -> int: ...
    def append(self, entries: Sequence[LoggedEntry]) -> None:
        """Add entries, whose sequence goes on from the size, and their hashes to the tree."""
        ...

    def get(self, sequence: int) -> LoggedEntry | None: ...
    def page(
        self, *, before: int | None, limit: int, since: datetime | None = None, actor: str = "", act: str = ""
    ) -> tuple[LoggedEntry, ...]:
        """The newest first, those before a sequence. `actor` is a name or the id of a credential."""
        ...

    def leaves(self, first: int, count: int) -> tuple[bytes, ...]: ...
    def tile(self, level: int, number: int) -> bytes:
        """The hashes of a tile; none where the tree has no such tile."""
        ...

    def regrow(self) -> None:
        """Make the tree anew from the entries; one that is missing has the hash of an empty leaf."""
        ...

    def forget_salts(self, before: datetime) -> int:
        """Erase the salts of entries before a moment; how many there were."""
        ...

    def logs(self) -> tuple[AuditLog, ...]: ...
    def put_log(self, log: AuditLog) -> None: ...


class Transaction(Protocol):
    """Everything, at one moment."""

    @property
    def installations(self) -> Installations: ...
    @property
    def sites(self) -> Sites: ...
    @property
    def joinings(self) -> Joinings: ...
    @property
    def reports(self) -> Reports: ...
    @property
    def services(self) -> Services: ...
    @property
    def revisions(self) -> Revisions: ...
    @property
    def rollouts(self) -> Rollouts: ...
    @property
    def keys(self) -> Keys: ...
    @property
    def secrets(self) -> Secrets: ...
    @property
    def tokens(self) -> Tokens: ...
    @property
    def wakes(self) -> Wakes: ...
    @property
    def usage(self) -> UsageCounts: ...
    @property
    def answers(self) -> Answers: ...
    @property
    def lawbooks(self) -> Lawbooks: ...
    @property
    def grants(self) -> Grants: ...
    @property
    def audit(self) -> Audit: ...


class Store(Protocol):
    """Hands out transactions; may be used from several threads."""

    def read(self) -> AbstractContextManager[Transaction]: ...
    def write(self) -> AbstractContextManager[Transaction]: ...
    def close(self) -> None: ...
