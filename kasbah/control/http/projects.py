"""Projects: list, make, show, delete, and their quotas."""

from __future__ import annotations

from typing import Annotated

from fastapi.responses import Response
from pydantic import BaseModel

from kasbah.api import projects as shapes
from kasbah.api import public
from kasbah.control import project_views
from kasbah.control.http import paging
from kasbah.control.http.call import Call, anywhere, may, the_project
from kasbah.control.http.routers import for_people
from kasbah.control.usecases.projects import (
    create_project,
    delete_project,
    describe_project,
    list_projects,
    set_quota,
)
from kasbah.control.usecases.work import Work
from kasbah.domain.access import Action

router = for_people("/projects", "projects")


@router.get("", response_model=public.Page[shapes.ProjectView])
def all_projects(
    call: Annotated[Call, may(Action.PROJECT_READ, anywhere)], cursor: paging.After = None, limit: paging.Limit = 50
) -> Response:
    """One page of projects, by name, each with its quota and use."""

    def find(work: Work) -> BaseModel:
        seen = list_projects(work, call.caller, paging.read_cursor(cursor), limit + 1)
        page, following = paging.cut([one.project for one in seen], limit)
        items = [project_views.project(one) for one in seen[: len(page)]]
        return public.Page[shapes.ProjectView](items=items, next=following)

    return call.read(find)


@router.post("", status_code=201, response_model=shapes.ProjectView)
def make_project(body: shapes.ProjectRequest, call: Annotated[Call, may(Action.PROJECT_CREATE, anywhere)]) -> Response:
    """Make a project."""
    return call.write(lambda work: project_views.project(create_project(work, body.name)), status=201)


@router.get("/{name}", response_model=shapes.ProjectView)
def show_project(name: str, call: Annotated[Call, may(Action.PROJECT_READ, the_project)]) -> Response:
    """A project, with its quota and use."""
    return call.read(lambda work: project_views.project(describe_project(work, name)))


@router.post("/{name}/quota", response_model=shapes.ProjectView)
def limit_project(
    name: str, body: shapes.QuotaRequest, call: Annotated[Call, may(Action.PROJECT_QUOTA, anywhere)]
) -> Response:
    """Set limits on what a project may have."""
    return call.write(lambda work: project_views.project(set_quota(work, name, body)))


@router.delete("/{name}", status_code=204)
def remove_project(name: str, call: Annotated[Call, may(Action.PROJECT_DELETE, anywhere)]) -> Response:
    """Delete a project that has no services. Its keys open nothing any more."""
    return call.write(lambda work: delete_project(work, name), status=204)
