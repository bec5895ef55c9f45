"""Which site's door is opened: that of a site that is named, for who administers it, or one that runs a service."""

from __future__ import annotations

from datetime import timedelta

from kasbah.api.public import Door
from kasbah.control.store.records import ServiceRecord, SiteRecord
from kasbah.control.usecases.send_source import gateway_of, open_door
from kasbah.control.usecases.sites import connected, site_named
from kasbah.control.usecases.work import Work
from kasbah.errors import Unavailable


def open_site_door(work: Work, name: str, *, act: str, path: str) -> Door:
    """The door of the site called `name`, for `act` on the site as a whole."""
    site = site_named(work, name)
    if not connected(site, work.now) or not gateway_of(site):
        raise Unavailable(
            f"site {name!r} does not report at present, so it cannot be asked",
            hint="look at its agent with `kasbah doctor`",
            code="site_away",
        )
    work.journal.detail(act=act)
    return open_door(work, site, act=act, target=site.id, path=path)


def site_of(work: Work, service: ServiceRecord, *, without: str) -> SiteRecord:
    """A site that runs the service. Raises Unavailable, which says what is `without` one."""
    chosen = service.placement.chosen if service.placement else ()
    for site in work.tx.sites.all():
        if site.id in chosen and gateway_of(site):
            return site
    raise Unavailable(
        f"service {service.name!r} runs at no site yet, so {without}",
        hint=f"see what it waits for: kasbah describe {service.name}",
        code="not_placed",
        retry_after=timedelta(seconds=2),
    )
