"""Which site is meant, and whether it is there."""

from __future__ import annotations

from datetime import datetime, timedelta

from kasbah.control.store.records import SiteRecord
from kasbah.control.usecases.work import Work
from kasbah.errors import Conflict, NotFound

SILENCE = timedelta(seconds=10)
"""A site that has not reported for longer is not connected."""


def connected(site: SiteRecord, now: datetime) -> bool:
    """Whether the site reports at present."""
    return site.seen_at is not None and now - site.seen_at <= SILENCE


def site_named(work: Work, name: str) -> SiteRecord:
    """The site with this name, or NotFound."""
    found = work.tx.sites.find(name)
    if found is None:
        raise NotFound(f"there is no site {name!r}", hint="`kasbah sites list` lists them", code="site_not_found")
    return found


def running_site(work: Work, name: str) -> SiteRecord:
    """The site with this name that runs services. Raises NotFound, and Conflict where it is only called."""
    found = site_named(work, name)
    if found.outside:
        raise Conflict(
            f"{name!r} is a place that is called, at {', '.join(found.charter.hosts)}: it runs nothing of ours",
            hint="sites that run services have no `hosts` in sites.yaml",
            code="only_called",
        )
    return found
