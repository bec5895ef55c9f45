"""The first start, and every later one: makes what must exist (the installation, a project, a site, its tokens).

Each start brings the site's country, if one was declared, and the tokens in the data folder into the store. A token
file that was removed means a new token; the one it replaces is revoked. What is declared at a start is signed with the
owner's key, where that is at hand.
"""

from __future__ import annotations

from dataclasses import replace

from kasbah.api.owner import CHARTER, sign_document
from kasbah.api.secret_kinds import sha256_of
from kasbah.control.ownership import Ownership
from kasbah.control.store.records import Installation, Project, SiteRecord, TokenRecord
from kasbah.control.usecases.work import DEFAULT_PROJECT, Work, new_id
from kasbah.domain.access import Grant, Role
from kasbah.domain.charter import Charter, Fact
from kasbah.domain.country import country_error
from kasbah.domain.ids import InstallationId, ProjectId, SiteId, TokenId
from kasbah.domain.site import FIRST_SITE, SiteKind
from kasbah.errors import Invalid

FIRST_TOKEN = "admin"
DECLARED_AT_START = "kasbah up --country"


def begin(work: Work, *, admin_token: str, site_token: str, country: str | None, owner: Ownership) -> Installation:
    """Make what is missing, and take what was declared; the installation. It signs for an `owner` whose key is at
    hand."""
    if country is not None and (problem := country_error(country)) is not None:
        raise Invalid(problem, where="country", hint="declare it with --country CC")
    installation = work.tx.installations.get()
    if installation is None:
        installation = Installation(id=InstallationId(new_id("installation")), epoch=1, created_at=work.now)
        work.tx.installations.add(installation)
        work.journal.say("begin", "installation", id=installation.id)
        work.tx.installations.add_project(Project(id=ProjectId(new_id("project")), name=DEFAULT_PROJECT))
    _site(work, installation, sha256_of(site_token), country, owner)
    _token(work, sha256_of(admin_token))
    return installation


def _site(work: Work, installation: Installation, sha256: str, country: str | None, owner: Ownership) -> None:
    known = work.tx.sites.find(FIRST_SITE)
    site = known or _first(work, installation)
    charter = _declared(site.charter, country, work)
    if owner.key is not None and site.certified and not charter.gateway_key:  # it was certified before keys were signed
        charter = replace(charter, version=charter.version + 1, gateway_key=site.certified)
    site = replace(site, token_sha256=sha256, charter=charter if known else replace(charter, version=1))
    if owner.key is not None and _unsigned(site, known):
        site = replace(site, signed=sign_document(owner.key, CHARTER, site.charter))
    if known is None:
        work.tx.sites.add(site)
        work.journal.say("add_site", f"sites/{FIRST_SITE}", kind=site.kind.value, country=site.country)
    elif site != known:
        work.tx.sites.save(site)
        replaced = "replaced" if site.token_sha256 != known.token_sha256 else ""
        country = site.country if site.country != known.country else None
        work.journal.say("declare_site", f"sites/{FIRST_SITE}", country=country, token=replaced)


def _first(work: Work, installation: Installation) -> SiteRecord:
    made = SiteId(new_id("site"))
    charter = Charter(installation=installation.id, site=made, name=FIRST_SITE, version=1, kind=SiteKind.ON_PREM)
    return SiteRecord(id=made, name=FIRST_SITE, charter=charter)


def _declared(charter: Charter, country: str | None, work: Work) -> Charter:
    """The charter with the country that was declared now, as its next version where that is news."""
    before = charter.facts.country
    if country is None or (before is not None and before.value == country):
        return charter
    said = Fact(value=country, source=DECLARED_AT_START, since=work.now.date())
    return replace(charter, version=charter.version + 1, facts=replace(charter.facts, country=said))


def _unsigned(site: SiteRecord, known: SiteRecord | None) -> bool:
    return site.signed is None or known is None or site.charter != known.charter


def _token(work: Work, sha256: str) -> None:
    if work.tx.tokens.by_sha256(sha256) is not None:
        return
    replaced = work.tx.tokens.find(FIRST_TOKEN)
    if replaced is not None:
        work.tx.tokens.save(replace(replaced, revoked_at=work.now))
        work.journal.say("revoke_token", f"tokens/{replaced.id}", reason="the first token's file was removed")
    made = TokenRecord(
        id=TokenId(new_id("token")),
        name=FIRST_TOKEN,
        sha256=sha256,
        grants=(Grant(role=Role.OWNER),),
        created_at=work.now,
    )
    work.tx.tokens.add(made)
    work.journal.say("make_token", f"tokens/{made.id}", name=made.name, grants=Role.OWNER.value)
