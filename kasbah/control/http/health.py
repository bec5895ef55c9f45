"""Is the control plane well? Without a token: the answers name no service and hold no secret."""

from __future__ import annotations

from typing import cast

from fastapi import Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST

from kasbah.control.http.call import office_of
from kasbah.control.http.routers import for_probes
from kasbah.control.metrics import Metrics
from kasbah.control.running import Running
from kasbah.control.usecases.describe import installation_of
from kasbah.errors import Unavailable

router = for_probes()


@router.get("/livez", response_class=Response)
def livez() -> Response:
    """The process answers."""
    return Response("ok\n", media_type="text/plain")


@router.get("/readyz", response_class=Response)
def readyz(request: Request) -> Response:
    """The store answers and every loop runs."""
    with office_of(request).read() as work:
        installation_of(work)
    stopped = cast(Running, request.app.state.running).stopped()
    if stopped:
        raise Unavailable(f"these loops do not run: {', '.join(stopped)}", hint="restart the control plane")
    return Response("ok\n", media_type="text/plain")


@router.get("/metrics", response_class=Response)
def metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    figures = cast(Metrics, request.app.state.metrics)
    return Response(figures.render(office_of(request)), media_type=CONTENT_TYPE_LATEST)
