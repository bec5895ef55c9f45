"""Opens a site's door for a source: where to send it, and a ticket that lets exactly this one in."""

from __future__ import annotations

from datetime import timedelta

from kasbah.api.public import Door
from kasbah.api.signing import Ticket, write_ticket
from kasbah.control.store.records import SiteRecord
from kasbah.control.usecases.sites import connected
from kasbah.control.usecases.work import Work
from kasbah.domain.ids import Digest
from kasbah.errors import TooLarge, Unavailable

DOOR_HOST = "kasbah"
"""The site's own door answers at this name below the base domain."""

ENVELOPE = 2**20
"""What compression may add to a bundle, and then some."""


def send_source(work: Work, digest: str, size: int) -> Door:
    """The door for a source of `size` bytes. Unavailable while no site can be reached."""
    most = work.rules.limits.source_bytes
    if size > most:
        raise TooLarge(f"the source is {size} bytes; {most} is the most", where="size")
    door = door_for(work, Digest(digest), size)
    if door is None:
        raise Unavailable(
            "no site can take the source now: none is connected",
            hint="look at the site's agent with `kasbah doctor`, and try again",
            code="no_site",
            retry_after=timedelta(seconds=2),
        )
    return door


def door_for(work: Work, digest: Digest, size: int) -> Door | None:
    """The door for a source at the first site that is there, or None."""
    for site in work.tx.sites.all():
        if connected(site, work.now) and gateway_of(site):
            return open_door(
                work, site, act="blob.put", target=digest, path=f"/v1/blobs/{digest}", limit=size + ENVELOPE
            )
    return None


def gateway_of(site: SiteRecord) -> str:
    """Where the site's gateway answers, HOST:PORT; empty until it has said."""
    return site.report.gateway_address if site.report else ""


def open_door(work: Work, site: SiteRecord, *, act: str, target: str, path: str, limit: int = 0) -> Door:
    """The site's door, for one act on one target, for as long as a ticket lives."""
    expires = (work.now + work.rules.ticket_lifetime).replace(microsecond=0)
    ticket = Ticket(act=act, object=target, site=site.id, expires_at=expires, limit=limit)
    return Door(
        address=gateway_of(site),
        host=f"{DOOR_HOST}.{work.rules.base_domain}",
        path=path,
        ticket=write_ticket(work.key, ticket),
        expires_at=expires,
    )
