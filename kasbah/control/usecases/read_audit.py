"""What people read of the audit logs: entries with their proofs, bundles for an export, and where each log stands."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from kasbah.api.agent import witness_name
from kasbah.api.checkpoints import read_note
from kasbah.control.store.audit_logs import AuditLog, LogBreak
from kasbah.control.store.records import LoggedEntry
from kasbah.control.usecases.checkpoint import CONTROL, control_log
from kasbah.control.usecases.work import Work
from kasbah.decide.merkle import prove_inclusion
from kasbah.decide.tiles import WIDTH, nodes_in
from kasbah.domain.audit import Entry, decode
from kasbah.errors import NotFound, Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Proved:
    """An entry, and what proves that it is in the log."""

    entry: Entry
    logged: LoggedEntry
    checkpoint: str
    proof: tuple[str, ...]


def list_entries(
    work: Work, *, before: int | None, limit: int, since: datetime | None, actor: str, act: str
) -> tuple[Entry, ...]:
    """One page of entries, the newest first."""
    found = work.tx.audit.page(before=before, limit=limit, since=since, actor=actor, act=act)
    return tuple(_read(one) for one in found)


def prove_entry(work: Work, sequence: int) -> Proved:
    """An entry with the proof that it is in the log as it was signed last."""
    logged = work.tx.audit.get(sequence)
    if logged is None:
        raise NotFound(
            f"there is no entry {sequence}; the log has {work.tx.audit.size()}", hint="`kasbah audit log` lists them"
        )
    signed = control_log(work.tx)
    if signed is None or sequence >= signed.size:
        raise Unavailable(f"entry {sequence} is not signed yet", hint="ask again in a second", code="not_signed_yet")
    proof = prove_inclusion(sequence, signed.size, nodes_in(work.tx.audit.tile))
    told = tuple(base64.b64encode(one).decode() for one in proof)
    return Proved(entry=_read(logged), logged=logged, checkpoint=signed.note, proof=told)


def read_bundle(work: Work, number: int) -> tuple[str, ...]:
    """The exact bytes of at most 256 entries."""
    first = number * WIDTH
    if not 0 <= first < work.tx.audit.size():
        raise NotFound(f"there is no bundle {number} of entries")
    return tuple(one.decode() for one in work.tx.audit.leaves(first, WIDTH))


def list_logs(work: Work) -> tuple[tuple[str, AuditLog], ...]:
    """Every log that is known, with the name that people know it by; the control plane's own first."""
    names = {CONTROL: CONTROL, **{str(site.id): site.name for site in work.tx.sites.all()}}
    logs = sorted(work.tx.audit.logs(), key=lambda one: (one.log != CONTROL, one.log))
    return tuple((names.get(one.log, one.log), one) for one in logs)


def breaks_of(work: Work, log: AuditLog) -> tuple[LogBreak, ...]:
    """The breaks in a log that somebody accepted, the first first."""
    return tuple(one for one in work.tx.audit.breaks() if one.log == log.log)


def witnesses_of(work: Work, log: AuditLog) -> Mapping[str, str]:
    """The public keys of those who may have cosigned a log, by the names they sign with, where they did."""
    if not log.cosigned:
        return {}
    signed = {line.name for line in read_note(log.cosigned).lines}
    return {name: key for name, key in witness_keys(work).items() if name in signed and name != _origin(log)}


def witness_keys(work: Work) -> dict[str, str]:
    """The keys of all logs' owners, by the names that they cosign others' logs with."""
    return {witness_name(one.log): one.public_key for one in work.tx.audit.logs()}


def _origin(log: AuditLog) -> str:
    return read_note(log.note).checkpoint.origin


def _read(logged: LoggedEntry) -> Entry:
    """The entry, from its leaf. One whose bytes were spoilt in the database is told by what it is looked for by."""
    try:
        return decode(logged.leaf)
    except ValueError:
        return Entry(
            sequence=logged.sequence,
            at=logged.at,
            actor=logged.actor,
            credential=logged.credential,
            act=logged.act,
            object=logged.object,
            reason="its bytes are damaged: `kasbah audit verify` says where the log is not what was signed",
        )
