"""What is there, and how is it? Gathers what views show of services, rollouts and sites."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from kasbah.control.store.interface import Cursor
from kasbah.control.store.records import (
    DesiredDocument,
    Installation,
    RevisionRecord,
    RolloutRecord,
    ServiceRecord,
    ServiceReport,
    SiteRecord,
    TokenRecord,
    WakeRecord,
)
from kasbah.control.usecases.permit import sees_service, visible
from kasbah.control.usecases.work import Work, project_named, service_named, unknown_rollout
from kasbah.decide.telling import without_lines
from kasbah.domain.access import Action
from kasbah.domain.ids import ProjectId, RolloutId
from kasbah.domain.usage import Usage

FOR_READERS = "(what was printed last is for who may read the service's logs: the action service.logs)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What every view needs beside the object itself."""

    now: datetime
    base_domain: str
    epoch: int
    projects: dict[ProjectId, str]
    sites: tuple[SiteRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """A service as it was asked for and as sites see it, with its newest rollout."""

    service: ServiceRecord
    rollout: RolloutRecord | None
    reports: tuple[ServiceReport, ...]
    around: Surroundings


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """Everything known about a service."""

    sight: Sight
    revisions: tuple[RevisionRecord, ...]
    wakes: tuple[WakeRecord, ...]
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSight:
    """A site and its newest desired state."""

    site: SiteRecord
    desired: DesiredDocument | None
    around: Surroundings


def installation_of(work: Work) -> Installation:
    """The installation."""
    found = work.tx.installations.get()
    assert found is not None, "the installation is made before anything is served"
    return found


def surroundings(work: Work) -> Surroundings:
    """What every view needs."""
    return Surroundings(
        now=work.now,
        base_domain=work.rules.base_domain,
        epoch=installation_of(work).epoch,
        projects={project.id: project.name for project in work.tx.installations.projects()},
        sites=work.tx.sites.all(),
    )


def see(work: Work, services: Sequence[ServiceRecord]) -> tuple[Sight, ...]:
    """These services as they are now."""
    ids = [service.id for service in services]
    rollouts = {rollout.service: rollout for rollout in work.tx.rollouts.last(ids)}
    reports = defaultdict(list)
    for report in work.tx.reports.of(ids):
        reports[report.service].append(report)
    around = surroundings(work)
    return tuple(
        Sight(service=one, rollout=rollouts.get(one.id), reports=tuple(reports[one.id]), around=around)
        for one in services
    )


def list_services(
    work: Work, caller: TokenRecord, project: str | None, after: Cursor | None, limit: int
) -> tuple[Sight, ...]:
    """One page of the services that the caller may see."""
    owner = None if project is None else project_named(work.tx, project).id
    page = partial(work.tx.services.page, owner)
    return see(work, visible(page, partial(sees_service, work, caller), after, limit))


def describe_service(work: Work, caller: TokenRecord, project: str, name: str) -> Detail:
    """Everything known about a service; what it printed, for who may read its logs."""
    service = service_named(work, project, name)
    (sight,) = see(work, (service,))
    if not sees_service(work, caller, service, Action.SERVICE_LOGS):
        sight = _without_lines(sight)
    return Detail(
        sight=sight,
        revisions=work.tx.revisions.of(service.id),
        wakes=work.tx.wakes.of(service.id),
        usage=work.tx.usage.totals((service.id,)).get(service.id, Usage()),
    )


def describe_rollout(work: Work, caller: TokenRecord, rollout: str) -> tuple[RolloutRecord, ServiceRecord]:
    """A rollout and its service."""
    found = work.tx.rollouts.get(RolloutId(rollout))
    service = work.tx.services.get(found.service) if found else None
    if found is None or service is None:
        raise unknown_rollout(rollout)
    reads = sees_service(work, caller, service, Action.SERVICE_LOGS)
    return found if reads else _rollout_without_lines(found), service


def _without_lines(sight: Sight) -> Sight:
    return replace(
        sight,
        rollout=None if sight.rollout is None else _rollout_without_lines(sight.rollout),
        reports=tuple(replace(one, status=without_lines(one.status, FOR_READERS)) for one in sight.reports),
    )


def _rollout_without_lines(rollout: RolloutRecord) -> RolloutRecord:
    return replace(rollout, tail=(FOR_READERS,)) if rollout.tail else rollout


def list_sites(work: Work, after: Cursor | None = None, limit: int | None = None) -> tuple[SiteSight, ...]:
    """One page of sites; every site where there is no limit."""
    around = surroundings(work)
    found = [one for one in work.tx.sites.everywhere() if after is None or (one.name, one.id) > after][:limit]
    return tuple(SiteSight(site=one, desired=work.tx.sites.desired(one.id), around=around) for one in found)


def see_site(work: Work, site: SiteRecord) -> SiteSight:
    """A site."""
    return SiteSight(site=site, desired=work.tx.sites.desired(site.id), around=surroundings(work))


def list_usage(
    work: Work, caller: TokenRecord, project: str, after: Cursor | None, limit: int
) -> tuple[tuple[ServiceRecord, Usage], ...]:
    """One page of the services that the caller may see, with what they have served."""
    page = partial(work.tx.services.page, project_named(work.tx, project).id)
    seen = partial(sees_service, work, caller, action=Action.SERVICE_USAGE)
    services = visible(page, seen, after, limit)
    totals = work.tx.usage.totals([service.id for service in services])
    return tuple((service, totals.get(service.id, Usage())) for service in services)
