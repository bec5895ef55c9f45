"""Opens a site's door for a command inside a service's replica. What goes through it never passes here."""

from __future__ import annotations

import structlog

from kasbah.api.public import Door
from kasbah.api.signing import EXEC
from kasbah.control.store.records import TokenRecord
from kasbah.control.usecases.send_source import open_door
from kasbah.control.usecases.site_doors import site_of
from kasbah.control.usecases.work import Work, service_named

log = structlog.get_logger()


def run_command(work: Work, caller: TokenRecord, project: str, name: str, *, program: str) -> Door:
    """The door at a site that runs the service. Who asked, and for what program, is logged; arguments never are."""
    service = service_named(work, project, name)
    site = site_of(work, service, without="nothing can be run in it")
    log.info("exec", project=project, service=name, site=site.name, caller=caller.name, program=program)
    work.journal.detail(service=service.id, site=site.name, program=program)
    path = f"/v1/services/{service.id}/exec"
    return open_door(work, site, act=EXEC, target=service.id, path=path, holder=caller.id, project=service.project)
