"""Projects, their quotas and what these refuse, as they are shown."""

from __future__ import annotations

from collections.abc import Sequence

from kasbah.api import projects as shapes
from kasbah.api import public
from kasbah.control.store.records import Project
from kasbah.control.usecases.projects import ProjectSight
from kasbah.control.usecases.quotas import hint, reason
from kasbah.decide.quotas import Excess, Kind, boundless, use


def refusals(project: Project, refused: Sequence[Excess]) -> list[public.QuotaRefusal]:
    """The quotas that refuse something."""
    return [
        public.QuotaRefusal(quota=one.kind, reason=reason(project, one), hint=hint(project, one)) for one in refused
    ]


def project(sight: ProjectSight) -> shapes.ProjectView:
    """A project, its quota and its use."""
    quota, claims = sight.project.quota, sight.claims
    used = {kind: use(kind, claims).much for kind in Kind}
    return shapes.ProjectView(
        id=sight.project.id,
        name=sight.project.name,
        quota=shapes.QuotaView(
            services=quota.services, replicas=quota.replicas, cpu=quota.cpu, memory=quota.memory, disk=quota.disk
        ),
        use=shapes.ProjectUseView(
            services=int(used[Kind.SERVICES]),
            replicas=int(used[Kind.REPLICAS]),
            cpu=used[Kind.CPU],
            memory=int(used[Kind.MEMORY]),
            disk=int(used[Kind.DISK]),
            without_cpu_limit=list(boundless(Kind.CPU, claims)),
            without_memory_limit=list(boundless(Kind.MEMORY, claims)),
        ),
    )
