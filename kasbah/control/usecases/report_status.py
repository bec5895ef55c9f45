"""Takes what a site saw: keeps the newest, and gives a new version to each service for which it means something.

Counts of requests in flight are kept, but mean nothing to who watches: versions would never rest.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from kasbah.control.changes import ROLLOUTS
from kasbah.control.store.records import Difference, SiteRecord, WakeRecord
from kasbah.control.usecases.work import Office, Work, service_topic
from kasbah.decide.nearness import NEIGHBOURS
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.observed import ServiceStatus, SiteStatus
from kasbah.errors import Conflict, Denied, Invalid

WAKES_KEPT = 20

NEVER = datetime(1970, 1, 1, tzinfo=UTC)

MOST_KEYS = 10_000

FRESH = timedelta(seconds=3)
"""A report that changes nothing is written only if the last one is older: an idle site costs the disk little."""


def report_status(office: Office, site: SiteRecord, status: SiteStatus, *, mark: str = "") -> None:
    """Take the site's report; `mark` names it from now on."""
    if status.site != site.id:
        raise Denied("a site reports for itself only", hint="give the agent its own site.token")
    if len(status.near) > NEIGHBOURS or any(took < 0 for _, took in status.near):
        raise Invalid(f"a site says of {NEIGHBOURS} others at the most how far they are, in milliseconds", where="near")
    if len(status.own_keys) > MOST_KEYS:
        raise Invalid(f"a site states {MOST_KEYS:,} keys of services at the most", where="own_keys")
    office.marks.pop(site.id, None)
    with office.read() as work:
        news = _news(work, site, status)
    if news:
        moved = _told_on(site.report) != _told_on(status)
        with office.write() if moved else office.note() as work:  # it is in others' desired states
            _take(work, site.id, status)
    if mark:
        office.marks[site.id] = mark


def _told_on(status: SiteStatus | None) -> object:
    """What of a report others are told: how they send to this site, and what it states of its services' keys."""
    return ("", False, ()) if status is None else (status.peers_address, status.tunnel, status.own_keys)


def still_so(office: Office, site: SiteRecord, mark: str) -> None:
    """Take it that the report with this mark is still true. Raises Conflict where it is not the last one taken here."""
    if not mark or office.marks.get(site.id) != mark:
        raise Conflict("that report is not the last one known here", code="status_unknown", hint="send it whole")
    if site.seen_at is None or office.clock.now() - site.seen_at > FRESH:
        with office.note() as work:
            record = _known(work, site.id)
            work.tx.sites.save(replace(record, seen_at=work.now))


def _known(work: Work, site: SiteId) -> SiteRecord:
    record = work.tx.sites.get(site)
    assert record is not None, "it was authenticated just now"
    return record


def _news(work: Work, site: SiteRecord, status: SiteStatus) -> bool:
    stale = site.seen_at is None or work.now - site.seen_at > FRESH
    return stale or _header(status) != _header(site.report) or bool(_differences(work, site.id, status))


def _header(status: SiteStatus | None) -> SiteStatus | None:
    """The report without its services, and without its time."""
    return None if status is None else replace(status, services=(), observed_at=NEVER)


def _differences(work: Work, site: SiteId, status: SiteStatus) -> tuple[Difference, ...]:
    """What is new in the report. A site may still be ending what was deleted: that is no news."""
    known = work.tx.services.ids()
    return work.tx.reports.differences(site, [one for one in status.services if one.service in known])


def _take(work: Work, site: SiteId, status: SiteStatus) -> None:
    record = _known(work, site)
    changed: list[ServiceId] = []
    for difference in _differences(work, site, status):
        work.tx.reports.save(site, difference)
        _keep_wakes(work, site, difference)
        if _meaning(difference.before) != _meaning(difference.after):
            changed.append(difference.service)
    work.tx.sites.save(replace(record, seen_at=work.now, report=replace(status, services=())))
    work.tx.services.bump(changed)
    work.touched.update(service_topic(service) for service in changed)
    work.touched.add(ROLLOUTS)


def _keep_wakes(work: Work, site: SiteId, difference: Difference) -> None:
    """Keep the wakings that are new, or known better than before."""
    before = set(difference.before.wakes) if difference.before else set()
    after = difference.after.wakes if difference.after else ()
    fresh = [one for one in after if one not in before]
    if fresh:
        service = difference.service
        work.tx.wakes.put(WakeRecord(id=one.id, service=service, site=site, at=one.at, contents=one) for one in fresh)
        work.tx.wakes.trim(service, WAKES_KEPT)


def _meaning(status: ServiceStatus | None) -> ServiceStatus | None:
    """The status without what changes with every request."""
    if status is None:
        return None
    replicas = tuple(replace(one, in_flight=0) for one in status.replicas)
    return replace(status, waiting_requests=0, in_flight=0, replicas=replicas)
