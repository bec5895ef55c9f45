"""Makes, lists and revokes tokens for the API, and switches them off and on. A token is shown once; we keep its
SHA-256.

Nobody gives more than he has: not by making a token, and not by switching one on again. There is always somebody who
owns the installation.
"""

from __future__ import annotations

from dataclasses import replace

from kasbah.api.credentials import GrantSection, TokenRequest
from kasbah.api.secret_kinds import Secret, make_secret, sha256_of
from kasbah.control.store.interface import Cursor
from kasbah.control.store.records import TokenRecord
from kasbah.control.usecases.given import ceiling, expiry, refuse_more
from kasbah.control.usecases.permit import holds_over, permit_in, visible
from kasbah.control.usecases.work import Work, new_id, project_named, token_topic, unknown_project, unknown_token
from kasbah.domain.access import Action, Grant
from kasbah.domain.ids import TokenId
from kasbah.errors import Conflict


def create_token(work: Work, caller: TokenRecord, request: TokenRequest) -> tuple[TokenRecord, str]:
    """A new token's record, and the token itself."""
    token = make_secret(Secret.TOKEN)
    record = TokenRecord(
        id=TokenId(new_id("token")),
        name=request.name,
        sha256=sha256_of(token),
        kind=request.kind,
        grants=tuple(_grant(work, caller, one) for one in request.grants),
        max_level=ceiling(caller, request.max_level),
        created_at=work.now,
        created_by=caller.id,
        expires_at=expiry(work, caller, request.expires_in_seconds),
    )
    refuse_more(work, caller, record.principal)
    if work.tx.tokens.find(request.name) is not None:
        raise Conflict(
            f"there is a token {request.name!r} already",
            hint="revoke it first, or choose another name",
            code="name_taken",
        )
    work.journal.detail(name=record.name, grants="; ".join(map(_told, request.grants)))
    work.tx.tokens.add(record)
    return record, token


def list_tokens(
    work: Work, caller: TokenRecord, after: Cursor | None, limit: int, *, revoked: bool
) -> tuple[TokenRecord, ...]:
    """One page of the tokens that the caller may see, the revoked ones only if asked for."""

    def page(after: Cursor | None, limit: int) -> tuple[TokenRecord, ...]:
        return work.tx.tokens.page(after, limit, revoked=revoked)

    return visible(page, lambda one: holds_over(work, caller, Action.TOKEN_READ, one), after, limit)


def revoke_token(work: Work, name_or_id: str) -> TokenRecord:
    """Revoke a token."""
    record = _find(work, name_or_id)
    if record.revoked_at is not None:
        return record
    _keep_an_owner(work, record)
    return _save(work, replace(record, revoked_at=work.now))


def disable_token(work: Work, name_or_id: str) -> TokenRecord:
    """Switch a token off: it is worth nothing from now on, to whoever waits under it as well."""
    record = _find(work, name_or_id)
    if record.disabled_at is not None:
        return record
    _keep_an_owner(work, record)
    return _save(work, replace(record, disabled_at=work.now))


def enable_token(work: Work, caller: TokenRecord, name_or_id: str) -> TokenRecord:
    """Switch a token on again, which is as much as giving what it grants."""
    record = _find(work, name_or_id)
    if record.revoked_at is not None:
        raise Conflict(f"the token {record.name!r} was revoked", hint="make another", code="revoked")
    on = replace(record, disabled_at=None)
    refuse_more(work, caller, on.principal)
    return _save(work, on)


def _find(work: Work, name_or_id: str) -> TokenRecord:
    found = work.tx.tokens.find(name_or_id)
    if found is None:
        raise unknown_token(name_or_id)
    return found


def _told(grant: GrantSection) -> str:
    """What is granted, in a line of the audit log."""
    what = ", ".join(filter(None, (grant.role and grant.role.value, *(one.value for one in grant.actions))))
    return f"{what} in {grant.project or 'the installation'}"


def _save(work: Work, record: TokenRecord) -> TokenRecord:
    work.journal.detail(id=record.id, name=record.name)
    work.tx.tokens.save(record)
    work.touched.add(token_topic(record.id))
    return record


def _grant(work: Work, caller: TokenRecord, asked: GrantSection) -> Grant:
    """What is asked for, in a project that the caller may make tokens for."""
    project = None
    if asked.project is not None:
        project = project_named(work.tx, asked.project).id
        if not caller.principal.projects & {project, None}:
            raise unknown_project(asked.project)
    permit_in(work, caller, Action.TOKEN_CREATE, project)
    return Grant(project=project, role=asked.role, actions=tuple(one for one in Action if one in asked.actions))


def _keep_an_owner(work: Work, record: TokenRecord) -> None:
    """Refuse to take the last token that may everything for as long as there is anything: nobody could make another."""
    if _owns_for_good(record) and not any(_owns_for_good(one) for one in work.tx.tokens.all() if one.id != record.id):
        raise Conflict(
            f"{record.name!r} is the last owner of this installation",
            hint="make another first: kasbah tokens create NAME --role owner --everywhere",
            code="last_owner",
        )


def _owns_for_good(token: TokenRecord) -> bool:
    lasting = token.disabled_at is None and token.expires_at is None and token.max_level is None
    return lasting and token.owns_everything
