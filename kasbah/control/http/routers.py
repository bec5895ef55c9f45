"""Routers whose routes are complete as they are written: with the answers that every route may give, and their names.

The application takes the routes themselves and includes no router. An included router makes each of its routes once
more, for every application and at its first request, and each request then looks for its route twice.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute

from kasbah.api.public import ErrorBody

RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "What is wrong, where, and the next step."},
    "5XX": {"model": ErrorBody, "description": "Not now, or our bug."},
}


def for_people(prefix: str, *tags: str) -> APIRouter:
    """A router of the API that people and programs use, below `/api/v1`."""
    return APIRouter(
        prefix=f"/api/v1{prefix}", tags=[*tags] or None, responses=RESPONSES, generate_unique_id_function=_operation
    )


def for_agents() -> APIRouter:
    """A router of what sites' agents say; in no document."""
    return APIRouter(prefix="/agent/v1", include_in_schema=False, generate_unique_id_function=_operation)


def for_probes() -> APIRouter:
    """A router of what asks whether the process is well."""
    return APIRouter(tags=["health"], generate_unique_id_function=_operation)


def _operation(route: APIRoute) -> str:
    """Operations are named after their functions, which says what they do."""
    return route.name
