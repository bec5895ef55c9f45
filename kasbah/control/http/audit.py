"""The audit logs: entries, proofs, bundles for an export, and where each log stands; and the break in one,
accepted."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Path, Query
from fastapi.responses import Response
from pydantic import BaseModel

from kasbah.api import public
from kasbah.api.agent import EARLIEST, LATEST
from kasbah.api.audit import (
    AcceptLogRequest,
    AuditBundle,
    AuditEntryDetail,
    AuditEntryView,
    AuditLogView,
    LogBreakView,
    ShownLog,
    entry_fields,
    entry_view,
)
from kasbah.api.checkpoints import Checkpoint, read_note
from kasbah.control.http import paging
from kasbah.control.http.call import Call, anywhere, may
from kasbah.control.http.routers import for_people
from kasbah.control.store.audit_logs import AuditLog, LogBreak
from kasbah.control.usecases.accept_log import accept_log
from kasbah.control.usecases.read_audit import (
    breaks_of,
    list_entries,
    list_logs,
    prove_entry,
    read_bundle,
    witnesses_of,
)
from kasbah.control.usecases.work import Work
from kasbah.domain.access import Action
from kasbah.errors import Invalid

router = for_people("/audit", "audit")

LAST = 2**53
Number = Annotated[int, Path(ge=0, lt=LAST)]
LogName = Annotated[str, Path(max_length=60, description="The site's name, or its id.")]
Text = Annotated[str, Query(max_length=200)]


@router.get("/entries", response_model=public.Page[AuditEntryView])
def list_audit(
    call: Annotated[Call, may(Action.AUDIT_READ, anywhere)],
    cursor: Annotated[str | None, Query(max_length=20, description="`next` of the page before.")] = None,
    limit: paging.Limit = 50,
    since: Annotated[datetime | None, Query(description="From this moment on.")] = None,
    actor: Annotated[str, Query(max_length=200, description="A name, or the id of a credential.")] = "",
    act: Annotated[str, Query(max_length=200, description="The operation.")] = "",
) -> Response:
    """One page of entries of the control plane's log, the newest first."""
    before, moment = _before(cursor), _since(since)

    def find(work: Work) -> BaseModel:
        found = list_entries(work, before=before, limit=limit + 1, since=moment, actor=actor, act=act)
        following = str(found[limit - 1].sequence) if len(found) > limit else None
        return public.Page[AuditEntryView](items=[entry_view(one) for one in found[:limit]], next=following)

    return call.read(find)


@router.get("/entries/{sequence}", response_model=AuditEntryDetail)
def show_audit(sequence: Number, call: Annotated[Call, may(Action.AUDIT_READ, anywhere)]) -> Response:
    """An entry, with the proof that it is in the log as it was signed last."""

    def look(work: Work) -> BaseModel:
        found = prove_entry(work, sequence)
        salt = found.logged.salt if call.caller.owns_everything else None
        return AuditEntryDetail.model_validate({
            **entry_fields(found.entry),
            "leaf": found.logged.leaf.decode("ascii", "replace"),
            "checkpoint": found.checkpoint,
            "proof": list(found.proof),
            "salt": salt.hex() if salt is not None else None,
        })  # fmt: skip

    return call.read(look)


@router.get("/bundles/{number}", response_model=AuditBundle)
def read_audit(number: Number, call: Annotated[Call, may(Action.AUDIT_READ, anywhere)]) -> Response:
    """At most 256 entries as their exact bytes, for an export."""
    return call.read(lambda work: AuditBundle(number=number, entries=list(read_bundle(work, number))))


@router.get("/logs", response_model=public.Page[AuditLogView])
def list_audit_logs(call: Annotated[Call, may(Action.AUDIT_READ, anywhere)]) -> Response:
    """Every audit log and where it stands. There are few: always one page."""

    def look(work: Work) -> BaseModel:
        items = [_log(work, name, one) for name, one in list_logs(work)]
        return public.Page[AuditLogView](items=items)

    return call.read(look)


@router.post("/logs/{log}/accept", response_model=AuditLogView)
def accept_audit_log(
    log: LogName, body: AcceptLogRequest, call: Annotated[Call, may(Action.AUDIT_ACCEPT, anywhere)]
) -> Response:
    """Accept the break in a site's log that is refused: it goes on from what the site shows. What was known is kept."""
    key = call.request.app.state.audit_key

    def act(work: Work) -> BaseModel:
        said = {"public_key": body.public_key, "root": body.root, "reason": body.reason}
        return _log(work, *accept_log(work, key, call.caller, log, **said))

    return call.write(act)


def _log(work: Work, name: str, log: AuditLog) -> AuditLogView:
    shown = read_note(log.offered).checkpoint if log.trouble and log.offered else None
    return AuditLogView(
        log=name,
        origin=read_note(log.note).checkpoint.origin,
        public_key=log.public_key,
        checkpoint=log.note,
        size=log.size,
        signed_at=log.signed_at,
        cosigned=log.cosigned,
        cosigned_size=log.cosigned_size,
        witnesses=dict(witnesses_of(work, log)),
        trouble=log.trouble,
        shown=None if shown is None else _shown(log, shown),
        breaks=[_break(one) for one in breaks_of(work, log)],
    )


def _shown(log: AuditLog, shown: Checkpoint) -> ShownLog:
    root = base64.b64encode(shown.root).decode()
    return ShownLog(origin=shown.origin, public_key=log.offered_key, size=shown.size, root=root)


def _break(one: LogBreak) -> LogBreakView:
    return LogBreakView(
        accepted_at=one.accepted_at,
        accepted_by=one.accepted_by,
        reason=one.reason,
        trouble=one.trouble,
        public_key=one.public_key,
        checkpoint=one.note,
        size=read_note(one.note).checkpoint.size,
        cosigned=one.cosigned,
        cosigned_size=one.cosigned_size,
    )


def _since(since: datetime | None) -> datetime | None:
    """The moment asked for, in UTC where nothing else is said."""
    if since is None:
        return None
    moment = since if since.tzinfo is not None else since.replace(tzinfo=UTC)
    if not EARLIEST <= moment < LATEST:
        raise Invalid("this moment is not between 1970 and 9000", where="since", hint="name one since the log began")
    return moment


def _before(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not cursor.isascii() or not cursor.isdigit() or int(cursor) >= LAST:
        raise Invalid("this cursor is not one of ours", where="cursor", hint="send `next` of the page before, or none")
    return int(cursor)
