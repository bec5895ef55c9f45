"""The law, what a change of it would do, and what the owner granted, as the API shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kasbah.api import policy as shapes
from kasbah.api.manifest import DataSection
from kasbah.api.rules import rule_view
from kasbah.control.store.lawbooks import LawbookRecord, LawbookState
from kasbah.control.usecases.change_law import Planned, next_version
from kasbah.control.usecases.coverage import Coverage
from kasbah.control.usecases.describe import installation_of
from kasbah.control.usecases.foresee import Foreseen
from kasbah.control.usecases.grants import Granted
from kasbah.control.usecases.work import Work
from kasbah.decide.blast import Cut, Ending, Shift
from kasbah.domain.grant import Approval, Declassification, Deployer, Grant
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.label import Label
from kasbah.domain.law import Admission


def status(work: Work) -> shapes.LawStatus:
    """The law as it is."""
    now, installation = work.law, installation_of(work)
    newest, force = now.newest.lawbook, now.force.lawbook
    proposed = next(iter(work.tx.lawbooks.in_state(LawbookState.PROPOSED)), None)
    return shapes.LawStatus(
        installation=installation.id,
        owner_key=installation.owner_key or "",
        newest=_numbered(work, newest.version),
        in_force=_numbered(work, force.version),
        proposed=None if proposed is None else lawbook(proposed, site_names(work)),
        home=newest.home,
        packs=[
            shapes.PackInForce(
                name=one.name, title=one.title, version=one.version, two_person=one.name in newest.two_person
            )
            for one in newest.packs
        ],
        stale_after_seconds={level: after.total_seconds() for level, after in newest.stale_after.items()},
        limit_services=newest.limit.services,
        limit_percent=newest.limit.percent,
        next_version=next_version(work),
    )


def _numbered(work: Work, version: int) -> shapes.LawbookView:
    record = work.tx.lawbooks.get(version)
    assert record is not None, "it was read in this transaction"
    return lawbook(record, site_names(work))


def site_names(work: Work) -> dict[SiteId, str]:
    """What sites are called."""
    return {one.id: one.name for one in work.tx.sites.all()}


def lawbook(record: LawbookRecord, names: Mapping[SiteId, str]) -> shapes.LawbookView:
    """A lawbook and what became of it."""
    return shapes.LawbookView(
        version=record.version,
        state=record.state.value,
        note=record.note,
        based_on=record.based_on,
        author=record.author,
        approved_by=record.approved_by,
        at=record.at,
        changed_at=record.changed_at,
        reason=record.reason,
        even_so=record.even_so,
        loosens=record.loosens,
        arrived=[shapes.Arrived(site=names.get(one.site, one.site), since=one.at) for one in record.arrivals],
    )


def plan(planned: Planned, names: Mapping[SiteId, str]) -> shapes.LawPlan:
    """What a lawbook would do."""
    return shapes.LawPlan(
        based_on=planned.based_on,
        next_version=planned.version,
        loosens=planned.foreseen.blast.loosens,
        two_person=list(planned.two_person),
        **dict(foreseen(planned.foreseen, names)),
    )


def foreseen(what: Foreseen, names: Mapping[SiteId, str]) -> shapes.ForeseenView:
    """What a change would do."""
    found = what.blast
    return shapes.ForeseenView(
        services=found.services,
        losing=found.losing,
        classes=[_shift(one, names) for one in found.shifts],
        ends=[_ending(one, names) for one in found.ends],
        stranded=list(found.stranded),
        closes=_pairs(found.closes, names),
        opens=_pairs(found.opens, names),
        cuts=[_cut(one) for one in found.cuts],
        bars=_pairs(found.bars, names),
        admits=_pairs(found.admits, names),
        allowed=what.allowed,
        too_far=what.too_far,
    )


def _shift(one: Shift, names: Mapping[SiteId, str]) -> shapes.ShiftView:
    return shapes.ShiftView(
        data=_label(one.label),
        data_declared=one.label.declared,
        kind=one.kind,
        country=one.country or "",
        sites=sorted(names[site] for site in one.sites),
        ends=one.ends,
        closes=one.closes,
        opens=one.opens,
    )


def _ending(one: Ending, names: Mapping[SiteId, str]) -> shapes.EndingView:
    return shapes.EndingView(
        service=one.service,
        site=names[one.site],
        reason=_reason(one.why),
        rules=[rule_view(rule) for rule in (*one.why.rules, *one.why.unmet)],
        others=[names[site] for site in one.others],
        reopens=list(one.reopens),
    )


def _pairs(found: Iterable[tuple[str, SiteId]], names: Mapping[SiteId, str]) -> list[shapes.PairView]:
    return [shapes.PairView(service=service, site=names[site]) for service, site in found]


def _cut(one: Cut) -> shapes.CutView:
    return shapes.CutView(
        service=one.service,
        to=one.entry,
        reason=_reason(one.why),
        rules=[rule_view(rule) for rule in (*one.why.rules, *one.why.unmet)],
    )


def _reason(why: Admission) -> str:
    if why.rules:
        return f"{why.rules[0].title} [{why.rules[0].id}]"
    return "; ".join(rule.unmet for rule in why.unmet) or why.problem


def grant(work: Work, granted: Granted) -> shapes.GrantView:
    """What the owner granted, with names in the place of ids."""
    one, record = granted.grant, granted.record
    services = (work.tx.services.get(each) for each in _services(one))
    projects = {each.id: each.name for each in work.tx.installations.projects()}
    names = site_names(work)
    held = record.revoked_at is None and one.issued_at <= work.now < one.expires_at
    return shapes.GrantView(
        id=record.id,
        kind=record.kind,
        name="" if isinstance(one, Declassification) else one.name,
        services=[each.name for each in services if each is not None],
        projects=[] if isinstance(one, Declassification) else [projects.get(each, each) for each in one.projects],
        sites=[names.get(each, each) for each in one.sites] if isinstance(one, Approval) else [],
        to=_label(one.to) if isinstance(one, Declassification) else None,
        key=one.key if isinstance(one, Deployer) else "",
        max_level=one.max_level.word if isinstance(one, Deployer) else None,
        evidence=one.evidence,
        issued_at=one.issued_at,
        expires_at=one.expires_at,
        author=record.author,
        in_force=held,
        revoked_at=record.revoked_at,
    )


def _services(one: Grant) -> tuple[ServiceId, ...]:
    if isinstance(one, Approval):
        return one.services
    return (one.service,) if isinstance(one, Declassification) else ()


def _label(label: Label) -> DataSection:
    return DataSection(level=label.level.word, categories=label.categories, regimes=label.regimes)


def covered(work: Work, found: Coverage) -> shapes.CoverageView:
    """What is kept stricter than its label needs."""
    projects = {project.id: project.name for project in work.tx.installations.projects()}

    def names(sites: Iterable[SiteId]) -> list[str]:
        return [found.names.get(site, site) for site in sites]

    return shapes.CoverageView(
        asked=found.asked,
        stricter=[
            shapes.StricterView(
                service=service.name,
                project=projects[service.project],
                why=list(one.why),
                runs_at=names(one.runs_at),
                could_run_at=names(one.could_run_at),
                costs=one.costs,
                could_cost=one.could_cost,
            )
            for service, one in found.found
        ],
    )
