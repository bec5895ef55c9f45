"""The installation, its sites, and what was served."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel

from kasbah.api import public
from kasbah.control import views
from kasbah.control.http import paging
from kasbah.control.http.call import Reader
from kasbah.control.http.services import Project
from kasbah.control.usecases.describe import installation_of, list_sites, list_usage
from kasbah.control.usecases.work import DEFAULT_PROJECT, Work

router = APIRouter(prefix="/api/v1")


@router.get("/installation", response_model=public.InstallationView, tags=["installation"])
def installation(call: Reader) -> Response:
    """Who answers here."""

    def look(work: Work) -> BaseModel:
        return views.installation(installation_of(work), work.rules.base_domain, work.tx.sites.all())

    return call.read(look)


@router.get("/sites", response_model=public.Page[public.SiteView], tags=["sites"])
def all_sites(call: Reader) -> Response:
    """Every site and what it reports of itself. There are few: always one page."""
    return call.read(lambda work: public.Page[public.SiteView](items=[views.site(one) for one in list_sites(work)]))


@router.get("/usage", response_model=public.Page[public.ServiceUsageView], tags=["usage"])
def all_usage(
    call: Reader, project: Project = DEFAULT_PROJECT, cursor: paging.After = None, limit: paging.Limit = 50
) -> Response:
    """One page of what each service has served since it exists, by the service's name."""

    def find(work: Work) -> BaseModel:
        found = list_usage(work, project, paging.read_cursor(cursor), limit + 1)
        page, following = paging.cut([service for service, _ in found], limit)
        items = [
            public.ServiceUsageView(service=service.name, project=project, **dict(views.usage(counted)))
            for service, counted in found[: len(page)]
        ]
        return public.Page[public.ServiceUsageView](items=items, next=following)

    return call.read(find)
