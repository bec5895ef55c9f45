"""The committed OpenAPI document is the application's own; every route is in it, or is known not to be."""

from __future__ import annotations

from fastapi.routing import APIRoute

from kasbah.control.http import agent
from kasbah.control.http.application import make_application
from kasbah.control.openapi import DOCUMENT, render


def test_the_committed_document_is_the_application_s_own() -> None:
    assert render() == DOCUMENT.read_text(), "run python -m kasbah.control.openapi, and read what changed"


def test_every_operation_says_what_it_is_and_has_a_name_of_its_own() -> None:
    document = make_application().openapi()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    assert all(operation.get("description") for operation in operations)


def test_every_api_operation_answers_errors_in_our_shape_and_asks_for_a_token() -> None:
    document = make_application().openapi()
    for path, operations in document["paths"].items():
        if not path.startswith("/api/v1"):
            continue
        for operation in operations.values():
            error = operation["responses"]["4XX"]["content"]["application/json"]["schema"]
            assert error == {"$ref": "#/components/schemas/ErrorBody"}, path
            assert operation["security"] == [{"HTTPBearer": []}], path


def test_only_the_agent_s_side_is_left_out() -> None:
    hidden = {route.path for route in agent.router.routes if isinstance(route, APIRoute)}
    known = ("desired", "status", "still", "usage", "identity", "secrets/{secret}/{version}")
    assert hidden == {f"/agent/v1/{one}" for one in known}
    assert not hidden & make_application().openapi()["paths"].keys()
