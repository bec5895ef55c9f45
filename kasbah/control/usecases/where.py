"""Where is a service, and what of it is where? Who controls each of those places, which laws reach it, and how it is
secured.

Told from what sites report and from what their owner declares, and not from where the service ought to be.
"""

from __future__ import annotations

from dataclasses import dataclass

from kasbah.control.store.records import RevisionRecord, ServiceRecord, ServiceReport, SiteRecord
from kasbah.control.usecases.work import Work, service_named
from kasbah.decide.standing import held
from kasbah.domain.charter import Facts
from kasbah.domain.ids import SiteId
from kasbah.domain.observed import BuildState
from kasbah.domain.placement import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A site that has something of the service, and what: `serves`, `replicas`, `builds`, `logs`, `volumes`, `source`.
    `facts` are those of the site that hold now."""

    site: SiteRecord
    what: tuple[str, ...]
    facts: Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """A service, and every site that has something of it."""

    service: ServiceRecord
    places: tuple[Held, ...]


def where(work: Work, project: str, name: str) -> Whereabouts:
    """Where the service called `name` is."""
    service = service_named(work, project, name)
    reports = {one.site: one for one in work.tx.reports.of((service.id,))}
    revisions = work.tx.revisions.of(service.id)
    found = []
    for site in work.tx.sites.all():
        what = _what(service, site.id, reports.get(site.id), revisions)
        if what:
            found.append(Held(site=site, what=what, facts=held(site.charter.facts, work.now)))
    return Whereabouts(service=service, places=tuple(found))


def _what(
    service: ServiceRecord, site: SiteId, report: ServiceReport | None, revisions: tuple[RevisionRecord, ...]
) -> tuple[str, ...]:
    verdicts = service.placement.verdicts if service.placement is not None else ()
    decided = next((one.verdict for one in verdicts if one.site == site), Verdict.REFUSED)
    found = ["serves"] if decided is Verdict.CHOSEN and service.serving is not None else []
    if report is not None:
        built = {one.revision for one in report.status.revisions if one.build is BuildState.BUILT}
        kept = [one for one in revisions if one.id in built]
        found += [f"replicas: {len(report.status.replicas)}"] if report.status.replicas else []
        found += [f"builds: {len(kept)}", "source", "logs"] if kept else ["source", "logs"]
        found += ["volumes"] if any(one.contents.volumes for one in kept) else []
    elif decided is Verdict.POSSIBLE:
        found += ["source, as a standby"] if service.serving is not None else []
    return tuple(found)
