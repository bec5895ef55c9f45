"""Opens a site's door for a service's logs, which never pass through here."""

from __future__ import annotations

from kasbah.api.public import Door
from kasbah.api.signing import READ_LOGS
from kasbah.control.store.records import TokenRecord
from kasbah.control.usecases.send_source import open_door
from kasbah.control.usecases.site_doors import site_of
from kasbah.control.usecases.work import Work, service_named


def read_logs(work: Work, caller: TokenRecord, project: str, name: str) -> Door:
    """The door at a site that runs the service."""
    service = service_named(work, project, name)
    site = site_of(work, service, without="it has no logs")
    work.journal.detail(service=service.id, site=site.name)
    path = f"/v1/services/{service.id}/logs"
    return open_door(work, site, act=READ_LOGS, target=service.id, path=path, holder=caller.id, project=service.project)
