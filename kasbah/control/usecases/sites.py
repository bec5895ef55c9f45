"""What is known of the sites: who is there, what each can do, and how it is reached."""

from __future__ import annotations

from datetime import datetime, timedelta

from kasbah.control.store.records import SiteRecord
from kasbah.decide.placement import SiteFacts
from kasbah.domain.site import ENFORCED

SILENCE = timedelta(seconds=10)
"""A site that has not reported for longer is not connected."""


def connected(site: SiteRecord, now: datetime) -> bool:
    """Whether the site reports at present."""
    return site.seen_at is not None and now - site.seen_at <= SILENCE


def facts(site: SiteRecord, now: datetime) -> SiteFacts:
    """The site as placement sees it."""
    report = site.report
    return SiteFacts(
        site=site.id,
        name=site.name,
        seen=report is not None,
        connected=connected(site, now),
        runtimes=report.runtimes if report else (),
        cpus=report.cpus if report else 0.0,
        memory=report.memory if report else 0,
        keeps_egress=report is not None and report.isolation.egress == ENFORCED,
    )
