"""Makes, shows and deletes projects, and sets their quotas."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kasbah.api.projects import QuotaRequest
from kasbah.control.store.interface import Cursor
from kasbah.control.store.records import Project, TokenRecord
from kasbah.control.usecases.permit import holds, visible
from kasbah.control.usecases.quotas import amount, claims, used_in_words
from kasbah.control.usecases.work import DEFAULT_PROJECT, Work, new_id, project_named
from kasbah.decide.quotas import Amount, Claim, Kind, exceeds
from kasbah.domain.access import Action
from kasbah.domain.ids import ProjectId
from kasbah.domain.service import name_error
from kasbah.errors import Conflict, Invalid

NAMED = 5
EVERY = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectSight:
    """A project, and what each of its services claims."""

    project: Project
    claims: tuple[Claim, ...]


def create_project(work: Work, name: str) -> ProjectSight:
    """A new project, without services, keys and limits."""
    if (problem := name_error(name)) is not None:
        raise Invalid(problem, where="name", code="invalid_name")
    if any(one.name == name for one in work.tx.installations.projects()):
        raise Conflict(
            f"there is a project {name!r} already",
            hint="use it with --project, or choose another name",
            code="name_taken",
        )
    made = Project(id=ProjectId(new_id("project")), name=name)
    work.tx.installations.add_project(made)
    return ProjectSight(project=made, claims=())


def list_projects(work: Work, caller: TokenRecord, after: Cursor | None, limit: int) -> tuple[ProjectSight, ...]:
    """One page of the projects that the caller may see."""

    def seen(project: Project) -> bool:
        return holds(work, caller, Action.PROJECT_READ, project.id)

    return tuple(_see(work, one) for one in visible(work.tx.installations.page_of_projects, seen, after, limit))


def describe_project(work: Work, name: str) -> ProjectSight:
    """A project, with its quota and use."""
    return _see(work, project_named(work.tx, name))


def delete_project(work: Work, name: str) -> None:
    """Delete a project that has no services. Its keys open nothing any more, its secrets go, and its name is free."""
    project = project_named(work.tx, name)
    if name == DEFAULT_PROJECT:
        raise Conflict(
            f"the project {name!r} is there for whoever names none, and stays",
            hint="delete its services instead",
            code="default_project",
        )
    services = [one.name for one in work.tx.services.page(project.id, None, NAMED + 1)]
    if services:
        told = ", ".join(services[:NAMED]) + (" and more" if len(services) > NAMED else "")
        raise Conflict(
            f"project {name!r} has services: {told}",
            hint=f"delete them first: kasbah delete {services[0]} --project {name}",
            code="project_not_empty",
        )
    for key in work.tx.keys.all():
        if key.project == project.id:
            work.tx.keys.save(replace(key, revoked_at=work.now))
    for secret in work.tx.secrets.page(project.id, None, EVERY):
        work.tx.secrets.put(replace(secret, deleted_at=work.now))
    work.tx.installations.save_project(replace(project, name=project.id, deleted_at=work.now))


def set_quota(work: Work, name: str, request: QuotaRequest) -> ProjectSight:
    """Set the limits that are named. One below what is used is refused, unless `force`: then nothing can grow."""
    seen = _see(work, project_named(work.tx, name))
    asked = {kind: getattr(request, kind) for kind in Kind if kind in request.model_fields_set}
    limited = replace(seen.project, quota=replace(seen.project.quota, **asked))
    below = [one for one in exceeds(limited.quota, (), seen.claims) if one.kind in asked]
    if below and not request.force:
        first = below[0]
        raise Conflict(
            f"project {name!r} uses more than {amount(first.kind, Amount(much=first.limit))}: {used_in_words(below)}",
            hint="lower what it uses first, or force it (--force): what runs goes on then, and nothing can grow",
            code="quota_below_use",
            where=first.kind,
        )
    limits = ", ".join(f"{kind.value} {limit}" for kind, limit in asked.items())
    work.journal.detail(limits=limits, forced="yes" if below else None)
    work.tx.installations.save_project(limited)
    return replace(seen, project=limited)


def _see(work: Work, project: Project) -> ProjectSight:
    return ProjectSight(project=project, claims=tuple(claims(work, project.id).values()))
