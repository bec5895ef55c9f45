"""The application: every route, every error's answer, and what the OpenAPI document says of them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from kasbah import __version__
from kasbah.api.public import ErrorBody
from kasbah.control.http import (
    agent,
    audit,
    errors,
    gc,
    health,
    joining,
    keys,
    policy,
    projects,
    rollouts,
    secrets,
    services,
    sites,
    volumes,
)

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
    for part in (sites, services, rollouts, projects, secrets, keys, policy, audit, gc, volumes):
        app.include_router(part.router, responses=RESPONSES)
    app.include_router(joining.people, responses=RESPONSES)
    app.include_router(health.router)
    app.include_router(agent.router)
    app.include_router(joining.agents)
    errors.install(app)
    return app


def _operation(route: APIRoute) -> str:
    """Operations are named after their functions, which says what they do."""
    return route.name
