"""A site joins: it is given a token, asks with it, and gets its certificate once a person has approved the code that
both sides show. After that it asks for new certificates by itself.

A token names the site and the authority and owner that it will trust; it is good once, and for a quarter of an hour.
The key is made at the site and never leaves it. What a person approves is that key: the charter that names it is signed
by the owner and comes with the approval.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kasbah.api.joining import JoinToken, code_of
from kasbah.api.owner import CHARTER, sign_document
from kasbah.api.secret_kinds import sha256_of
from kasbah.control.access.authority import Authority, csr_of
from kasbah.control.store.records import Joining, SiteRecord
from kasbah.control.usecases.declare_site import declare_site
from kasbah.control.usecases.describe import installation_of
from kasbah.control.usecases.sites import running_site, site_named
from kasbah.control.usecases.work import Work, new_id
from kasbah.domain.charter import Signed
from kasbah.domain.ids import JoiningId
from kasbah.domain.site import FIRST_SITE, SiteState
from kasbah.errors import Conflict, Denied, Invalid, NotFound, Unauthenticated

OwnersKey = Callable[[], Ed25519PrivateKey | None]
"""The owner's key, where it is at hand."""
TOKEN_LIFETIME = timedelta(minutes=15)
PATIENCE = timedelta(days=1)
"""How long what a site asks waits for a person."""

AGAIN = "make another token with `kasbah sites token NAME`"


def make_token(work: Work, authority: Authority, name: str) -> tuple[SiteRecord, JoinToken, Joining]:
    """A token for the agent of the site called `name` to join by."""
    site = running_site(work, name)
    secret = secrets.token_urlsafe(32)
    joining = Joining(
        id=JoiningId(new_id("joining")),
        site=site.id,
        token_sha256=sha256_of(secret),
        created_at=work.now,
        expires_at=work.now + TOKEN_LIFETIME,
    )
    work.tx.joinings.drop_before(work.now)
    work.tx.joinings.put(joining)
    owner = installation_of(work).owner_key or ""
    token = JoinToken(secret=secret, site=site.name, authority=authority.fingerprint, owner=owner)
    return site, token, joining


def ask(work: Work, secret: str, csr: str) -> Joining:
    """Take what a site asks with its token. Raises Unauthenticated where the token is worth nothing, Conflict where it
    was used."""
    joining = _known(work, secret)
    if joining.key:
        raise Conflict("this token was used already: it is good once", hint=AGAIN, code="token_used")
    _, fingerprint = csr_of(csr)
    if work.tx.sites.certified(fingerprint) is not None:
        raise Conflict("this key is a site's already", hint="join with a key of its own", code="key_taken")
    asked = replace(joining, csr=csr, key=fingerprint, asked_at=work.now, expires_at=work.now + PATIENCE)
    work.tx.joinings.put(asked)
    return asked


def look(work: Work, secret: str, joining: str) -> Joining:
    """What became of it, for whoever asked."""
    found = _known(work, secret)
    if found.id != joining:
        raise NotFound("no such request was made with this token", code="joining_not_found")
    return found


def approve(work: Work, authority: Authority, name: str, code: str, signed: Signed) -> SiteRecord:
    """Give the site that waits under this code its certificate. The charter that comes along names its key."""
    site = site_named(work, name)
    waiting = [one for one in work.tx.joinings.waiting(site.id) if one.expires_at > work.now]
    found = next((one for one in waiting if hmac.compare_digest(code_of(one.key), code.strip().upper())), None)
    if found is None:
        shown = ", ".join(code_of(one.key) for one in waiting)
        told = f"those that wait show {shown}" if waiting else "nobody waits to join as it"
        raise Invalid(
            f"no agent of the site {name!r} shows the code {code}: {told}",
            where="code",
            hint="compare it with what the agent shows; where they differ, somebody else asked: do not approve it",
            code="code_unknown",
        )
    declared = declare_site(work, name, signed).site
    if declared.charter.gateway_key != found.key:
        raise Invalid("the charter names another key than the one that waits", where="document", code="other_key")
    csr, _ = csr_of(found.csr)
    work.tx.joinings.put(replace(found, certificate=authority.for_site(csr, site.id, work.now)))
    joined = replace(declared, certified=found.key)
    work.tx.sites.save(joined)
    return joined


def renew(work: Work, authority: Authority, site: SiteRecord, csr_text: str, owner: OwnersKey) -> str:
    """A new certificate for a site that is known, PEM. One that joined keeps its key. The first site never joined: its
    key is signed when it first shows it, or shows another, where the owner's key is at hand."""
    csr, fingerprint = csr_of(csr_text)
    if site.name == FIRST_SITE and site.charter.gateway_key != fingerprint and (key := owner()) is not None:
        site = _with_key(work, site, fingerprint, key)
    if site.charter.gateway_key not in ("", fingerprint):
        raise Denied(
            "this is not the key that was approved",
            hint="join anew: kasbah sites token, then kasbah join",
            code="other_key",
        )
    if site.certified != fingerprint:
        work.tx.sites.save(replace(site, certified=fingerprint))
    return authority.for_site(csr, site.id, work.now)


def _with_key(work: Work, site: SiteRecord, fingerprint: str, owner: Ed25519PrivateKey) -> SiteRecord:
    """The first site with its gateway's key in its charter, signed and kept."""
    charter = replace(site.charter, version=site.charter.version + 1, gateway_key=fingerprint)
    found = replace(site, charter=charter, signed=sign_document(owner, CHARTER, charter))
    work.tx.sites.save(found)
    work.journal.say("declare_site", f"sites/{site.name}", key=fingerprint)
    return found


def waiting(work: Work) -> tuple[tuple[SiteRecord, Joining], ...]:
    """The agents that wait for a person, with the site that each would be."""
    sites = {site.id: site for site in work.tx.sites.all()}
    found = (one for one in work.tx.joinings.waiting() if one.expires_at > work.now and one.site in sites)
    return tuple((sites[one.site], one) for one in found)


def _known(work: Work, secret: str) -> Joining:
    joining = work.tx.joinings.by_token(sha256_of(secret))
    site = None if joining is None else work.tx.sites.get(joining.site)
    if joining is None or joining.expires_at <= work.now or site is None or site.state is SiteState.REMOVED:
        raise Unauthenticated("this token is not known here, or has run out", hint=AGAIN)
    return joining
