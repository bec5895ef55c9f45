"""Who calls? Tokens by their digest.

An API token opens /api/v1 only, a site's token /agent/v1 only. What is unknown, revoked or malformed is refused alike;
whoever holds a token that is switched off, or past its time, is told so. What the caller may is asked elsewhere
(`usecases/permit.py`).
"""

from __future__ import annotations

import hmac
from datetime import datetime

from kasbah.api.secret_kinds import sha256_of
from kasbah.control.store.interface import Transaction
from kasbah.control.store.records import SiteRecord, TokenRecord
from kasbah.domain.site import SiteState
from kasbah.errors import Unauthenticated

JOIN_ANEW = "join it as a new site: kasbah sites token, then kasbah join"
HINT = "set KASBAH_TOKEN, or run on the machine and as the user that ran `kasbah up`"


def authenticate(tx: Transaction, authorization: str | None, now: datetime) -> TokenRecord:
    """The token in an Authorization header."""
    digest = sha256_of(bearer(authorization))
    token = tx.tokens.by_sha256(digest)
    if token is None or not hmac.compare_digest(token.sha256, digest) or token.revoked_at is not None:
        raise Unauthenticated("this token is not known here, or was revoked", hint=HINT)
    if token.disabled_at is not None:
        raise Unauthenticated(
            f"the token {token.name!r} is switched off",
            hint=f"an owner switches it on again: kasbah tokens enable {token.name}",
            code="token_disabled",
        )
    if not token.principal.active(now):
        raise Unauthenticated(
            f"the token {token.name!r} expired at {token.expires_at:%Y-%m-%d %H:%M:%S}Z",
            hint="have an owner make another",
            code="token_expired",
        )
    return token


def authenticate_site(tx: Transaction, authorization: str | None, certified: str = "") -> SiteRecord:
    """The site whose key a connection has proved (`certified`, its fingerprint), or whose token is in a header."""
    if certified:
        return _joined(tx, certified)
    digest = sha256_of(bearer(authorization))
    found = None
    for site in tx.sites.all():  # all of them, so that the time taken tells nothing
        if hmac.compare_digest(site.token_sha256, digest):
            found = site
    if found is None:
        raise Unauthenticated("this is no site's token", hint="give the agent the site.token of this installation")
    return found


def _joined(tx: Transaction, certified: str) -> SiteRecord:
    site = tx.sites.certified(certified)
    if site is None:
        raise Unauthenticated("no site here has this certificate's key", hint=JOIN_ANEW)
    return site


def belongs(site: SiteRecord) -> None:
    """Refuse a site that was removed. All it may do is fetch its last desired state, which asks for nothing."""
    if site.state is SiteState.REMOVED:
        raise Unauthenticated("this site was removed from the installation", hint=JOIN_ANEW, code="site_removed")


def bearer(authorization: str | None) -> str:
    """The secret in an Authorization header."""
    scheme, _, value = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not value.strip():
        raise Unauthenticated("no token was sent", hint=f"send `Authorization: Bearer TOKEN`; {HINT}")
    return value.strip()
