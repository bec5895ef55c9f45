"""Takes what the owner of the installation says of a site: a new site, or the next version of what is said of one.

Nobody else can say it: a charter is signed with the owner's key, which this process need not have. A version is never
replaced by one that is not later, so that an old charter, however well signed, does not come back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from kasbah.api.owner import CHARTER, read_document, verify_document, write_document
from kasbah.api.signing import parse_public
from kasbah.control.store.records import Installation, SiteRecord
from kasbah.control.usecases.describe import installation_of
from kasbah.control.usecases.foresee import Foreseen, foresee, scene
from kasbah.control.usecases.work import Work
from kasbah.decide.charters import faults
from kasbah.decide.opening import CERTIFICATES
from kasbah.domain.charter import Charter, Signed
from kasbah.domain.ids import SiteId
from kasbah.domain.service import name_error
from kasbah.domain.site import SiteState
from kasbah.errors import Conflict, Denied, Invalid

PLAN = "kasbah sites plan"


class Declared(StrEnum):
    """What became of a charter."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """A site as it is declared now."""

    site: SiteRecord
    outcome: Declared


def plan_sites(work: Work, documents: Sequence[str]) -> tuple[Foreseen, dict[SiteId, str]]:
    """What these charters would do, signed or not, and what the sites are called. Raises as `declare_sites` does, but
    for signatures and limits."""
    installation = installation_of(work)
    charters = [read_document(document, Charter) for document in documents]
    for one in charters:
        _check_ours(installation, one)
    changed = _changed(work, charters)
    names = {one.id: one.name for one in work.tx.sites.everywhere()} | {one.site: one.name for one in charters}
    return foresee(work, scene(work), scene(work, changed)), names


def declare_sites(work: Work, said: Mapping[str, Signed], *, even_so: bool = False) -> tuple[Declaration, ...]:
    """Take the charters of these sites, by name, all or none. Raises Denied where the owner did not sign one, Invalid
    where it contradicts itself, Conflict where it is not the next word or, but for `even_so`, they end more together
    than the law's limit permits."""
    installation = installation_of(work)
    charters = [_read(installation, name, signed) for name, signed in said.items()]
    changed = _changed(work, charters)
    before = {site: work.tx.sites.get(site) for site in changed}
    if any(_matters(one, before[site]) for site, one in changed.items()):
        foresee(work, scene(work), scene(work, changed)).check(even_so=even_so, plan=PLAN)
        work.journal.detail(even_so="yes" if even_so else None)
    return tuple(_take(work, one, said[one.name], new=one.site in changed) for one in charters)


def declare_site(work: Work, name: str, signed: Signed, *, even_so: bool = False) -> Declaration:
    """Take the charter of the site called `name`. Raises as `declare_sites` does."""
    (made,) = declare_sites(work, {name: signed}, even_so=even_so)
    return made


def _changed(work: Work, charters: Sequence[Charter]) -> dict[SiteId, Charter]:
    """Those that say something new, each of another site."""
    found: dict[SiteId, Charter] = {}
    for one in charters:
        known = work.tx.sites.get(one.site)
        if known is not None and known.charter == one:
            continue
        _check(work, one, known)
        if one.site in found or any(one.name == other.name for other in found.values()):
            raise Conflict(f"{one.name} is declared twice", hint="say it once", code="name_taken")
        found[one.site] = one
    return found


def _matters(charter: Charter, known: SiteRecord | None) -> bool:
    """Whether it can end something: a new site cannot, unless it is a place that is called."""
    if known is None:
        return bool(charter.hosts)
    before = known.charter
    return (charter.kind, charter.facts, charter.hosts) != (before.kind, before.facts, before.hosts)


def _take(work: Work, charter: Charter, signed: Signed, *, new: bool) -> Declaration:
    known = work.tx.sites.get(charter.site)
    if known is None:
        site = SiteRecord(id=charter.site, name=charter.name, charter=charter, signed=signed)
        work.tx.sites.add(site)
        return Declaration(site=site, outcome=Declared.CREATED)
    if not new:
        return Declaration(site=known, outcome=Declared.UNCHANGED)
    site = replace(known, charter=charter, signed=signed)
    work.tx.sites.save(site)
    return Declaration(site=site, outcome=Declared.CHANGED)


def charter_of(site: SiteRecord) -> Signed:
    """What is said of a site, with the owner's signature; an empty one where nobody has signed it."""
    return site.signed or Signed(document=write_document(site.charter), signature="")


def _read(installation: Installation, name: str, signed: Signed) -> Charter:
    if not installation.owner_key:
        raise Denied("this installation knows no owner's key", hint="start it once with the owner's key at hand")
    charter = verify_document(parse_public(installation.owner_key), CHARTER, signed, Charter)
    _check_ours(installation, charter)
    if charter.name != name:
        raise Invalid(f"this charter is of the site {charter.name!r}, not of {name!r}", where="document")
    return charter


def _check_ours(installation: Installation, charter: Charter) -> None:
    if charter.installation != installation.id:
        raise Denied("this charter is of another installation", hint="sign it for this one", code="other_installation")


def _check(work: Work, charter: Charter, known: SiteRecord | None) -> None:
    if (problem := name_error(charter.name)) is not None:
        raise Invalid(problem, where="sites", code="invalid_name")
    wrong = faults(charter, work.now.date(), CERTIFICATES)
    if wrong:
        first, *others = wrong
        more = "".join(f"; {one.fact}: {one.why}" for one in others)
        raise Invalid(
            f"what is said of {charter.name} cannot be: {first.why}{more}",
            where=f"sites.{charter.name}.{first.fact}",
            hint="mend it in sites.yaml and apply it again",
            code="contradictory_facts",
        )
    named = work.tx.sites.find(charter.name)
    if named is not None and named.id != charter.site:
        raise Conflict(f"there is another site {charter.name!r}", hint="choose another name", code="name_taken")
    if known is None:
        return
    if bool(charter.hosts) != known.outside:
        runs, called = "runs services", "is only called"
        was, becomes = (called, runs) if known.outside else (runs, called)
        raise Conflict(
            f"{charter.name!r} {was}, and would become a place that {becomes}",
            hint="declare it under another name (`hosts` says that a place is only called)",
            code="hosts_fixed",
        )
    if known.state is SiteState.REMOVED:
        raise Conflict(
            f"site {charter.name!r} ({charter.site}) was removed, and does not come back",
            hint="declare it as a new site; its agent joins anew",
            code="site_removed",
        )
    if known.name != charter.name:
        raise Conflict(f"this is the site {known.name!r}: a site keeps its name", code="name_fixed")
    if charter.version <= known.charter.version:
        raise Conflict(
            f"version {charter.version} of what is said of {charter.name} is not later than {known.charter.version}, "
            "which is known",
            hint="read it again, and apply what you then want to change",
            code="version_conflict",
        )
