"""A person accepts the break in a site's audit log that was refused: it goes on from what the site shows now.

Nothing is healed in silence. What was known until then is kept whole (`LogBreak`), the call's entry says who accepted
what, and why, and `kasbah audit verify` tells of the break for ever.
"""

from __future__ import annotations

import base64
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kasbah.api.agent import witness_name
from kasbah.api.checkpoints import Note, cosign, read_note
from kasbah.control.store.audit_logs import AuditLog, LogBreak
from kasbah.control.store.records import TokenRecord
from kasbah.control.usecases.checkpoint import CONTROL, control_log
from kasbah.control.usecases.read_audit import list_logs
from kasbah.control.usecases.work import Work
from kasbah.errors import Conflict, Invalid, NotFound

LEAST_REASON = 3


def accept_log(
    work: Work, key: Ed25519PrivateKey, caller: TokenRecord, name: str, *, public_key: str, root: str, reason: str
) -> tuple[str, AuditLog]:
    """Take what a refused log shows for the log from now on; its name, and what is known of it then. `public_key` and
    `root` (base64) say what the caller has seen of it. Raises NotFound, Conflict where it is not refused, shows nothing
    that could be taken or something else by now, and Invalid without a reason."""
    title, known = _refused(work, name)
    if len(reason.strip()) < LEAST_REASON:
        raise Invalid("why is it accepted?", where="reason", hint="say what broke the log, and where that is recorded")
    if not known.offered:
        raise Conflict(
            f"what {title} shows is no log of that site: {known.trouble}",
            hint="mend the site first, or have its machine join as a new site",
            code="no_log_shown",
        )
    shown, before = read_note(known.offered), read_note(known.note)
    if (public_key, root) != (known.offered_key, _text(shown.checkpoint.root)):
        raise Conflict(
            f"{title} shows another log by now: {shown.checkpoint.size} entries, signed by {known.offered_key}",
            hint="look at it again: kasbah audit verify",
            code="another_log",
        )
    ours = control_log(work.tx)
    assert ours is not None, "it is signed before anything listens"
    _keep(work, caller, ours, known, reason.strip())
    work.journal.detail(
        site=title,
        reason=reason.strip(),
        trouble=known.trouble,
        known_entries=before.checkpoint.size,
        known_root=_text(before.checkpoint.root),
        known_key=known.public_key,
        cosigned_entries=known.cosigned_size,
        accepted_entries=shown.checkpoint.size,
        accepted_root=root,
        accepted_key=public_key,
    )
    _forget_its_word(work, ours, known)
    line = cosign(key, witness_name(CONTROL), shown.checkpoint, work.now)
    taken = AuditLog(
        log=known.log,
        public_key=known.offered_key,
        note=shown.text,
        size=shown.checkpoint.size,
        signed_at=work.now,
        cosigned=Note(checkpoint=shown.checkpoint, lines=(*shown.lines[:1], line)).text,
        cosigned_size=shown.checkpoint.size,
    )
    work.tx.audit.put_log(taken)
    return title, taken


def _refused(work: Work, name: str) -> tuple[str, AuditLog]:
    """The refused log of this name."""
    found = next(((title, one) for title, one in list_logs(work) if name in (title, one.log)), None)
    if found is None or found[1].log == CONTROL:
        raise NotFound(
            f"there is no audit log of a site {name!r}", hint="`kasbah audit verify` lists them", code="log_not_found"
        )
    if not found[1].trouble:
        raise Conflict(
            f"the audit log of {name} is not refused: there is nothing to accept",
            hint="`kasbah audit verify` says how each log stands",
            code="log_not_refused",
        )
    return found


def _keep(work: Work, caller: TokenRecord, ours: AuditLog, known: AuditLog, reason: str) -> None:
    """Keep what was known of a log before its break."""
    number = sum(one.log == known.log for one in work.tx.audit.breaks()) + 1
    work.tx.audit.add_break(
        LogBreak(
            log=known.log,
            number=number,
            public_key=known.public_key,
            note=known.note,
            cosigned=known.cosigned,
            cosigned_size=known.cosigned_size,
            witnessed=ours.cosigned,
            trouble=known.trouble,
            accepted_key=known.offered_key,
            accepted_note=known.offered,
            accepted_at=work.now,
            accepted_by=caller.name,
            reason=reason,
        )
    )


def _forget_its_word(work: Work, ours: AuditLog, known: AuditLog) -> None:
    """A site that has another key can no longer be found in what the old one cosigned of our log: the break keeps that,
    and the site cosigns again within seconds."""
    if known.public_key == known.offered_key or not ours.cosigned:
        return
    note = read_note(ours.cosigned)
    lines = tuple(line for line in note.lines if line.name != witness_name(known.log))
    if len(lines) == len(note.lines):
        return
    left = replace(note, lines=lines).text if len(lines) > 1 else ""
    work.tx.audit.put_log(replace(ours, cosigned=left, cosigned_size=ours.cosigned_size if left else 0))


def _text(root: bytes) -> str:
    return base64.b64encode(root).decode()
