"""The application: every route, every error's answer, and what the OpenAPI document says of them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from kasbah import __version__
from kasbah.api.public import ErrorBody
from kasbah.control.http import agent, errors, gc, health, keys, projects, rollouts, secrets, services, sites

RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "What is wrong, where, and the next step."},
    "5XX": {"model": ErrorBody, "description": "Not now, or our bug."},
}


def make_application() -> FastAPI:
    """The application, without what it works for (`app.state`)."""
    app = FastAPI(
        title="Kasbah",
        summary="The AI cloud you own.",
        version=__version__,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_operation,
        redirect_slashes=False,
    )
    for part in (sites, services, rollouts, projects, secrets, keys, gc):
        app.include_router(part.router, responses=RESPONSES)
    app.include_router(health.router)
    app.include_router(agent.router)
    errors.install(app)
    return app


def _operation(route: APIRoute) -> str:
    """Operations are named after their functions, which says what they do."""
    return route.name
