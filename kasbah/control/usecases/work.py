"""What every use case works with: the store, the time, the installation's own settings and key.

A write's transaction ends with the sites' desired states rendered anew, with the entries of the audit log that tell of
it and, once committed, with an announcement of what it touched. So no use case can change a service and forget to tell
a site or a watcher.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kasbah.api.sealing import Vault
from kasbah.clock import Clock
from kasbah.control.changes import MOVES, Changes
from kasbah.control.store.interface import Store, Transaction
from kasbah.control.store.records import Project, RevisionRecord, ServiceRecord
from kasbah.control.usecases.decisions import tell_published
from kasbah.control.usecases.journal import Journal, Said
from kasbah.control.usecases.law_now import LawNow, Library
from kasbah.control.usecases.publish import publish
from kasbah.control.usecases.told import Reached
from kasbah.decide.access import Permissions
from kasbah.domain.ids import RolloutId, ServiceId, SiteId, TokenId, make_id
from kasbah.errors import Conflict, NotFound
from kasbah.settings import Limits

DEFAULT_PROJECT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What this installation was started with."""

    base_domain: str
    ticket_lifetime: timedelta
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One transaction, at one moment. `touched` collects the topics to announce once it is committed, `journal` what is
    told of it in the audit log."""

    tx: Transaction
    now: datetime
    rules: Rules
    key: Ed25519PrivateKey
    vault: Vault
    reached: Reached
    library: Library
    access: Permissions
    touched: set[str] = field(default_factory=set)
    journal: Journal = field(default_factory=Journal)

    @property
    def law(self) -> LawNow:
        """The law as this transaction sees it: read anew each time, so that a change is seen at once, another
        process's too."""
        return self.library.now(self.tx, self.now)

    def publish(self) -> None:
        """Render every site's desired state."""
        told = publish(self.tx, self.key, self.vault, self.law, self.rules.base_domain, self.now, self.reached)
        for one in told:
            self.touched.add(f"desired/{one.site.id}")
            tell_published(self.journal, one)


@dataclass(slots=True)
class Grown:
    """How many entries the audit log has, as far as this process knows; None before it has written any."""

    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """Opens work."""

    store: Store
    clock: Clock
    rules: Rules
    key: Ed25519PrivateKey
    vault: Vault
    library: Library
    access: Permissions
    changes: Changes
    marks: dict[SiteId, str] = field(default_factory=dict)
    """By site, the mark of the report taken last in this process."""
    reached: Reached = field(default_factory=Reached)
    grown: Grown = field(default_factory=Grown)

    @contextmanager
    def read(self) -> Iterator[Work]:
        """Work that changes nothing."""
        with self.store.read() as tx:
            yield self._work(tx)

    @contextmanager
    def write(self) -> Iterator[Work]:
        """Work that is committed, published and announced when its block ends."""
        with self.store.write() as tx:
            work = self._work(tx)
            yield work
            work.publish()
            size = work.journal.write(tx, work.now)
        self._committed(work, size)

    @contextmanager
    def note(self) -> Iterator[Work]:
        """Work that notes what was seen and changes nothing that was asked: committed and announced, not published."""
        with self.store.write() as tx:
            work = self._work(tx)
            yield work
            size = work.journal.write(tx, work.now)
        self._committed(work, size)

    def log(self, said: Said) -> None:
        """An entry of the audit log about what was not done."""
        with self.note() as work:
            work.journal.call = said

    def _committed(self, work: Work, size: int | None) -> None:
        self.grown.size = self.grown.size if size is None else size
        self.changes.announce(work.touched)

    def _work(self, tx: Transaction) -> Work:
        return Work(
            tx=tx,
            now=self.clock.now(),
            rules=self.rules,
            key=self.key,
            vault=self.vault,
            reached=self.reached,
            library=self.library,
            access=self.access,
        )


def new_id(kind: str) -> str:
    """A fresh id of this kind."""
    return make_id(kind, secrets.token_bytes(10))


def project_named(tx: Transaction, name: str) -> Project:
    """The project with this name."""
    for project in tx.installations.projects():
        if project.name == name:
            return project
    raise unknown_project(name)


def unknown_project(name: str) -> NotFound:
    """There is none, or the caller may not know that there is."""
    return NotFound(
        f"there is no project {name!r}",
        hint=f"`kasbah projects list` lists them; whoever names none means {DEFAULT_PROJECT!r}",
        code="project_not_found",
    )


def unknown_rollout(rollout: str) -> NotFound:
    """There is none, or the caller may not know that there is."""
    return NotFound(f"there is no rollout {rollout!r}", hint="a service's last rollout is in `kasbah describe NAME`")


def unknown_token(token: str) -> NotFound:
    """There is none, or the caller may not know that there is."""
    return NotFound(f"there is no token {token!r}", hint="list the tokens first")


def service_named(work: Work, project: str, name: str) -> ServiceRecord:
    """The service with this name, or NotFound."""
    found = work.tx.services.find(project_named(work.tx, project).id, name)
    if found is None:
        raise NotFound(
            f"there is no service {name!r}", hint="list the services with `kasbah ps`", code="service_not_found"
        )
    return found


def revision_named(work: Work, service: ServiceRecord, wanted: str) -> RevisionRecord:
    """The kept revision with this id, or whose id alone begins so. Raises NotFound that names those there are."""
    kept = work.tx.revisions.of(service.id)
    found = [one for one in kept if one.id == wanted] or [one for one in kept if one.id.startswith(wanted)]
    if wanted and len(found) == 1:
        return found[0]
    newest = ", ".join(one.id for one in reversed(kept[-3:])) or "none"
    problem = f"{len(found)} revisions begin with {wanted!r}" if len(found) > 1 else f"there is no revision {wanted!r}"
    raise NotFound(
        f"{problem} of {service.name} that is kept",
        where="revision",
        hint=f"`kasbah describe {service.name}` lists them; the newest: {newest}",
        code="revision_not_found",
    )


def check_version(service: ServiceRecord, expected: int | None) -> None:
    """Refuse to write over what the caller has not seen."""
    if expected is not None and expected != service.version:
        raise Conflict(
            f"service {service.name!r} is at version {service.version}, not {expected}: it changed meanwhile",
            hint="read it again, and send the version you then see (or none, to write whatever it is)",
            code="version_conflict",
        )


def save_service(work: Work, service: ServiceRecord) -> ServiceRecord:
    """Save a changed service as its next version."""
    saved = replace(service, version=service.version + 1)
    work.tx.services.save(saved)
    work.touched.add(service_topic(service.id))
    if service.placement is not None and service.placement.moving:
        work.touched.add(MOVES)
    return saved


def service_topic(service: ServiceId) -> str:
    """What is announced when a service, asked or seen, changed."""
    return f"service/{service}"


def rollout_topic(rollout: RolloutId) -> str:
    """What is announced when a rollout changed."""
    return f"rollout/{rollout}"


def token_topic(token: TokenId) -> str:
    """What is announced when a token is worth nothing any more: those who wait under it are let go."""
    return f"token/{token}"
