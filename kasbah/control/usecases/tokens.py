"""Makes, lists and revokes tokens for the API. A token is shown once; we keep its SHA-256."""

from __future__ import annotations

from dataclasses import replace

from kasbah.api.credentials import TokenRequest
from kasbah.control.access.authenticate import Scope
from kasbah.control.access.secrets import Secret, digest_of, make_secret
from kasbah.control.store.interface import Cursor
from kasbah.control.store.records import TokenRecord
from kasbah.control.usecases.work import Work, new_id
from kasbah.domain.ids import TokenId
from kasbah.errors import Conflict, Invalid, NotFound


def create_token(work: Work, request: TokenRequest) -> tuple[TokenRecord, str]:
    """A new token's record, and the token itself."""
    for position, scope in enumerate(request.scopes):
        if scope not in set(Scope):
            raise Invalid(
                f"{scope!r} is no scope",
                where=f"scopes.{position}",
                hint=f"there are: {', '.join(Scope)}",
            )
    if work.tx.tokens.find(request.name) is not None:
        raise Conflict(
            f"there is a token {request.name!r} already",
            hint="revoke it first, or choose another name",
            code="name_taken",
        )
    token = make_secret(Secret.TOKEN)
    record = TokenRecord(
        id=TokenId(new_id("token")),
        name=request.name,
        sha256=digest_of(token),
        scopes=tuple(scope.value for scope in Scope if scope in request.scopes),
        created_at=work.now,
    )
    work.tx.tokens.add(record)
    return record, token


def list_tokens(work: Work, after: Cursor | None, limit: int, *, revoked: bool) -> tuple[TokenRecord, ...]:
    """One page of tokens, the revoked ones only if asked for."""
    return work.tx.tokens.page(after, limit, revoked=revoked)


def revoke_token(work: Work, name_or_id: str) -> TokenRecord:
    """Revoke a token; the last one that may do everything is kept, or nobody could make another."""
    record = work.tx.tokens.find(name_or_id)
    if record is None:
        raise NotFound(f"there is no token {name_or_id!r}", hint="list the tokens first")
    if record.revoked_at is not None:
        return record
    others = (one for one in work.tx.tokens.all() if one.id != record.id)
    if Scope.ADMIN in record.scopes and not any(Scope.ADMIN in one.scopes for one in others):
        raise Conflict(
            f"{record.name!r} is the last token with the scope 'admin'",
            hint="make another with that scope first",
            code="last_admin",
        )
    revoked = replace(record, revoked_at=work.now)
    work.tx.tokens.save(revoked)
    return revoked
