"""From what is known to what is shown: every public shape of /api/v1 is made here, or in `project_views`."""

from __future__ import annotations

from collections.abc import Sequence

from kasbah import __version__
from kasbah.api import credentials, public
from kasbah.api.attesting import contents_of
from kasbah.api.manifest import (
    DataSection,
    DeadlinesSection,
    ResourcesSection,
    RolloutSection,
    ScalingSection,
    SleepSection,
    VolumeSection,
)
from kasbah.control.shown import shown_nowhere, shown_state
from kasbah.control.store.records import (
    Installation,
    RevisionRecord,
    RolloutRecord,
    ServiceRecord,
    SiteRecord,
    WakeRecord,
)
from kasbah.control.usecases.describe import Detail, Sight
from kasbah.control.usecases.publish import host
from kasbah.control.usecases.secrets import SecretSight
from kasbah.control.usecases.send_source import gateway_of
from kasbah.control.usecases.sites import connected
from kasbah.decide.certificates import covers
from kasbah.domain.label import Label
from kasbah.domain.observed import RevisionStatus, ServiceStatus, SiteStatus
from kasbah.domain.replica import Replica, ReplicaState
from kasbah.domain.revision import Deadlines, Resources, Volume
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
        volumes=[_volume(one) for one in newest.contents.volumes] if newest else [],
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
        data=data(record.label),
        data_declared=record.label.declared,
        placements=placements,
        site=placements[0].site if len(placements) == 1 else None,
        version=record.version,
        created_at=record.created_at,
        deployed_at=record.deployed_at,
    )


def _volume(volume: Volume) -> VolumeSection:
    return VolumeSection(name=volume.name, path=volume.path, size=volume.size)


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
    names = {site.id: site.name for site in sight.around.sites}
    service = sight.service
    return shown_nowhere(serves=bool(service.shares), placement=service.placement, rollout=last, names=names)


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


def data(label: Label) -> DataSection:
    """A label as it is shown. It is not checked again: what an older version took is shown as it is."""
    level = label.level.word
    return DataSection.model_construct(level=level, categories=label.categories, regimes=label.regimes)


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


def env(record: RevisionRecord) -> public.EnvView:
    """A revision as its deployer signs it."""
    attested = record.attested
    return public.EnvView(
        revision=record.id,
        contents=contents_of(record.contents),
        attested=None
        if attested is None
        else public.AttestationText(
            key=attested.key, document=attested.signed.document, signature=attested.signed.signature
        ),
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


def secret(sight: SecretSight) -> credentials.SecretView:
    """A secret without its value."""
    record = sight.secret
    return credentials.SecretView(
        name=record.name,
        version=record.version,
        size=sight.size,
        created_at=record.created_at,
        changed_at=record.changed_at,
        data=data(record.label) if record.label is not None else None,
        used_by=list(sight.used_by),
        outdated=list(sight.outdated),
    )


def usage(counted: Usage) -> public.UsageView:
    """What was served."""
    return public.UsageView(
        requests=counted.requests,
        failed=counted.failed,
        bytes_in=counted.bytes_in,
        bytes_out=counted.bytes_out,
    )
