"""Opens a site's door for a service's logs, which never pass through here."""

from __future__ import annotations

from datetime import timedelta

from kasbah.api.public import Door
from kasbah.control.usecases.send_source import gateway_of, open_door
from kasbah.control.usecases.work import Work, service_named
from kasbah.errors import Unavailable


def read_logs(work: Work, project: str, name: str) -> Door:
    """The door at a site that runs the service."""
    service = service_named(work, project, name)
    chosen = service.placement.chosen if service.placement else ()
    for site in work.tx.sites.all():
        if site.id in chosen and gateway_of(site):
            return open_door(work, site, act="logs.read", target=service.id, path=f"/v1/services/{service.id}/logs")
    raise Unavailable(
        f"service {name!r} runs at no site yet, so it has no logs",
        hint=f"see what it waits for: kasbah describe {name}",
        code="not_placed",
        retry_after=timedelta(seconds=2),
    )
