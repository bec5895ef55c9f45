"""The application: every route, every error's answer, and what the OpenAPI document says of them."""

from __future__ import annotations

from fastapi import FastAPI

from kasbah import __version__
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


def make_application() -> FastAPI:
    """The application, without what it works for (`app.state`)."""
    app = FastAPI(
        title="Kasbah",
        summary="The AI cloud you own.",
        version=__version__,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for part in (sites, services, rollouts, projects, secrets, keys, policy, audit, gc, volumes):
        app.router.routes.extend(part.router.routes)
    for router in (joining.people, health.router, agent.router, joining.agents):
        app.router.routes.extend(router.routes)
    errors.install(app)
    return app
