"""Freeing what is kept and not needed: here, and through sites' doors."""

from __future__ import annotations

from typing import Annotated

from fastapi.responses import Response
from pydantic import BaseModel

from kasbah.api import projects as shapes
from kasbah.api import public
from kasbah.api.signing import FREE
from kasbah.control.http.call import Call, anywhere, may
from kasbah.control.http.routers import for_people
from kasbah.control.usecases.free import free
from kasbah.control.usecases.site_doors import open_site_door
from kasbah.control.usecases.work import Work
from kasbah.domain.access import Action

router = for_people("")


@router.post("/gc", response_model=shapes.SpaceView, tags=["installation"])
def free_here(
    call: Annotated[Call, may(Action.INSTALLATION_GC, anywhere)], body: shapes.FreeRequest | None = None
) -> Response:
    """Drop revisions that are not needed. Sites remove what was made from them when asked, or by themselves."""
    asked = body or shapes.FreeRequest()

    def act(work: Work) -> BaseModel:
        found = free(work, keep=asked.keep, dry_run=asked.dry_run)
        return shapes.SpaceView(kind="revisions", count=found.kept, bytes=None, freed=found.gone, freed_bytes=None)

    return call.read(act) if asked.dry_run else call.write(act)


@router.post("/sites/{name}/gc-door", response_model=public.Door, tags=["doors"])
def open_free_door(name: str, call: Annotated[Call, may(Action.SITE_GC, anywhere)]) -> Response:
    """Where a site says what it keeps (GET `/v1/gc`) and removes what it does not need (POST there), and the ticket for
    both."""
    return call.open(lambda work: open_site_door(work, name, act=FREE, path="/v1/gc"))
