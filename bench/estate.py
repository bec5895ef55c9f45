"""An installation of many services at many sites, as the control plane has it in its store: drawn, and written without
deploying anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

from kasbah.clock import ManualClock
from kasbah.control.app import Control, build
from kasbah.control.store.records import RevisionRecord, ServiceRecord, SiteRecord
from kasbah.control.usecases.placing import placed, survey
from kasbah.control.usecases.work import Work
from kasbah.decide.needs import Needs, SiteFacts
from kasbah.domain.charter import Charter, Fact, Facts, Prices, Value
from kasbah.domain.ids import Digest, InstallationId, RevisionId, ServiceId
from kasbah.domain.law import Place
from kasbah.domain.observed import SiteStatus
from kasbah.domain.revision import Revision
from kasbah.domain.service import Access, Scaling, Share, Sleep
from kasbah.domain.site import Isolation
from kasbah.settings import ControlSettings

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SINCE = date(2026, 1, 1)
SOURCE = Digest("sha256:" + "a" * 64)


def control_plane(folder: Path, sites: Sequence[SiteFacts], places: Sequence[Place], needs: Sequence[Needs]) -> Control:
    """A control plane that has these sites, which report, and these services, placed and serving."""
    control = build(ControlSettings(data_dir=folder, country="MA"), ManualClock(START))
    with control.office.write() as work:
        installation = work.tx.installations.get()
        assert installation is not None, "it was made just now"
        for one, place in zip(sites, places, strict=True):
            work.tx.sites.add(_site(installation.id, one, place))
    with control.office.write() as work:
        project = work.tx.installations.projects()[0].id
        for number, one in enumerate(needs):
            service = ServiceRecord(
                id=ServiceId(f"sv-{number}"),
                project=project,
                name=f"service-{number}",
                access=Access.KEY,
                label=one.label,
                scaling=Scaling(),
                sleep=Sleep(),
                constraints=one.constraints,
                created_at=START,
                shares=(Share(revision=RevisionId(f"rv-{number}"), percent=100),),
            )
            work.tx.services.add(service)
            work.tx.revisions.put(_revision(service, one))
        _place(work)
    return control


def _place(work: Work) -> None:
    estate = survey(work)
    contents = {one.service: one.contents for one in work.tx.revisions.all()}
    for service in work.tx.services.all():
        work.tx.services.save(replace(service, placement=placed(work, estate, service, contents[service.id])))


def _site(installation: InstallationId, one: SiteFacts, place: Place) -> SiteRecord:
    facts = Facts(
        country=None if place.country is None else _said(place.country),
        operator=None if one.operator is None else _said(one.operator),
        exposure=None if place.exposure is None else _said(place.exposure),
        certificates=tuple(_said(name) for name in sorted(place.certificates)),
        prices=_said(Prices(cpu_hour=one.cpu_hour or 0.0, gib_hour=one.gib_hour or 0.0)),
        carbon=None if one.carbon is None else _said(one.carbon),
    )
    charter = Charter(installation=installation, site=one.site, name=one.name, version=1, kind=place.kind, facts=facts)
    report = SiteStatus(
        site=one.site,
        observed_at=START,
        applied=(0, 0),
        gateway_address="127.0.0.1:8080",
        peers_address="127.0.0.1:8443",
        isolation=Isolation(mechanisms=()),
        cpus=one.cpus,
        memory=one.memory,
        runtimes=one.runtimes,
    )
    return SiteRecord(id=one.site, name=one.name, charter=charter, seen_at=START, report=report)


def _said(value: Value) -> Fact[Value]:
    return Fact(value=value, source="drawn", since=SINCE)


def _revision(service: ServiceRecord, needs: Needs) -> RevisionRecord:
    revision = Revision(
        id=service.shares[0].revision,
        source=SOURCE,
        source_size=1_000,
        runtime=needs.runtime,
        command=("python", "app.py"),
        resources=needs.resources,
    )
    return RevisionRecord(
        service=service.id, id=revision.id, number=1, created_at=START, contents=revision, proven=True
    )


def move_abroad(work: Work, name: str) -> None:
    """Have a site's owner declare that it stands in another country."""
    site = work.tx.sites.find(name)
    assert site is not None, name
    facts = replace(site.charter.facts, country=_said("US"))
    work.tx.sites.save(replace(site, charter=replace(site.charter, version=site.charter.version + 1, facts=facts)))
