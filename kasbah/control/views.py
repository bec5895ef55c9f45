"""From what is known to what is shown: every public shape of /api/v1 is made here, or in `project_views`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kasbah import __version__
from kasbah.api import credentials, public
from kasbah.api.manifest import (
    DataSection,
    DeadlinesSection,
    LevelName,
    ResourcesSection,
    RolloutSection,
    ScalingSection,
    SleepSection,
)
from kasbah.control.shown import shown_state
from kasbah.control.store.records import (
    Installation,
    KeyRecord,
    RevisionRecord,
    RolloutRecord,
    ServiceRecord,
    SiteRecord,
    TokenRecord,
    WakeRecord,
)
from kasbah.control.usecases.describe import Detail, Sight, SiteSight, Surroundings
from kasbah.control.usecases.plan import Plan
from kasbah.control.usecases.publish import host
from kasbah.control.usecases.secrets import SecretSight
from kasbah.control.usecases.send_source import gateway_of
from kasbah.control.usecases.sites import connected
from kasbah.decide.certificates import covers
from kasbah.domain.ids import ServiceId
from kasbah.domain.label import Label
from kasbah.domain.observed import RevisionStatus, ServiceStatus, SiteStatus
from kasbah.domain.replica import Replica, ReplicaState
from kasbah.domain.revision import Deadlines, Resources
from kasbah.domain.rollout import RolloutRules
from kasbah.domain.service import ServiceState
from kasbah.domain.usage import Usage


def installation(record: Installation, base_domain: str, sites: Sequence[SiteRecord]) -> public.InstallationView:
    """The installation; its gateway is its first site's."""
    return public.InstallationView(
        id=record.id,
        version=__version__,
        base_domain=base_domain,
        gateway=next((gateway_of(site) for site in sites if gateway_of(site)), ""),
        epoch=record.epoch,
    )


def service(sight: Sight) -> public.ServiceView:
    """A service, as lists show it."""
    summary = _summary(sight)
    return public.ServiceView(**dict(summary), replicas=sum(one.replicas for one in summary.placements))


def detail(found: Detail) -> public.ServiceDetail:
    """A service with everything known about it."""
    sight, record = found.sight, found.sight.service
    names = {site.id: site.name for site in sight.around.sites}
    newest = _newest(found)
    return public.ServiceDetail(
        **dict(_summary(sight)),
        scaling=ScalingSection(
            min=record.scaling.min,
            max=record.scaling.max,
            concurrency=record.scaling.concurrency,
            max_concurrency=record.scaling.max_concurrency,
        ),
        sleep=SleepSection(
            freeze_after=record.sleep.freeze_after, stop_after=record.sleep.stop_after, ignore=record.sleep.ignore
        ),
        rollout_rules=_rollout_rules(record.rollout_rules),
        resources=_resources(newest.contents.resources if newest else Resources()),
        deadlines=_deadlines(newest.contents.deadlines if newest else Deadlines()),
        revisions=[_revision(one, sight) for one in reversed(found.revisions)],
        replicas=[_replica(one, names[report.site]) for report in sight.reports for one in report.status.replicas],
        wakes=[_wake(one, names[one.site]) for one in found.wakes],
        rollout=rollout(sight.rollout, record) if sight.rollout else None,
        waiting_requests=sum(report.status.waiting_requests for report in sight.reports),
        usage=usage(found.usage),
    )


def _newest(found: Detail) -> RevisionRecord | None:
    """The revision that serves, or the newest where none does."""
    serving = found.sight.service.serving
    chosen = [one for one in found.revisions if one.id == serving] or found.revisions
    return chosen[-1] if chosen else None


def _summary(sight: Sight) -> public.ServiceSummary:
    record, around = sight.service, sight.around
    placements = _placements(sight)
    project = around.projects[record.project]
    name = _host(sight)
    address = _address(sight)
    state, reason = _state(sight, placements)
    return public.ServiceSummary(
        id=record.id,
        name=record.name,
        project=project,
        state=state,
        reason=reason,
        revision=record.serving,
        ready=sum(one.ready for one in placements),
        url=_best_url(sight, name),
        domains=list(record.domains),
        address=address,
        host=name,
        access=record.access,
        data=_label(record.label),
        data_declared=record.label.declared,
        placements=placements,
        site=placements[0].site if len(placements) == 1 else None,
        version=record.version,
        created_at=record.created_at,
        deployed_at=record.deployed_at,
    )


def _host(sight: Sight) -> str:
    return host(sight.service.name, sight.around.projects[sight.service.project], sight.around.base_domain)


def _placements(sight: Sight) -> list[public.PlacementView]:
    placement = sight.service.placement
    chosen = placement.chosen if placement else ()
    return [_placement(sight, site) for site in sight.around.sites if site.id in chosen]


def _placement(sight: Sight, site: SiteRecord) -> public.PlacementView:
    status = next((report.status for report in sight.reports if report.site == site.id), None)
    state, reason = shown_state(
        serves=bool(sight.service.shares),
        status=status,
        rollout=sight.rollout.rollout if sight.rollout else None,
        connected=connected(site, sight.around.now),
    )
    replicas = _existing(status)
    return public.PlacementView(
        site=site.name,
        state=state,
        replicas=len(replicas),
        ready=sum(one.state is ReplicaState.READY for one in replicas),
        reason=reason,
    )


def _existing(status: ServiceStatus | None) -> tuple[Replica, ...]:
    return tuple(one for one in status.replicas if one.state is not ReplicaState.ENDED) if status else ()


def _state(sight: Sight, placements: Sequence[public.PlacementView]) -> tuple[ServiceState, str]:
    """The state at its only site; with none yet, the rollout's."""
    if placements:
        return placements[0].state, placements[0].reason
    last = sight.rollout.rollout if sight.rollout else None
    return shown_state(serves=bool(sight.service.shares), status=None, rollout=last, connected=False)


def _reporting(sight: Sight) -> SiteStatus | None:
    """What the site that runs it said of its gateway last; before it has one, the first site."""
    chosen = sight.service.placement.chosen if sight.service.placement else ()
    sites = [site for site in sight.around.sites if site.id in chosen] or sight.around.sites
    return next((site.report for site in sites if gateway_of(site)), None)


def _address(sight: Sight) -> str:
    report = _reporting(sight)
    return report.gateway_address if report else ""


def _best_url(sight: Sight, own: str) -> str:
    """At the first host that speaks TLS, the service's domains before its own; without any, at its own."""
    hosts = (*sight.service.domains, own)
    report = _reporting(sight)
    return _url_of(sight, next((host for host in hosts if report and covers(report.tls_names, host)), own))


def _url_of(sight: Sight, host: str) -> str:
    """With TLS where the site has a certificate for the host. Empty until the gateway has said where it listens."""
    report = _reporting(sight)
    if report is None:
        return ""
    secure = bool(report.tls_address) and covers(report.tls_names, host)
    scheme, usual, address = ("https", "443", report.tls_address) if secure else ("http", "80", report.gateway_address)
    port = address.rpartition(":")[2]
    return f"{scheme}://{host}/" if port == usual else f"{scheme}://{host}:{port}/"


def _label(label: Label) -> DataSection:
    return DataSection(level=LevelName(label.level.name.lower()), categories=label.categories, regimes=label.regimes)


def _rollout_rules(rules: RolloutRules) -> RolloutSection:
    return RolloutSection(
        strategy=rules.strategy, steps=rules.steps, pause=rules.pause, watch=rules.watch, tolerance=rules.tolerance
    )


def _resources(resources: Resources) -> ResourcesSection:
    return ResourcesSection(cpu=resources.cpu, memory=resources.memory)


def _deadlines(deadlines: Deadlines) -> DeadlinesSection:
    return DeadlinesSection(
        startup=deadlines.startup, request=deadlines.request, idle=deadlines.idle, drain=deadlines.drain
    )


def _revision(record: RevisionRecord, sight: Sight) -> public.RevisionView:
    statuses = (one for report in sight.reports for one in report.status.revisions)
    status = next((one for one in statuses if one.revision == record.id), RevisionStatus(revision=record.id))
    shared = any(share.revision == record.id for share in sight.service.shares)
    own = f"{record.id}.{_host(sight)}" if shared else ""
    return public.RevisionView(
        id=record.id,
        created_at=record.created_at,
        runtime=record.contents.runtime,
        command=list(record.contents.command),
        source=record.contents.source,
        percent=sight.service.percent(record.id) if shared else None,
        url=_url_of(sight, own) if shared else "",
        host=own,
        build=status.build,
        trial=status.trial,
        reason=status.reason,
        tail=list(status.tail),
    )


def _replica(replica: Replica, site: str) -> public.ReplicaView:
    return public.ReplicaView(
        id=replica.id,
        site=site,
        revision=replica.revision,
        state=replica.state,
        address=replica.address,
        since=replica.since,
        in_flight=replica.in_flight,
        pid=replica.pid,
        exit=str(replica.exit) if replica.exit else None,
        tail=list(replica.exit.tail) if replica.exit else [],
    )


def _wake(record: WakeRecord, site: str) -> public.WakeView:
    wake = record.contents
    phases = {
        "queue": wake.queue_ms,
        "start": wake.start_ms,
        "ready": wake.ready_ms,
        "first_byte": wake.first_byte_ms,
    }
    return public.WakeView(
        id=wake.id,
        site=site,
        at=wake.at,
        rung=wake.rung,
        phases=phases,
        total_ms=sum(one for one in phases.values() if one is not None),
        held=wake.held,
        error=wake.error,
    )


def rollout(record: RolloutRecord, owner: ServiceRecord) -> public.RolloutView:
    """A rollout."""
    return public.RolloutView(
        id=record.id,
        service=owner.name,
        revision=record.revision,
        previous=record.rollout.previous,
        cause=record.cause,
        strategy=record.rules.strategy,
        percent=record.percent,
        state=record.state,
        step=record.step,
        reason=record.reason,
        tail=list(record.tail),
        started_at=record.started_at,
        changed_at=record.changed_at,
        version=record.version,
    )


def plan(made: Plan, sites: Mapping[str, str], refused: list[public.QuotaRefusal]) -> public.PlanAnswer:
    """A plan; `sites` are names by id."""
    return public.PlanAnswer(
        service=made.service.name,
        revision=made.revision.id,
        action=made.action,
        changes=list(made.changes),
        sites=[
            public.SiteVerdictView(
                site=sites.get(one.site, one.site), verdict=one.verdict, reason=one.reason, hint=one.hint
            )
            for one in made.placement.verdicts
        ],
        refused=refused,
    )


def key(record: KeyRecord, services: Mapping[ServiceId, str]) -> credentials.KeyView:
    """A key without the key; `services` are names by id, those deleted since are shown by id."""
    opens = record.services
    return credentials.KeyView(
        id=record.id,
        name=record.name,
        services=None if opens is None else [services.get(one, one) for one in opens],
        created_at=record.created_at,
        revoked_at=record.revoked_at,
    )


def secret(sight: SecretSight) -> credentials.SecretView:
    """A secret without its value."""
    record = sight.secret
    return credentials.SecretView(
        name=record.name,
        version=record.version,
        size=sight.size,
        created_at=record.created_at,
        changed_at=record.changed_at,
        used_by=list(sight.used_by),
        outdated=list(sight.outdated),
    )


def token(record: TokenRecord) -> credentials.TokenView:
    """A token without the token."""
    return credentials.TokenView(
        id=record.id,
        name=record.name,
        scopes=list(record.scopes),
        created_at=record.created_at,
        revoked_at=record.revoked_at,
    )


def site(sight: SiteSight) -> public.SiteView:
    """A site and what it reports of itself."""
    record, report, desired = sight.site, sight.site.report, sight.desired
    return public.SiteView(
        id=record.id,
        name=record.name,
        kind=record.kind,
        country=record.country,
        connected=connected(record, sight.around.now),
        seen_at=record.seen_at,
        gateway=gateway_of(record),
        gateway_error=report.gateway_error if report else "",
        tls=report.tls_address if report else "",
        tls_names=list(report.tls_names) if report else [],
        notes=list(report.notes) if report else [],
        isolation=list(report.isolation.mechanisms) if report else [],
        isolation_missing=dict(report.isolation.missing) if report else {},
        egress=report.isolation.egress if report else "unknown",
        cpus=report.cpus if report else 0.0,
        memory=report.memory if report else 0,
        runtimes=list(report.runtimes) if report else [],
        epoch=sight.around.epoch,
        desired_generation=desired.generation if desired else 0,
        applied_generation=applied_generation(record, sight.around),
    )


def applied_generation(record: SiteRecord, around: Surroundings) -> int:
    """The generation of this epoch that the site acts on; 0 where it acts on none."""
    epoch, generation = record.report.applied if record.report else (0, 0)
    return generation if epoch == around.epoch else 0


def usage(counted: Usage) -> public.UsageView:
    """What was served."""
    return public.UsageView(
        requests=counted.requests,
        failed=counted.failed,
        bytes_in=counted.bytes_in,
        bytes_out=counted.bytes_out,
    )
