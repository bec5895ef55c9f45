"""Who calls, and may they do this? Tokens by their digest; scopes by what each includes.

An API token opens /api/v1 only, a site's token /agent/v1 only. What is unknown, revoked or malformed is refused alike.
"""

from __future__ import annotations

import hmac
from enum import StrEnum

from kasbah.control.access.secrets import digest_of
from kasbah.control.store.interface import Transaction
from kasbah.control.store.records import SiteRecord, TokenRecord
from kasbah.errors import Denied, Unauthenticated


class Scope(StrEnum):
    """What a token may: look, deploy (and so look), make and revoke keys, everything."""

    READ = "read"
    DEPLOY = "deploy"
    KEYS = "keys"
    ADMIN = "admin"


INCLUDES = {
    Scope.READ: frozenset({Scope.READ}),
    Scope.DEPLOY: frozenset({Scope.DEPLOY, Scope.READ}),
    Scope.KEYS: frozenset({Scope.KEYS}),
    Scope.ADMIN: frozenset(Scope),
}

HINT = "set KASBAH_TOKEN, or run on the machine and as the user that ran `kasbah up`"


def authenticate(tx: Transaction, authorization: str | None) -> TokenRecord:
    """The token in an Authorization header."""
    digest = digest_of(_bearer(authorization))
    token = tx.tokens.by_sha256(digest)
    if token is None or not hmac.compare_digest(token.sha256, digest) or token.revoked_at is not None:
        raise Unauthenticated("this token is not known here, or was revoked", hint=HINT)
    return token


def authorize(token: TokenRecord, scope: Scope) -> None:
    """Refuse a token that does not include `scope`."""
    held = {Scope(one) for one in token.scopes if one in set(Scope)}
    if not any(scope in INCLUDES[one] for one in held):
        raise Denied(
            f"the token {token.name!r} may not do this: it lacks the scope {scope.value!r}",
            hint="use a token with that scope, or have an administrator make one",
            code="scope_missing",
        )


def authenticate_site(tx: Transaction, authorization: str | None) -> SiteRecord:
    """The site whose token is in an Authorization header."""
    digest = digest_of(_bearer(authorization))
    found = None
    for site in tx.sites.all():  # all of them, so that the time taken tells nothing
        if hmac.compare_digest(site.token_sha256, digest):
            found = site
    if found is None:
        raise Unauthenticated("this is no site's token", hint="give the agent the site.token of this installation")
    return found


def _bearer(authorization: str | None) -> str:
    scheme, _, value = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not value.strip():
        raise Unauthenticated("no token was sent", hint=f"send `Authorization: Bearer TOKEN`; {HINT}")
    return value.strip()
