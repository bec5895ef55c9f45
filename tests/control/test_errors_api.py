"""Every error has one shape, names the field at fault, and says what to do next."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from installed import Installed, request

from kasbah.api.public import ErrorBody

SERVICE = "/services/web"
LONG = "x" * (9 * 2**20)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "param", "words"),
    [
        ("GET", "/nothing", None, 404, "not_found", None, "/api/v1/nothing"),
        ("PUT", "/services", None, 405, "method_not_allowed", None, "PUT"),
        ("GET", SERVICE, None, 404, "service_not_found", None, "'web'"),
        ("GET", "/rollouts/ro-none", None, 404, "not_found", None, "'ro-none'"),
        ("GET", "/services?limit=500", None, 400, "invalid", "limit", "200"),
        ("GET", "/services?limt=5", None, 400, "unknown_key", "limt", "'limit'"),
        ("GET", "/services?cursor=%21", None, 400, "invalid", "cursor", "next"),
        ("GET", "/services?project=other", None, 404, "project_not_found", None, "'other'"),
        ("GET", SERVICE + "?after=1&wait=31", None, 400, "invalid", "wait", "30"),
        ("POST", SERVICE + "/scale", "{", 400, "not_json", None, "JSON"),
        ("POST", SERVICE + "/scale", "[1]", 400, "invalid", None, "the body"),
        ("POST", SERVICE + "/scale", {"min": "many"}, 400, "invalid", "min", "integer"),
        ("POST", SERVICE + "/sleep", {"rung": "deep"}, 400, "invalid", "rung", "pattern"),
        ("POST", SERVICE + "/deploys", {"source": "x"}, 400, "missing", "config", "missing"),
        ("POST", SERVICE + "/deploys", request(healt={}), 400, "unknown_key", "config.healt", "'health'"),
        (
            "POST",
            SERVICE + "/deploys",
            request(health={"startup": {"pth": "/"}}),
            400,
            "unknown_key",
            "config.health.startup.pth",
            "'path'",
        ),
        (
            "POST",
            SERVICE + "/deploys",
            request(health={"readiness": {"prd": "1s"}}),
            400,
            "unknown_key",
            "config.health.readiness.prd",
            "'period'",
        ),
        ("POST", SERVICE + "/deploys", request(source="sha256:1"), 400, "invalid", "source", "pattern"),
        ("POST", SERVICE + "/deploys", request(env={"PORT": "1"}), 400, "invalid", "config", "another name"),
        ("POST", SERVICE + "/deploys", request(image="nginx"), 400, "no_container_driver", "config.image", "source"),
        ("POST", SERVICE + "/deploys", request(scaling={"min": 3}), 400, "invalid", "config.scaling", "above max"),
        ("POST", "/services/Not_A_Name/deploys", request(), 400, "invalid_name", "name", "lower-case"),
        ("POST", "/services/kasbah/deploys", request(), 400, "invalid_name", "name", "reserved"),
        ("POST", SERVICE + "/deploys", {**request(), "source_size": 2**40}, 413, "too_large", "source_size", "ignore"),
        ("POST", SERVICE + "/scale", f'{{"min": "{LONG}"}}', 413, "too_large", None, "8 MiB"),
        ("DELETE", "/keys/nobody", None, 404, "not_found", None, "'nobody'"),
    ],
)
async def test_what_is_wrong_where_and_the_next_step(
    installed: Installed, method, path, body, status, code, param, words
) -> None:
    content = {"content": body} if isinstance(body, str) else {"json": body} if body is not None else {}
    answer = await installed.api.request(method, path, **content, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    error = ErrorBody.model_validate_json(answer.content).error
    assert (error.code, error.param) == (code, param)
    assert words in error.message + error.hint
    assert error.hint or code == "method_not_allowed"
    assert error.request_id == answer.headers["x-request-id"]


async def test_a_body_that_does_not_say_it_is_json_is_told_so(installed: Installed) -> None:
    answer = await installed.api.post("/services/web/scale", data={"max": "2"})
    assert answer.status_code == 400
    assert "content-type: application/json" in answer.json()["error"]["hint"]


async def test_a_decent_request_id_is_taken_and_another_is_replaced(installed: Installed) -> None:
    answer = await installed.api.get("/services", headers={"x-request-id": "my-own:1.2"})
    assert answer.headers["x-request-id"] == "my-own:1.2"
    answer = await installed.api.get("/services/none", headers={"x-request-id": 'bad "id"'})
    assert re.fullmatch(r"rq-[0-9a-f]{16}", answer.headers["x-request-id"])
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]


async def test_a_body_that_is_larger_than_it_said_is_refused(installed: Installed) -> None:
    async def pieces():
        for _ in range(10):
            yield b"x" * 2**20

    answer = await installed.api.post("/services/web/scale", content=pieces())
    assert answer.status_code == 413


async def test_our_own_bugs_are_told_by_their_id_alone(installed: Installed, capsys: pytest.CaptureFixture) -> None:
    with installed.control.office.store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE site SET state = 'moon'")
    answer = await installed.api.get("/sites")
    error = ErrorBody.model_validate_json(answer.content).error
    assert (answer.status_code, error.code, error.type) == (500, "internal", "server_error")
    assert answer.headers["x-request-id"] == error.request_id
    assert error.request_id in error.hint
    assert "moon" not in answer.text
    assert "moon" in capsys.readouterr().out


async def test_whoever_leaves_in_the_middle_of_a_body_is_no_bug(
    installed: Installed, capsys: pytest.CaptureFixture
) -> None:
    headers = [(name.encode(), value.encode()) for name, value in installed.agent.headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/agent/v1/status", "query_string": b"", "http_version": "1.1"}
    heard: list[Any] = [
        {"type": "http.request", "body": b'{"services": [', "more_body": True},
        {"type": "http.disconnect"},
    ]
    said: list[Any] = []

    async def receive() -> Any:
        return heard.pop(0)

    async def send(message: Any) -> None:
        said.append(message)

    await installed.control.app({**scope, "headers": headers}, receive, send)
    assert said[0]["status"] == 499
    assert "request failed" not in capsys.readouterr().out


async def test_a_cursor_that_no_store_can_look_for_is_refused(installed: Installed) -> None:
    cursor = base64.urlsafe_b64encode(b'["\\ud800", "x"]').decode()
    for path in ("/services", "/keys", "/tokens", "/projects", "/secrets"):
        answer = await installed.api.get(path, params={"cursor": cursor})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "cursor")


async def test_methods_that_callers_make_up_are_one_figure(installed: Installed) -> None:
    for number in range(3):
        await installed.api.request(f"BREW{number}", "/services")
    figures = (await installed.agent.client.get("/metrics")).text
    assert "BREW" not in figures
    assert 'method="other"' in figures


async def test_a_megabyte_for_a_duration_is_refused_at_once(installed: Installed) -> None:
    body = request(sleep={"freeze_after": "9" * 1_000_000})
    answer = await installed.api.post(SERVICE + "/deploys", json=body)
    assert (answer.status_code, len(answer.content) < 1_000) == (400, True)
