"""Deletes a service. Sites end its replicas once their desired state no longer has it; its name is free at once.

Its row, and what was counted of it, stay for the ledgers that name its id.
"""

from __future__ import annotations

from dataclasses import replace

from kasbah.control.usecases.supersede import end
from kasbah.control.usecases.work import Work, check_version, save_service, service_named


def delete(work: Work, project: str, name: str, expected_version: int | None) -> None:
    """Take the service out of every desired state."""
    service = service_named(work, project, name)
    check_version(service, expected_version)
    for rollout in work.tx.rollouts.last((service.id,)):
        if not rollout.state.ended:
            end(work, rollout, "the service was deleted")
    work.journal.detail(service=service.id)
    work.tx.reports.drop(service.id)
    save_service(work, replace(service, deleted_at=work.now, trial=None))
