"""Watches the sites' audit logs grow, and shows them the control plane's own: each cosigns what only grew.

A site's log that does not go on from what was known of it is refused, with an entry, and stays so until a person looks:
`kasbah audit verify` fails, and the last good checkpoint is kept as what was cosigned.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kasbah.api.agent import AuditAnswer, AuditWord, witness_name
from kasbah.api.checkpoints import Note, cosign, cosigned_at, is_signed, origin_of, read_note
from kasbah.api.signing import parse_public
from kasbah.control.store.records import AuditLog, SiteRecord
from kasbah.control.usecases.checkpoint import CONTROL, control_log
from kasbah.control.usecases.work import Work
from kasbah.decide.merkle import is_consistent, prove_consistency
from kasbah.decide.tiles import nodes_in
from kasbah.domain.audit import Outcome
from kasbah.errors import Invalid


def exchange(work: Work, key: Ed25519PrivateKey, site: SiteRecord, word: AuditWord) -> AuditAnswer:
    """Take a site's word for its log and for ours; the answer."""
    known = next((one for one in work.tx.audit.logs() if one.log == site.id), None)
    try:
        parse_public(word.public_key)
        note = read_note(word.checkpoint)
    except ValueError as error:
        raise Invalid(f"this is no word about an audit log: {error}", where="checkpoint") from error
    behind = known is not None and not known.trouble and known.size != word.told and known.note != note.text
    trouble = "" if behind else _trouble(work, site, known, note, word)
    if trouble:
        known = _refuse(work, site, known, note, word, trouble)
    elif not behind and (known is None or known.note != note.text):
        known = _accept(work, key, site, known, note, word)
    assert known is not None, "it was written just now, or known before"
    _take_cosignature(work, site, known, word)
    ours = control_log(work.tx)
    assert ours is not None, "the log is signed before anything listens"
    seen = word.seen if 0 <= word.seen <= ours.size else 0
    proof = prove_consistency(seen, ours.size, nodes_in(work.tx.audit.tile))
    return AuditAnswer(
        known=known.cosigned_size,
        trouble=known.trouble,
        public_key=ours.public_key,
        checkpoint=ours.note,
        proof=tuple(base64.b64encode(one).decode() for one in proof),
    )


def _trouble(work: Work, site: SiteRecord, known: AuditLog | None, note: Note, word: AuditWord) -> str:
    """Why a site's log is not believed; empty where it is."""
    installation = work.tx.installations.get()
    assert installation is not None, "a site was authenticated"
    if not note.checkpoint.origin.startswith(origin_of(installation.id, f"site/{site.id}", 0)[:-1]):
        return f"it calls itself {note.checkpoint.origin}"
    if not is_signed(note, parse_public(word.public_key)):
        return "its checkpoint is not signed by its key"
    if known is None:
        return ""
    if known.trouble:
        return known.trouble
    if known.public_key != word.public_key:
        return "it is signed by another key than before"
    before, after = read_note(known.note).checkpoint, note.checkpoint
    if before.origin != after.origin:
        return f"it was cut: it was {before.origin} with {before.size} entries, and is {after.origin} with {after.size}"
    try:
        steps = [base64.b64decode(one, validate=True) for one in word.proof]
    except (binascii.Error, ValueError):
        return "its proof cannot be read"
    if before == after or is_consistent(before.size, after.size, steps, before.root, after.root):
        return ""
    return f"its {after.size} entries do not begin with the {before.size} that were known"


def _refuse(
    work: Work, site: SiteRecord, known: AuditLog | None, note: Note, word: AuditWord, trouble: str
) -> AuditLog:
    if known is not None and known.trouble == trouble:
        return known
    blank = AuditLog(log=site.id, public_key=word.public_key, note=note.text, size=0, signed_at=work.now)
    refused = replace(known or blank, trouble=trouble)
    work.tx.audit.put_log(refused)
    work.journal.say("refuse_log", f"sites/{site.name}", outcome=Outcome.REFUSED, reason=trouble)
    return refused


def _accept(
    work: Work, key: Ed25519PrivateKey, site: SiteRecord, known: AuditLog | None, note: Note, word: AuditWord
) -> AuditLog:
    line = cosign(key, witness_name(CONTROL), note.checkpoint, work.now)
    size = note.checkpoint.size
    grown = AuditLog(
        log=site.id,
        public_key=word.public_key,
        note=note.text,
        size=size,
        signed_at=work.now,
        cosigned=Note(checkpoint=note.checkpoint, lines=(*note.lines[:1], line)).text,
        cosigned_size=size,
    )
    work.tx.audit.put_log(grown)
    if known is None:
        work.journal.say("pin_log", f"sites/{site.name}", public_key=word.public_key, entries=size)
    return grown


def _take_cosignature(work: Work, site: SiteRecord, known: AuditLog, word: AuditWord) -> None:
    """Keep a site's word for our log, beside that of others for the same checkpoint."""
    ours = control_log(work.tx)
    if not word.cosigned or ours is None or known.trouble:
        return
    try:
        note = read_note(word.cosigned)
    except ValueError:
        return
    name, size = witness_name(site.id), note.checkpoint.size
    believed = is_signed(note, parse_public(ours.public_key))
    if not believed or cosigned_at(note, name, parse_public(known.public_key)) is None:
        return
    before = read_note(ours.cosigned) if ours.cosigned else None
    same = before is not None and before.checkpoint == note.checkpoint
    if size < ours.cosigned_size or (same and before is not None and any(one.name == name for one in before.lines)):
        return
    lines = before.lines if same and before is not None else note.lines[:1]
    mine = next(one for one in note.lines if one.name == name)
    merged = Note(checkpoint=note.checkpoint, lines=(*lines, mine))
    work.tx.audit.put_log(replace(ours, cosigned=merged.text, cosigned_size=size))
