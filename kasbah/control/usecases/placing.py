"""Where would this service run, as things are? Gathers what `decide.placement` is asked with, for whoever asks: a plan,
a rollout, an explanation, the loop that upholds the law.

An estate is the sites at one moment, looked at once however many services are asked about.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from kasbah.control.store.records import ServiceRecord, SiteRecord
from kasbah.control.usecases.callers import callers, distances
from kasbah.control.usecases.law_now import LawNow
from kasbah.control.usecases.lawful import admissions, dated, standings
from kasbah.control.usecases.outbound import exits_now, outside
from kasbah.control.usecases.sites import connected
from kasbah.control.usecases.work import Work
from kasbah.decide.egress import Exits, Outside
from kasbah.decide.needs import NOWHERE, Current, Needs, SiteFacts
from kasbah.decide.placer import Placer
from kasbah.decide.standing import Standing
from kasbah.decide.together import Asked, place_alone, place_together
from kasbah.domain.charter import value_of
from kasbah.domain.ids import RevisionId, ServiceId, SiteId
from kasbah.domain.law import Place
from kasbah.domain.observed import BuildState, TurnedAway
from kasbah.domain.placement import Placement
from kasbah.domain.revision import Revision
from kasbah.domain.site import OPEN, SiteState

FAILOVER = timedelta(seconds=30)
"""A site that has been silent for longer is lost: others take what it ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estate:
    """The sites at one moment, and the law at them. `places` are the sites as the law sees them, `until` when that
    changes by itself; `outside` are the places that are only called, `leaving` the sites that are drained or lost.
    `turned_away` is by service what sites refused of it themselves."""

    law: LawNow
    sites: tuple[SiteRecord, ...]
    places: Mapping[SiteId, Place]
    outside: tuple[Outside, ...]
    placer: Placer
    until: datetime | None
    leaving: frozenset[SiteId]
    turned_away: Mapping[ServiceId, tuple[tuple[SiteId, TurnedAway], ...]]

    @property
    def facts(self) -> tuple[SiteFacts, ...]:
        """The sites as placement sees them."""
        return self.placer.sites

    @property
    def names(self) -> dict[SiteId, str]:
        """What they are called."""
        return {site.id: site.name for site in self.sites}


def survey(work: Work, *, room: bool = True) -> Estate:
    """The sites as they are now. `room`: with what is taken of it, which is found by looking at every service, and
    matters only to services that always run."""
    everywhere = work.tx.sites.everywhere()
    sites = tuple(one for one in everywhere if not one.outside)
    standing = standings(sites, work.now)
    used, far = _used(work) if room else {}, distances(sites)
    seen = tuple(
        replace(facts(site, standing[site.id], used.get(site.id, (0.0, 0)), work.now), near=far.get(site.id, {}))
        for site in sites
    )
    return Estate(
        law=work.law,
        sites=sites,
        places={site: one.place for site, one in standing.items()},
        outside=outside(everywhere, work.now),
        placer=Placer(sites=seen),
        until=min((one.until for one in standing.values() if one.until is not None), default=None),
        leaving=frozenset(one.site for one in seen if one.draining or one.lost),
        turned_away=_turned_away(sites),
    )


def placed(work: Work, estate: Estate, service: ServiceRecord, revision: Revision) -> Placement:
    """Where the service would run with this revision, if that were decided now."""
    found = place_alone(_asked(work, estate, service, revision), estate.placer)
    return dated_placement(estate, replace(service, placement=found))


def placed_together(
    work: Work, estate: Estate, services: Sequence[tuple[ServiceRecord, Revision]]
) -> dict[ServiceId, Placement]:
    """The same of several, none of which is given room that another is given. The estate has less room afterwards."""
    found = place_together([_asked(work, estate, *one) for one in services], estate.placer)
    return {one.id: dated_placement(estate, replace(one, placement=found[one.id])) for one, _ in services}


def _asked(work: Work, estate: Estate, service: ServiceRecord, revision: Revision) -> Asked:
    law = estate.law
    return Asked(
        service=service.id,
        needs=replace(
            needs_of(service, revision, exits_of(work, estate, service, revision)),
            callers=callers(work.tx, work.now, estate.sites, service),
        ),
        lawful=lambda: admissions(law.of(service), service.label, estate.places),
        now=_current(work, estate, service),
        alone=not law.is_everywhere_the_same,
        turned_away={
            site: one.reason
            for site, one in estate.turned_away.get(service.id, ())
            if one.label == service.label and _is_about(work, one, service, revision)
        },
    )


def _is_about(work: Work, refusal: TurnedAway, service: ServiceRecord, revision: Revision) -> bool:
    """Whether a site refuses this revision, as it is signed now."""
    if not refusal.revisions:
        return True
    known = work.tx.revisions.get(service.id, revision.id)
    signature = known.attested.signed.signature if known is not None and known.attested is not None else ""
    return (revision.id, signature) in refusal.revisions


def _turned_away(sites: Sequence[SiteRecord]) -> dict[ServiceId, tuple[tuple[SiteId, TurnedAway], ...]]:
    """What sites refuse of themselves, by service: good as long as that is labelled as it was then."""
    found: dict[ServiceId, tuple[tuple[SiteId, TurnedAway], ...]] = {}
    for site in sites:
        for one in site.report.turned_away if site.report is not None else ():
            found[one.service] = (*found.get(one.service, ()), (site.id, one))
    return found


def dated_placement(estate: Estate, service: ServiceRecord) -> Placement:
    """The service's placement, valid until the first expiry of what it rests on."""
    found = dated(estate.law, service, estate.places, estate.until).placement
    assert found is not None, "it has just been placed"
    return found


def exits_of(work: Work, estate: Estate, service: ServiceRecord, revision: Revision) -> Exits:
    """What the service may call with this revision, as the law is now."""
    return exits_now(work, estate.law, estate.outside, estate.places, service, revision)


def needs_of(service: ServiceRecord, revision: Revision, may_call: Exits) -> Needs:
    """What a service asks of a site for this revision."""
    return Needs(
        label=service.label,
        runtime=revision.runtime,
        resources=revision.resources,
        reach=may_call.reach,
        insists=may_call.insists,
        constraints=service.constraints,
        replicas=service.scaling.min,
    )


def facts(site: SiteRecord, standing: Standing, used: tuple[float, int], now: datetime) -> SiteFacts:
    """The site as placement sees it. What its owner declares of its capacity lowers what the machine has."""
    report, said = site.report, site.charter.facts
    cpus, memory = (report.cpus, report.memory) if report else (0.0, 0)
    most = standing.capacity
    return SiteFacts(
        site=site.id,
        name=site.name,
        seen=report is not None,
        connected=connected(site, now),
        draining=site.state is SiteState.DRAINING,
        lost=site.seen_at is not None and now - site.seen_at > FAILOVER,
        runtimes=report.runtimes if report else (),
        cpus=cpus if most.cpus is None else min(cpus, most.cpus) or most.cpus,
        memory=memory if most.memory is None else min(memory, most.memory) or most.memory,
        used_cpus=used[0],
        used_memory=used[1],
        egress=report.isolation.egress if report else OPEN,
        country=standing.place.country,
        operator=value_of(said.operator),
        cpu_hour=standing.prices.cpu_hour if standing.prices else None,
        gib_hour=standing.prices.gib_hour if standing.prices else None,
        energy_price=standing.energy_price,
        carbon=standing.carbon,
    )


def _current(work: Work, estate: Estate, service: ServiceRecord) -> Current:
    """Where it is. Who could serve it now is looked up only where it is about to leave a site."""
    placement = service.placement
    if placement is None:
        return NOWHERE
    at = placement.chosen
    leaves = estate.leaving.intersection(at) or len(at) > service.constraints.sites
    ready = _ready(work, service, service.serving) if leaves else frozenset[SiteId]()
    return Current(at=at, ready=ready - estate.leaving)


def _ready(work: Work, service: ServiceRecord, serving: RevisionId | None) -> frozenset[SiteId]:
    """The sites that have built what it serves: a request that arrives there is answered."""
    return frozenset(
        report.site
        for report in work.tx.reports.of((service.id,))
        if any(one.revision == serving and one.build is BuildState.BUILT for one in report.status.revisions)
    )


def _used(work: Work) -> dict[SiteId, tuple[float, int]]:
    """By site, the CPUs and the memory of what always runs there."""
    used: dict[SiteId, tuple[float, int]] = defaultdict(lambda: (0.0, 0))
    for service in work.tx.services.all():
        runs = service.serving or (service.trial.revision if service.trial is not None else None)
        if not service.scaling.min or service.placement is None or runs is None:
            continue
        revision = work.tx.revisions.get(service.id, runs)
        if revision is None:
            continue
        asked, count = revision.contents.resources, service.scaling.min
        for site in service.placement.chosen:
            cpus, memory = used[site]
            used[site] = (cpus + (asked.cpu or 0.0) * count, memory + (asked.memory or 0) * count)
    return used
