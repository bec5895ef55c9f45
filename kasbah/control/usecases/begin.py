"""The first start, and every later one: makes what must exist (the installation, a project, a site, its tokens).

Each start brings the site's country, if one was declared, and the tokens in the data folder into the store. A token
file that was removed means a new token; the one it replaces is revoked.
"""

from __future__ import annotations

import re
from dataclasses import replace

from kasbah.control.access.authenticate import Scope
from kasbah.control.access.secrets import digest_of
from kasbah.control.store.records import Installation, Project, SiteRecord, TokenRecord
from kasbah.control.usecases.work import DEFAULT_PROJECT, Work, new_id
from kasbah.domain.ids import InstallationId, ProjectId, SiteId, TokenId
from kasbah.domain.site import SiteKind
from kasbah.errors import Invalid

FIRST_SITE = "local"
FIRST_TOKEN = "admin"
COUNTRY = re.compile(r"[A-Z]{2}")


def begin(work: Work, *, admin_token: str, site_token: str, country: str | None) -> None:
    """Make what is missing, and take what was declared."""
    if country is not None and not COUNTRY.fullmatch(country):
        raise Invalid(
            f"{country!r} is no country", where="country", hint="write two capital letters (ISO 3166-1), such as MA"
        )
    if work.tx.installations.get() is None:
        made = Installation(id=InstallationId(new_id("installation")), epoch=1, created_at=work.now)
        work.tx.installations.add(made)
        work.tx.installations.add_project(Project(id=ProjectId(new_id("project")), name=DEFAULT_PROJECT))
    _site(work, digest_of(site_token), country)
    _token(work, digest_of(admin_token))


def _site(work: Work, sha256: str, country: str | None) -> None:
    known = next((site for site in work.tx.sites.all() if site.name == FIRST_SITE), None)
    if known is None:
        work.tx.sites.add(
            SiteRecord(
                id=SiteId(new_id("site")),
                name=FIRST_SITE,
                kind=SiteKind.ON_PREM,
                country=country,
                token_sha256=sha256,
            )
        )
        return
    declared = replace(known, token_sha256=sha256, country=known.country if country is None else country)
    if declared != known:
        work.tx.sites.save(declared)


def _token(work: Work, sha256: str) -> None:
    if work.tx.tokens.by_sha256(sha256) is not None:
        return
    replaced = work.tx.tokens.find(FIRST_TOKEN)
    if replaced is not None:
        work.tx.tokens.save(replace(replaced, revoked_at=work.now))
    work.tx.tokens.add(
        TokenRecord(
            id=TokenId(new_id("token")),
            name=FIRST_TOKEN,
            sha256=sha256,
            scopes=(Scope.ADMIN.value,),
            created_at=work.now,
        )
    )
