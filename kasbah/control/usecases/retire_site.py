"""Takes a site out of service, gives it back, or removes it from the installation for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kasbah.control.store.records import ServiceRecord, SiteRecord
from kasbah.control.usecases.foresee import foresee, scene
from kasbah.control.usecases.publish import clear
from kasbah.control.usecases.sites import running_site, site_named
from kasbah.control.usecases.work import Work
from kasbah.domain.site import FIRST_SITE, SiteState
from kasbah.errors import Conflict

NAMED = 5


def drain(work: Work, name: str, *, undo: bool = False) -> SiteRecord:
    """Have a site give away what it runs, and get nothing new; with `undo`, have it take work again."""
    wanted = SiteState.ACTIVE if undo else SiteState.DRAINING
    site = running_site(work, name)
    if site.state is wanted:
        return site
    drained = replace(site, state=wanted)
    work.tx.sites.save(drained)
    return drained


def remove(work: Work, name: str, *, force: bool = False) -> SiteRecord:
    """Remove a site. Its agent is told to run nothing, what it says is refused from then
    on, and it never comes back. One that runs services, or that they call, is refused unless `force`: they are placed
    elsewhere then, where the law has a place for them, and call it no more."""
    site = site_named(work, name)
    if site.name == FIRST_SITE:
        raise Conflict(
            f"site {name!r} is that of the control plane's own machine",
            hint=f"drain it instead: kasbah sites drain {name}",
            code="own_site",
        )
    running = [one for one in work.tx.services.all() if _is_at(one, site)]
    if running and not force:
        raise Conflict(
            f"site {name!r} runs {_listed([one.name for one in running])}",
            hint=f"drain it first: kasbah sites drain {name}; or remove it as it is with --force",
            code="site_in_use",
        )
    callers = [] if force or not site.outside else _callers(work, site)
    if callers:
        raise Conflict(
            f"services call {name!r}: {_listed(callers)}",
            hint="they may call it no more without it; if that is what you want, remove it with --force",
            code="site_in_use",
        )
    removed = replace(site, name=site.id, state=SiteState.REMOVED, token_sha256="")
    work.tx.sites.save(removed)
    if not site.outside:
        work.touched.add(clear(work.tx, work.key, removed, work.rules.base_domain, work.now))
    return removed


def _callers(work: Work, place: SiteRecord) -> list[str]:
    """The services that could call it no more."""
    found = foresee(work, scene(work), scene(work, without=place.id)).blast
    return sorted({one.service for one in found.cuts})


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (" and more" if len(names) > NAMED else "")


def _is_at(service: ServiceRecord, site: SiteRecord) -> bool:
    return service.placement is not None and site.id in service.placement.chosen
