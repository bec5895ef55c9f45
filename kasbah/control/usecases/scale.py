"""Changes how many replicas a service may have. No new revision, no rollout."""

from __future__ import annotations

from dataclasses import replace

from kasbah.api.public import ScaleRequest
from kasbah.control.store.records import ServiceRecord
from kasbah.control.usecases.quotas import allow
from kasbah.control.usecases.work import Work, check_version, save_service, service_named
from kasbah.errors import Invalid


def scale(work: Work, project: str, name: str, request: ScaleRequest) -> ServiceRecord:
    """Give the service new bounds; those that are missing stay."""
    service = service_named(work, project, name)
    check_version(service, request.expected_version)
    old = service.scaling
    new = replace(
        old,
        min=old.min if request.min is None else request.min,
        max=old.max if request.max is None else request.max,
    )
    if new == old:
        return service
    if new.min > new.max:
        raise Invalid(
            f"min ({new.min}) is above max ({new.max})",
            where="min" if request.min is not None else "max",
            hint="give both bounds, min not above max",
        )
    port = _fixed_port(work, service)
    if port is not None and new.max > 1:
        raise Invalid(
            f"{name} listens on the fixed port {port}, so only one replica can run",
            where="max",
            hint="remove port from kasbah.yaml, listen on PORT, and deploy again",
        )
    scaled = replace(service, scaling=new)
    allow(work, scaled)
    return save_service(work, scaled)


def _fixed_port(work: Work, service: ServiceRecord) -> int | None:
    """The port that a revision with traffic or under trial insists on."""
    ports = (one.contents.port for one in work.tx.revisions.of(service.id) if one.id in service.in_use)
    return next((port for port in ports if port is not None), None)
