"""Carries a new lawbook from site to site; `decide/law_rollout.py` says how. The store knows how far it has come."""

from __future__ import annotations

from dataclasses import replace

from kasbah.control.store.lawbooks import Arrival, LawbookRecord, LawbookState
from kasbah.control.store.records import SiteRecord
from kasbah.control.usecases.lawful import admissions, places
from kasbah.control.usecases.sites import connected
from kasbah.control.usecases.work import Work
from kasbah.decide.law_rollout import Act, LawStep, SiteProgress, next_step
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.observed import SiteStatus
from kasbah.domain.service import ServiceState


def under_way(work: Work) -> LawbookRecord | None:
    """The lawbook that goes from site to site now."""
    return next(iter(reversed(work.tx.lawbooks.in_state(LawbookState.ROLLING))), None)


def step_of(work: Work, record: LawbookRecord) -> LawStep:
    """What is due for it."""
    failing = _failing(work)
    arrivals = {one.site: one for one in record.arrivals}
    sites = [_progress(work, one, arrivals.get(one.id), failing, record.version) for one in work.tx.sites.all()]
    return next_step(sites, loosens=record.loosens, now=work.now)


def carry_on(work: Work, *, forgive: bool = False) -> LawbookRecord | None:
    """Take its next step; the lawbook as it is then, None where none is under way. `forgive`: what is wrong at the
    sites that have it counts as having been so before."""
    record = under_way(work)
    if record is None:
        return None
    if forgive:
        record = replace(record, arrivals=tuple(_arrived(work, one.site) for one in record.arrivals))
    step = step_of(work, record)
    if step.act is Act.ARRIVE:
        record = _arrive(work, record, step.sites)
    elif step.act is Act.DONE:
        record = _settle(work, record)
    elif step.act in (Act.HALT, Act.TURN_BACK):
        state = LawbookState.HALTED if step.act is Act.HALT else LawbookState.TURNED_BACK
        record = replace(record, state=state, note=step.reason, changed_at=work.now)
    else:
        record = replace(record, note=step.reason)
    work.tx.lawbooks.save(record)
    return record


def _arrive(work: Work, record: LawbookRecord, sites: tuple[SiteId, ...]) -> LawbookRecord:
    """It holds at these sites from now on: their desired states say so, and which these are is noted."""
    known = tuple(one for one in record.arrivals if one.site not in sites)
    told = replace(record, arrivals=(*known, *(_arrived(work, site) for site in sites)), note="")
    work.tx.lawbooks.save(told)
    work.publish()
    return replace(told, arrivals=(*known, *(_arrived(work, site) for site in sites)))


def _arrived(work: Work, site: SiteId) -> Arrival:
    """A site as it is now, with its newest desired state."""
    desired = work.tx.sites.desired(site)
    record = next((one for one in work.tx.sites.all() if one.id == site), None)
    return Arrival(
        site=site,
        at=work.now,
        epoch=desired.epoch if desired else 0,
        generation=desired.generation if desired else 0,
        failing=tuple(sorted(_failing(work).get(site, ()))),
        error=record.report.gateway_error if record and record.report else "",
    )


def _settle(work: Work, record: LawbookRecord) -> LawbookRecord:
    """It is everywhere: what held before does not any more."""
    for one in work.tx.lawbooks.live():
        if one.version < record.version:
            note = f"version {record.version} took its place"
            work.tx.lawbooks.save(replace(one, state=LawbookState.REPLACED, note=note, changed_at=work.now))
    return replace(record, state=LawbookState.IN_FORCE, note="", changed_at=work.now)


def _progress(
    work: Work, site: SiteRecord, arrival: Arrival | None, failing: dict[SiteId, set[ServiceId]], version: int
) -> SiteProgress:
    report = site.report
    error = report.gateway_error if report else ""
    return SiteProgress(
        site=site.id,
        name=site.name,
        connected=connected(site, work.now),
        arrived_at=arrival.at if arrival else None,
        accepted=arrival is not None and report is not None and _holds(report, arrival, version),
        failing=frozenset(failing.get(site.id, ())),
        before=frozenset(arrival.failing) if arrival else frozenset(),
        error=error if arrival and error != arrival.error else "",
    )


def _holds(report: SiteStatus, arrival: Arrival, version: int) -> bool:
    """Whether a site acts on what it was told with the law, and holds the law too, where it says which it holds."""
    told = report.applied >= (arrival.epoch, arrival.generation)
    return told and (not report.law or report.law >= version)


def _failing(work: Work) -> dict[SiteId, set[ServiceId]]:
    """By site, the services that fail there, of those that serve and may be there: what is being ended fails too, and
    a first deploy that fails has its own reasons."""
    law, here = work.law, places(work.tx.sites.all(), work.now)
    found: dict[SiteId, set[ServiceId]] = {}
    for report in work.tx.reports.of(work.tx.services.ids()):
        if report.status.state is not ServiceState.FAILED:
            continue
        service = work.tx.services.get(report.service)
        if service is None or not service.serving or service.placement is None:
            continue
        runs = report.site in service.placement.chosen and report.site in here
        if runs and admissions(law.of(service), service.label, here)[report.site].allowed:
            found.setdefault(report.site, set()).add(report.service)
    return found
