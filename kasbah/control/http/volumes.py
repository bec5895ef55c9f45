"""The way to the volumes that lie at a site: the site itself lists and removes them."""

from __future__ import annotations

from typing import Annotated

from fastapi.responses import Response

from kasbah.api import public
from kasbah.api.signing import VOLUMES
from kasbah.control.http.call import Call, anywhere, may
from kasbah.control.http.routers import for_people
from kasbah.control.usecases.site_doors import open_site_door
from kasbah.domain.access import Action

router = for_people("")


@router.post("/sites/{name}/volumes-door", response_model=public.Door, tags=["doors"])
def open_volumes_door(name: str, call: Annotated[Call, may(Action.SITE_VOLUMES, anywhere)]) -> Response:
    """Where a site lists its volumes (GET `/v1/volumes`) and removes one that nobody uses (DELETE
    `/v1/volumes/SERVICE/NAME`), and the ticket for both."""
    return call.open(lambda work: open_site_door(work, name, act=VOLUMES, path="/v1/volumes"))
