"""Takes what the owner granted, signed: approvals, declassifications and deployers; lists them, and takes them back.

To take one back needs no signature: it only makes things stricter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kasbah.api.signing import parse_public
from kasbah.control.store.lawbooks import GrantRecord
from kasbah.control.store.records import TokenRecord
from kasbah.control.usecases.work import Work, new_id
from kasbah.domain.charter import Signed
from kasbah.domain.grant import Approval, Deployer, Grant, GrantKind
from kasbah.domain.ids import GrantId, ServiceId
from kasbah.errors import Invalid, NotFound

MOST_LISTED = 500
LONGEST_NAME = 100
LEAST_EVIDENCE, LONGEST_EVIDENCE = 3, 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """A grant as it was brought here, and what it says."""

    record: GrantRecord
    grant: Grant


def add_grant(work: Work, caller: TokenRecord, kind: GrantKind, signed: Signed) -> Granted:
    """Take a grant, once it is signed, has evidence, ends, and is about what is here. Raises Denied, Invalid."""
    grant = work.library.grant(kind, signed)
    _check(work, grant)
    record = GrantRecord(
        id=GrantId(new_id("grant")),
        kind=kind,
        document=signed.document,
        signature=signed.signature,
        expires_at=grant.expires_at,
        author=caller.name,
        at=work.now,
    )
    work.tx.grants.add(record)
    return Granted(record=record, grant=grant)


def list_grants(work: Work) -> tuple[Granted, ...]:
    """The last ones, the newest first, ended ones too."""
    return tuple(
        Granted(record=one, grant=work.library.grant(one.kind, one.signed))
        for one in work.tx.grants.newest(MOST_LISTED)
    )


def revoke_grant(work: Work, grant: str) -> Granted:
    """Take a grant back, at once."""
    record = work.tx.grants.get(GrantId(grant))
    if record is None:
        raise NotFound(f"nothing was granted as {grant!r}", hint="`kasbah policy approvals` lists what was")
    if record.revoked_at is None:
        record = replace(record, revoked_at=work.now)
        work.tx.grants.save(record)
    return Granted(record=record, grant=work.library.grant(record.kind, record.signed))


def _check(work: Work, grant: Grant) -> None:
    problem, where = "", "document"
    if not LEAST_EVIDENCE <= len(grant.evidence.strip()) <= LONGEST_EVIDENCE:
        much = f"{LEAST_EVIDENCE} to {LONGEST_EVIDENCE:,} characters"
        problem, where = f"evidence says where this is written down, in {much}", "evidence"
    elif grant.expires_at.tzinfo is None or grant.issued_at.tzinfo is None:
        problem, where = "its times have no time zone", "expires_at"
    elif grant.expires_at <= work.now:
        problem, where = f"it has expired already, at {grant.expires_at.isoformat()}", "expires_at"
    elif isinstance(grant, Approval):
        problem = _problem_of_approval(work, grant)
    elif isinstance(grant, Deployer):
        problem = _problem_of_deployer(work, grant)
    elif _gone(work, grant.service):
        problem = f"there is no service {grant.service}"
    if problem:
        raise Invalid(problem, where=where, hint="say it again with evidence and a day to come", code="grant_unsound")


def _problem_of_approval(work: Work, grant: Approval) -> str:
    if not grant.services and not grant.projects:
        return "it is for nobody: name services or projects"
    known = {one.id for one in work.tx.installations.projects()}
    sites = {one.id for one in work.tx.sites.everywhere()}
    unknown: list[str] = [one for one in grant.services if _gone(work, one)]
    unknown += [one for one in grant.projects if one not in known]
    unknown += [one for one in grant.sites if one not in sites]
    if unknown:
        return f"nothing here is {unknown[0]}"
    lifted = {rule.approval for rule in work.law.newest.admissions.law.rules.values()} - {""}
    if grant.name not in lifted:
        return f"no rule in force is lifted by {grant.name!r}; there are: {', '.join(sorted(lifted))}"
    return ""


def _problem_of_deployer(work: Work, grant: Deployer) -> str:
    try:
        parse_public(grant.key)
    except ValueError as error:
        return f"{grant.key!r} is no public key: {error}"
    if not 0 < len(grant.name) <= LONGEST_NAME:
        return f"a deployer has a name, of {LONGEST_NAME} characters at most"
    known = {one.id for one in work.tx.installations.projects()}
    unknown = [one for one in grant.projects if one not in known]
    return f"nothing here is {unknown[0]}" if unknown else ""


def _gone(work: Work, service: str) -> bool:
    found = work.tx.services.get(ServiceId(service))
    return found is None or found.deleted_at is not None
