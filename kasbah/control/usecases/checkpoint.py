"""Signs the control plane's audit log, and finds out at each start whether it still is what was signed last.

The newest checkpoint lies beside the key too, outside the database. A database that was restored, put back or
rewritten does not go on with what that says: the log is then cut. It goes on under its next life, so that nothing which
was signed before becomes false, and its next entry says where it was cut and what was lost.
"""

from __future__ import annotations

import base64
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kasbah.api.checkpoints import Checkpoint, Note, is_signed, life_of, origin_of, read_note, sign_checkpoint
from kasbah.api.signing import public_text
from kasbah.control.store.audit_logs import AuditLog
from kasbah.control.store.interface import Transaction
from kasbah.control.usecases.work import Work
from kasbah.decide.merkle import root_of
from kasbah.decide.tiles import nodes_in

CONTROL = "control"
FIRST_LIFE = 1


def resume(work: Work, key: Ed25519PrivateKey, kept: Note | None) -> int | None:
    """The life that the log goes on under where it was cut, which is written to it; None where it just goes on."""
    installation, known = work.tx.installations.get(), control_log(work.tx)
    if installation is None:
        return None
    if kept is not None and not kept.checkpoint.origin.startswith(origin_of(installation.id, CONTROL, 0)[:-1]):
        kept = None  # it was another installation's: its database is gone, and a new one began here
    why = _cut(work, key, known, kept)
    if not why:
        return None
    work.tx.audit.regrow()
    last = kept.checkpoint if kept is not None else None
    lives = [life_of(read_note(known.note).checkpoint.origin)] if known is not None else []
    lives += [life_of(last.origin)] if last is not None else []
    work.journal.say(
        "cut_log",
        "audit",
        reason=why,
        entries=work.tx.audit.size(),
        epoch=installation.epoch,
        signed_entries=last.size if last is not None else None,
        signed_root=base64.b64encode(last.root).decode() if last is not None else None,
        signed_as=last.origin if last is not None else None,
    )
    return max(lives, default=0) + 1


def sign_log(work: Work, key: Ed25519PrivateKey, life: int | None = None) -> AuditLog | None:
    """Sign the log as it is; what is known of it then. None where it has not grown since it was signed."""
    installation, known, size = work.tx.installations.get(), control_log(work.tx), work.tx.audit.size()
    assert installation is not None, "the installation is made before anything is written"
    if known is not None and known.size == size and life is None:
        return None
    if life is None:
        life = FIRST_LIFE if known is None else life_of(read_note(known.note).checkpoint.origin)
    root = root_of(size, nodes_in(work.tx.audit.tile))
    note = sign_checkpoint(key, Checkpoint(origin=origin_of(installation.id, CONTROL, life), size=size, root=root))
    blank = AuditLog(log=CONTROL, public_key="", note="", size=0, signed_at=work.now)
    signed = replace(
        known or blank,
        public_key=public_text(key),
        note=note.text,
        size=size,
        signed_at=work.now,
        epoch=installation.epoch,
    )
    work.tx.audit.put_log(signed)
    return signed


def control_log(tx: Transaction) -> AuditLog | None:
    """What is known of the control plane's own log."""
    return next((one for one in tx.audit.logs() if one.log == CONTROL), None)


def _cut(work: Work, key: Ed25519PrivateKey, known: AuditLog | None, kept: Note | None) -> str:
    """Why the log cannot just go on; empty where it can."""
    installation, size = work.tx.installations.get(), work.tx.audit.size()
    if known is not None and installation is not None and known.epoch != installation.epoch:
        lost = max(kept.checkpoint.size - size, 0) if kept is not None else None
        told = "nobody here knows how many entries were lost" if lost is None else f"{lost} entries were lost"
        return f"a backup was restored: {told}"
    if known is not None and known.public_key != public_text(key):
        return "its key is another one now"
    if kept is None:
        return ""
    if not is_signed(kept, key.public_key()):
        return "its key did not sign the last checkpoint"
    if kept.checkpoint.size > size:
        return f"{kept.checkpoint.size - size} entries that were signed are not in the database"
    try:
        root = root_of(kept.checkpoint.size, nodes_in(work.tx.audit.tile))
    except LookupError:
        root = b""
    return "" if root == kept.checkpoint.root else "its entries are not those that were signed"
