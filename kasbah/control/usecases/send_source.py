"""Opens sites' doors for a source: where to send it, and a ticket that lets exactly this one in.

A source is as sensitive as the service that is made of it, and goes only where that may be built: to the sites that
were chosen for the service, and to a few of those that could take it over, so that the loss of a site does not need
whoever deployed it.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from kasbah.api.public import Door
from kasbah.api.signing import Ticket, write_ticket
from kasbah.control.store.records import ServiceRecord, SiteRecord
from kasbah.control.usecases.lawful import admissions, label_of, places
from kasbah.control.usecases.sites import connected
from kasbah.control.usecases.work import Work, project_named
from kasbah.domain.ids import Digest, SiteId
from kasbah.domain.label import UNLABELLED
from kasbah.domain.law import Purpose
from kasbah.domain.observed import BuildState
from kasbah.domain.placement import Placement, Verdict
from kasbah.errors import TooLarge, Unavailable

DOOR_HOST = "kasbah"
"""The site's own door answers at this name below the base domain."""

ENVELOPE = 2**20
"""What compression may add to a bundle, and then some."""

STANDBYS = 2
"""How many sites more than the chosen ones get a source."""


def send_source(work: Work, project: str, name: str, digest: str, size: int) -> tuple[Door, ...]:
    """The doors for a source of `size` bytes, of the service called so. Unavailable while no site can be reached that
    is to have it."""
    most = work.rules.limits.source_bytes
    if size > most:
        raise TooLarge(f"the source is {size} bytes; {most} is the most", where="size")
    service = work.tx.services.find(project_named(work.tx, project).id, name)
    doors = doors_for(work, service, Digest(digest), size)
    if not any(not door.standby for door in doors):
        raise Unavailable(
            "no site can take the source now: none that may have it is connected",
            hint="look at the site's agent with `kasbah doctor`, and at who may have it with `kasbah plan`",
            code="no_site",
            retry_after=timedelta(seconds=2),
        )
    return doors


def doors_for(
    work: Work, service: ServiceRecord | None, digest: Digest, size: int, *, anew: Collection[SiteId] = ()
) -> tuple[Door, ...]:
    """The doors of the sites that are to have a source and can be reached: those that were chosen, the first that may
    build it where none was, and then the standbys. `anew`: sites that had to give it up since they built it."""
    sites = work.tx.sites.all()
    label = UNLABELLED if service is None else label_of(work.law, service)
    law = work.law if service is None else work.law.of(service)
    lawful = admissions(law, label, places(sites, work.now), Purpose.BUILD)
    there = [one for one in sites if connected(one, work.now) and gateway_of(one) and lawful[one.id].allowed]
    placement = None if service is None else service.placement
    chosen = set(placement.chosen) if placement is not None and placement.chosen else {one.id for one in there[:1]}
    standbys = _standbys(placement, {one.id for one in there} - chosen)
    built = set() if service is None else _built(work, service, digest) - set(anew)
    return tuple(
        _door(work, site, digest, size, standby=site.id in standbys)
        for site in sorted(there, key=lambda one: one.id in standbys)
        if site.id in (chosen | standbys) - built
    )


def _standbys(placement: Placement | None, able: set[SiteId]) -> set[SiteId]:
    """The sites that would be the next ones."""
    if placement is None:
        return set()
    possible = [one for one in placement.verdicts if one.verdict is Verdict.POSSIBLE and one.site in able]
    return {one.site for one in sorted(possible, key=lambda one: one.rank or 0)[:STANDBYS]}


def _built(work: Work, service: ServiceRecord, digest: Digest) -> set[SiteId]:
    """The sites that have built this source, so that they need it no more."""
    made = {one.id for one in work.tx.revisions.of(service.id) if one.contents.source == digest}
    return {
        report.site
        for report in work.tx.reports.of((service.id,))
        if any(one.revision in made and one.build is BuildState.BUILT for one in report.status.revisions)
    }


def _door(work: Work, site: SiteRecord, digest: Digest, size: int, *, standby: bool) -> Door:
    path = f"/v1/blobs/{digest}"
    opened = open_door(work, site, act="blob.put", target=digest, path=path, limit=size + ENVELOPE)
    return opened.model_copy(update={"standby": standby})


def gateway_of(site: SiteRecord) -> str:
    """Where the site's gateway answers, HOST:PORT; empty until it has said."""
    return site.report.gateway_address if site.report else ""


def open_door(
    work: Work,
    site: SiteRecord,
    *,
    act: str,
    target: str,
    path: str,
    limit: int = 0,
    holder: str = "",
    project: str = "",
) -> Door:
    """The site's door, for one act on one target, for as long as a ticket lives. `holder`: the token it is given for,
    where what is begun with it may last longer; `project`: the service's, which a deployer signs for."""
    expires = (work.now + work.rules.ticket_lifetime).replace(microsecond=0)
    ticket = Ticket(act=act, object=target, site=site.id, expires_at=expires, limit=limit, holder=holder)
    return Door(
        site=site.name,
        address=gateway_of(site),
        host=f"{DOOR_HOST}.{work.rules.base_domain}",
        path=path,
        ticket=write_ticket(work.key, ticket),
        installation=site.charter.installation,
        project=project,
        expires_at=expires,
    )
