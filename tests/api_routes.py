"""Every route of the API, for tests that must miss none."""

from __future__ import annotations

from fastapi.routing import APIRoute

from kasbah.control.http.application import make_application


def api_routes() -> dict[str, APIRoute]:
    """By method and path. Checked against the OpenAPI document, which lists what is served."""
    app = make_application()
    routes = [one for one in app.routes if isinstance(one, APIRoute)]
    found = {f"{method} {one.path}": one for one in routes for method in one.methods if one.path.startswith("/api/v1")}
    document = {
        f"{method.upper()} {path}"
        for path, operations in app.openapi()["paths"].items()
        for method in operations
        if path.startswith("/api/v1")
    }
    assert document
    assert document == found.keys()
    return found
