"""Changes how many replicas a service may have. No new revision, no rollout."""

from __future__ import annotations

from dataclasses import replace

from kasbah.api.public import ScaleRequest
from kasbah.control.store.records import ServiceRecord
from kasbah.control.usecases.quotas import allow
from kasbah.control.usecases.work import Work, check_version, save_service, service_named
from kasbah.domain.revision import Revision
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
    alone = _alone(work, service)
    if alone is not None and new.max > 1:
        port = alone.port
        raise Invalid(
            f"{name} listens on the fixed port {port}, so only one replica can run"
            if port is not None
            else f"{name} has a volume ({alone.volumes[0].name}), which is one replica's at a time",
            where="max",
            hint="remove port from kasbah.yaml, listen on PORT, and deploy again"
            if port is not None
            else "keep what all replicas share in a database, remove the volume from kasbah.yaml, and deploy again",
        )
    scaled = replace(service, scaling=new)
    work.journal.detail(service=service.id, min=new.min, max=new.max)
    allow(work, scaled)
    return save_service(work, scaled)


def _alone(work: Work, service: ServiceRecord) -> Revision | None:
    """A revision with traffic or under trial that insists on being run once."""
    used = (one.contents for one in work.tx.revisions.of(service.id) if one.id in service.in_use)
    return next((one for one in used if one.alone), None)
