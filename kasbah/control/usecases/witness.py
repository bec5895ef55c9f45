"""Watches the sites' audit logs grow, and shows them the control plane's own: each cosigns what only grew.

A site's log that does not go on from what was known of it is refused, with an entry, and stays so until a person
accepts the break (`accept_log`): `kasbah audit verify` fails, and the last good checkpoint is kept as what was
cosigned. What is shown instead is kept beside it, and watched as it grows: another log again is another refusal.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kasbah.api.agent import AuditAnswer, AuditWord, witness_name
from kasbah.api.checkpoints import Checkpoint, Note, cosign, cosigned_at, is_signed, origin_of, read_note
from kasbah.api.signing import parse_public
from kasbah.control.store.audit_logs import AuditLog
from kasbah.control.store.records import SiteRecord
from kasbah.control.usecases.checkpoint import CONTROL, control_log
from kasbah.control.usecases.work import Work
from kasbah.decide.merkle import is_consistent, prove_consistency
from kasbah.decide.tiles import nodes_in
from kasbah.domain.audit import Outcome
from kasbah.errors import Invalid

AGAIN_AFTER = timedelta(minutes=1)
"""How long after a refusal the next of the same log is an entry."""
MOST_SITES = 1_000


def exchange(work: Work, key: Ed25519PrivateKey, site: SiteRecord, word: AuditWord) -> AuditAnswer:
    """Take a site's word for its log and for ours; the answer."""
    known = next((one for one in work.tx.audit.logs() if one.log == site.id), None)
    try:
        parse_public(word.public_key)
        note = read_note(word.checkpoint)
    except ValueError as error:
        raise Invalid(f"this is no word about an audit log: {error}", where="checkpoint") from error
    stranger = _stranger(work, site, note, word)
    if known is not None and known.trouble:
        if not stranger and not _goes_on_as_offered(known, note, word):
            known = _refuse(work, site, known, note, word, known.trouble)
    elif stranger:
        known = _refuse(work, site, known, note, word, stranger, shown=False)
    elif known is None:
        known = _accept(work, key, site, known, note, word)
    elif trouble := _trouble(known, note, word):
        known = _refuse(work, site, known, note, word, trouble)
    elif known.note != note.text and known.size == word.told:
        known = _accept(work, key, site, known, note, word)
    assert known is not None, "it was written just now, or known before"
    _take_cosignature(work, site, known, word)
    ours = control_log(work.tx)
    assert ours is not None, "the log is signed before anything listens"
    seen = word.seen if 0 <= word.seen <= ours.size else 0
    proof = prove_consistency(seen, ours.size, nodes_in(work.tx.audit.tile))
    return AuditAnswer(
        known=read_note(known.offered).checkpoint.size if known.trouble and known.offered else known.cosigned_size,
        trouble=known.trouble,
        public_key=ours.public_key,
        checkpoint=ours.note,
        proof=tuple(base64.b64encode(one).decode() for one in proof),
    )


def _stranger(work: Work, site: SiteRecord, note: Note, word: AuditWord) -> str:
    """Why what is shown is no log of this site's at all; empty where it is one."""
    installation = work.tx.installations.get()
    assert installation is not None, "a site was authenticated"
    if not note.checkpoint.origin.startswith(origin_of(installation.id, f"site/{site.id}", 0)[:-1]):
        return f"it calls itself {note.checkpoint.origin}"
    if not is_signed(note, parse_public(word.public_key)):
        return "its checkpoint is not signed by its key"
    return ""


def _trouble(known: AuditLog, note: Note, word: AuditWord) -> str:
    """Why a site's log does not go on from what was known of it; empty where it does, or where what it proves begins
    elsewhere: it is then asked again. Of a log that no proof could help none is waited for."""
    if known.public_key != word.public_key:
        return "it is signed by another key than before"
    before, after = read_note(known.note).checkpoint, note.checkpoint
    if before.origin != after.origin:
        return f"it was cut: it was {before.origin} with {before.size} entries, and is {after.origin} with {after.size}"
    if after.size < before.size:
        return f"it has {after.size} entries, and {before.size} were known"
    if before == after or known.size != word.told or _only_grew(before, after, word):
        return ""
    return f"its {after.size} entries do not begin with the {before.size} that were known"


def _only_grew(before: Checkpoint, after: Checkpoint, word: AuditWord) -> bool:
    try:
        steps = [base64.b64decode(one, validate=True) for one in word.proof]
    except (binascii.Error, ValueError):
        return False
    return before == after or is_consistent(before.size, after.size, steps, before.root, after.root)


def _goes_on_as_offered(known: AuditLog, note: Note, word: AuditWord) -> bool:
    """Whether a refused log is the one that was shown when it was refused, or has grown from it."""
    if not known.offered or known.offered_key != word.public_key:
        return False
    before, after = read_note(known.offered).checkpoint, note.checkpoint
    if before.origin != after.origin or after.size < before.size:
        return False
    if word.told != before.size:  # the site does not know yet what a proof has to begin with
        return after.size > before.size or after == before
    return _only_grew(before, after, word)


def _refuse(
    work: Work,
    site: SiteRecord,
    known: AuditLog | None,
    note: Note,
    word: AuditWord,
    trouble: str,
    *,
    shown: bool = True,
) -> AuditLog:
    """Refuse a log; what it shows is kept beside what is known where it may be accepted later (`shown`)."""
    blank = AuditLog(log=site.id, public_key=word.public_key, note=note.text, size=0, signed_at=work.now)
    offer = (note.text, word.public_key) if shown else ("", "")
    refused = replace(known or blank, trouble=trouble, offered=offer[0], offered_key=offer[1])
    work.tx.audit.put_log(refused)
    if known is not None and known.trouble and _told_just_now(work, site):
        return refused
    work.journal.say(
        "refuse_log",
        f"sites/{site.name}",
        outcome=Outcome.REFUSED,
        reason=trouble,
        shown_entries=note.checkpoint.size,
        shown_root=base64.b64encode(note.checkpoint.root).decode(),
        shown_key=word.public_key,
    )
    return refused


def _told_just_now(work: Work, site: SiteRecord) -> bool:
    """Whether an entry says already that this log is refused: who shows another one at each call fills no log."""
    since = work.now - AGAIN_AFTER
    found = work.tx.audit.page(before=None, limit=MOST_SITES, since=since, act="refuse_log")
    return any(one.object == f"sites/{site.name}" for one in found)


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
