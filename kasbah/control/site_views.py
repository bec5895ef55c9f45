"""Sites as the API shows them."""

from __future__ import annotations

from datetime import datetime

from kasbah.api.quantities import format_size
from kasbah.api.sites import FactView, PackPinned, SiteView
from kasbah.control.store.records import SiteRecord
from kasbah.control.usecases.describe import SiteSight, Surroundings
from kasbah.control.usecases.send_source import gateway_of
from kasbah.control.usecases.sites import connected
from kasbah.decide.standing import holds
from kasbah.domain.charter import Capacity, Fact, Owner, Prices


def site(sight: SiteSight) -> SiteView:
    """A site and what it reports of itself."""
    record, report, desired = sight.site, sight.site.report, sight.desired
    return SiteView(
        id=record.id,
        name=record.name,
        kind=record.kind,
        country=record.country,
        state=record.state,
        version=record.charter.version,
        signed=record.signed is not None,
        facts=[fact(name, one, sight.around.now) for name, one in record.charter.facts.said()],
        hosts=list(record.charter.hosts),
        connected=connected(record, sight.around.now),
        seen_at=record.seen_at,
        gateway=gateway_of(record),
        gateway_error=report.gateway_error if report else "",
        tls=report.tls_address if report else "",
        tls_names=list(report.tls_names) if report else [],
        peers_address=report.peers_address if report else "",
        tunnel=report is not None and report.tunnel,
        notes=list(report.notes) if report else [],
        packs=[PackPinned(name=one.name, version=one.version, digest=one.digest) for one in report.packs]
        if report
        else [],
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


def fact(name: str, said: Fact[object], now: datetime) -> FactView:
    """A fact as people read it."""
    return FactView(
        name="certificate" if name == "certificates" else name,
        value=in_words(said.value),
        source=said.source,
        since=said.since,
        until=said.until,
        holds=holds(said, now),
    )


def in_words(value: object) -> str:
    """What was said, on a line."""
    match value:
        case bool():
            return "yes" if value else "no"
        case frozenset():
            return ", ".join(sorted(map(str, value)))
        case tuple():
            return ", ".join(f"{one.name} ({one.country}) {one.percent:g}%" for one in value if isinstance(one, Owner))
        case Capacity():
            cpus = [] if value.cpus is None else [f"{value.cpus:g} CPUs"]
            return ", ".join([*cpus, *([] if value.memory is None else [format_size(value.memory)])])
        case Prices():
            return f"{value.cpu_hour:g} an hour per CPU, {value.gib_hour:g} per GiB"
        case float():
            return f"{value:g}"
        case _:
            return str(value)
