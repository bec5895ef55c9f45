"""The committed OpenAPI document is the application's own; every route is in it, or is known not to be."""

from __future__ import annotations

import re
from typing import ClassVar

from access_table import LATER, ROUTES
from api_routes import api_routes
from fastapi.routing import APIRoute

from kasbah.control.http import agent
from kasbah.control.http.application import make_application
from kasbah.control.http.call import declared
from kasbah.control.openapi import DOCUMENT, render
from kasbah.domain.access import ABOUT, About, Action


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


def test_every_route_declares_its_one_action_and_what_that_is_about() -> None:
    found = {}
    for label, route in api_routes().items():
        (one,) = declared(route)  # none would be open to all, and two would hide one
        found[label.replace("/api/v1", "")] = one.action.value
        about = one.target(AnyRequest(label))  # type: ignore[arg-type]
        names = {name for name in ("service", "rollout", "token") if getattr(about, name) is not None}
        assert names or "{name}" not in label or ABOUT[one.action] is not About.SERVICE, label
    assert found == ROUTES
    assert {action.value for action in Action} - set(found.values()) == LATER


class AnyRequest:
    """A request that names whatever its path has a place for."""

    query_params: ClassVar[dict[str, str]] = {}

    def __init__(self, label: str) -> None:
        self.path_params = dict.fromkeys(re.findall(r"{(\w+)}", label), "x")


def test_only_the_agent_s_side_is_left_out() -> None:
    hidden = {route.path for route in agent.router.routes if isinstance(route, APIRoute)}
    known = (
        "desired",
        "status",
        "still",
        "usage",
        "audit",
        "visitors",
        "identity",
        "lawbooks/{version}",
        "secrets/{secret}/{version}",
    )
    assert hidden == {f"/agent/v1/{one}" for one in known}
    assert not hidden & make_application().openapi()["paths"].keys()
