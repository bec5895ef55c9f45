"""The installation, its sites, and what was served."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from fastapi.responses import Response
from pydantic import BaseModel

from kasbah.api import public
from kasbah.api.policy import ForeseenView
from kasbah.api.sites import (
    CharterAnswer,
    CharterRequest,
    DrainRequest,
    SignedCharter,
    SitesAnswer,
    SitesPlanRequest,
    SitesRequest,
    SiteView,
)
from kasbah.control import law_views, site_views, views
from kasbah.control.http import paging
from kasbah.control.http.call import Call, anywhere, may, project_asked
from kasbah.control.http.routers import for_people
from kasbah.control.http.services import Project
from kasbah.control.usecases.declare_site import (
    Declaration,
    charter_of,
    declare_site,
    declare_sites,
    plan_sites,
)
from kasbah.control.usecases.describe import installation_of, list_sites, list_usage, see_site
from kasbah.control.usecases.retire_site import drain, remove
from kasbah.control.usecases.sites import site_named
from kasbah.control.usecases.work import DEFAULT_PROJECT, Work
from kasbah.domain.access import Action
from kasbah.domain.charter import Signed
from kasbah.errors import Invalid

router = for_people("")


@router.get("/installation", response_model=public.InstallationView, tags=["installation"])
def installation(call: Annotated[Call, may(Action.INSTALLATION_READ, anywhere)]) -> Response:
    """Who answers here."""

    def look(work: Work) -> BaseModel:
        return views.installation(installation_of(work), work.rules.base_domain, work.tx.sites.all())

    return call.read(look)


@router.get("/sites", response_model=public.Page[SiteView], tags=["sites"])
def all_sites(
    call: Annotated[Call, may(Action.SITE_READ, anywhere)], cursor: paging.After = None, limit: paging.Limit = 50
) -> Response:
    """One page of sites, by name: what their owner says of them, and what they report."""

    def find(work: Work) -> BaseModel:
        found = list_sites(work, paging.read_cursor(cursor), limit + 1)
        _, following = paging.cut([sight.site for sight in found], limit)
        return public.Page[SiteView](items=[site_views.site(one) for one in found[:limit]], next=following)

    return call.read(find)


@router.get("/sites/{site}", response_model=SiteView, tags=["sites"])
def one_site(call: Annotated[Call, may(Action.SITE_READ, anywhere)], site: str) -> Response:
    """A site: what its owner says of it, and what it reports."""
    return call.read(lambda work: site_views.site(see_site(work, site_named(work, site))))


@router.get("/sites/{site}/charter", response_model=SignedCharter, tags=["sites"])
def charter(call: Annotated[Call, may(Action.SITE_READ, anywhere)], site: str) -> Response:
    """What the installation's owner says of a site, as it was signed; unsigned where nobody has signed it yet."""

    def look(work: Work) -> BaseModel:
        signed = charter_of(site_named(work, site))
        return SignedCharter(document=signed.document, signature=signed.signature)

    return call.read(look)


@router.post("/sites/plan", response_model=ForeseenView, tags=["sites"])
def plan(call: Annotated[Call, may(Action.POLICY_READ, anywhere)], request: SitesPlanRequest) -> Response:
    """What would change if this were said of sites; nothing does."""
    return call.read(lambda work: law_views.foreseen(*plan_sites(work, request.documents)))


@router.put("/sites", response_model=SitesAnswer, tags=["sites"])
def declare_all(call: Annotated[Call, may(Action.SITE_DECLARE, anywhere)], request: SitesRequest) -> Response:
    """Take what the installation's owner says of sites, as the owner signed it: all of it, or nothing."""

    def take(work: Work) -> BaseModel:
        said = {one.name: Signed(document=one.document, signature=one.signature) for one in request.charters}
        if len(said) < len(request.charters):
            raise Invalid("a site is named twice", where="charters", hint="say it once")
        work.journal.detail(sites=", ".join(said))
        made = declare_sites(work, said, even_so=request.even_so)
        return SitesAnswer(sites=[_declared(work, one) for one in made])

    return call.write(take)


@router.put("/sites/{site}", response_model=CharterAnswer, tags=["sites"])
def declare(call: Annotated[Call, may(Action.SITE_DECLARE, anywhere)], site: str, request: CharterRequest) -> Response:
    """Take what the installation's owner says of a site, as the owner signed it."""

    def take(work: Work) -> BaseModel:
        signed = Signed(document=request.document, signature=request.signature)
        return _declared(work, declare_site(work, site, signed, even_so=request.even_so))

    return call.write(take)


def _declared(work: Work, made: Declaration) -> CharterAnswer:
    return CharterAnswer(outcome=made.outcome.value, site=site_views.site(see_site(work, made.site)))


@router.post("/sites/{site}/drain", response_model=SiteView, tags=["sites"])
def drain_site(call: Annotated[Call, may(Action.SITE_DRAIN, anywhere)], site: str, request: DrainRequest) -> Response:
    """Have a site give away what it runs and take nothing new; `undo` gives it back."""
    return call.write(lambda work: site_views.site(see_site(work, drain(work, site, undo=request.undo))))


@router.delete("/sites/{site}", status_code=204, tags=["sites"])
def remove_site(
    call: Annotated[Call, may(Action.SITE_DECLARE, anywhere)],
    site: str,
    force: Annotated[bool, Query(description="Remove it although services run there, or call it.")] = False,
) -> Response:
    """Remove a site for good."""

    def act(work: Work) -> None:
        remove(work, site, force=force)

    return call.write(act, status=204)


@router.get("/usage", response_model=public.Page[public.ServiceUsageView], tags=["usage"])
def all_usage(
    call: Annotated[Call, may(Action.SERVICE_USAGE, project_asked)],
    project: Project = DEFAULT_PROJECT,
    cursor: paging.After = None,
    limit: paging.Limit = 50,
) -> Response:
    """One page of what each service has served since it exists, by the service's name."""

    def find(work: Work) -> BaseModel:
        found = list_usage(work, call.caller, project, paging.read_cursor(cursor), limit + 1)
        page, following = paging.cut([service for service, _ in found], limit)
        items = [
            public.ServiceUsageView(service=service.name, project=project, **dict(views.usage(counted)))
            for service, counted in found[: len(page)]
        ]
        return public.Page[public.ServiceUsageView](items=items, next=following)

    return call.read(find)
