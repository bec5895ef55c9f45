"""What one transaction does, told for the audit log, and written to it as the transaction's last act.

So a change and its entries are committed together, or neither is. The entry of the call that caused it comes first;
what the installation decided because of it follows, in its own name, and names the call's entry as its `cause`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from kasbah.control.store.interface import Transaction
from kasbah.control.store.records import LoggedEntry
from kasbah.domain.audit import ITSELF, SALT_BYTES, Entry, Outcome, commit, encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts: a token's name with its id, a site's with its own; nobody's id for the installation itself."""

    name: str
    credential: str = ""


KASBAH = Actor(name=ITSELF)
UNKNOWN = Actor(name="unknown")
"""Whoever showed nothing that is known here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One entry, before it has its place. `sent` is what a commitment is made to; it goes no further."""

    actor: Actor = KASBAH
    act: str
    object: str
    outcome: Outcome = Outcome.DONE
    reason: str = ""
    details: Mapping[str, str] = field(default_factory=dict)
    sent: bytes = b""


@dataclass(slots=True, kw_only=True)
class Journal:
    """Collects what a transaction says. `call` is what a caller asked, `details` what a use case adds to that."""

    call: Said | None = None
    details: dict[str, str] = field(default_factory=dict)
    decided: list[Said] = field(default_factory=list)

    def detail(self, **more: object) -> None:
        """Add to the entry of the call: names, ids and numbers. What is None or empty is left out."""
        self.details |= {name: str(value) for name, value in more.items() if value not in (None, "", ())}

    def say(
        self, act: str, object: str, *, outcome: Outcome = Outcome.DONE, reason: str = "", **details: object
    ) -> None:
        """Add an entry of the installation's own."""
        told = {name: str(value) for name, value in details.items() if value not in (None, "", ())}
        self.decided.append(Said(act=act, object=object, outcome=outcome, reason=reason, details=told))

    def write(self, tx: Transaction, now: datetime) -> int | None:
        """Append what was said; the log's size then, None where nothing was."""
        first = tx.audit.size() if self.call is not None or self.decided else 0
        said = list(self.decided)
        if self.call is not None:
            cause = {"cause": str(first)}
            said = [replace(one, details={**one.details, **cause}) for one in said]
            said.insert(0, replace(self.call, details={**self.call.details, **self.details}))
        tx.audit.append([_entry(one, first + place, now) for place, one in enumerate(said)])
        return first + len(said) if said else None


def _entry(said: Said, sequence: int, now: datetime) -> LoggedEntry:
    salt = secrets.token_bytes(SALT_BYTES) if said.sent else None
    entry = Entry(
        sequence=sequence,
        at=now,
        actor=said.actor.name,
        credential=said.actor.credential,
        act=said.act,
        object=said.object,
        outcome=said.outcome,
        reason=said.reason,
        details=tuple(sorted(said.details.items())),
        commitment=commit(salt, said.sent) if salt is not None else "",
    )
    return LoggedEntry(
        sequence=sequence,
        at=now,
        actor=entry.actor,
        credential=entry.credential,
        act=entry.act,
        object=entry.object,
        leaf=encode(entry),
        salt=salt,
    )
