"""The API as its OpenAPI document describes it, asked what fits the document and what does not.

Every answer keeps the document's promise: a status and a body that it names, errors in our shape, and no bug of ours.
A few examples of each operation at every run, always the same; EXAMPLES=N for more of them, and new ones (`make fuzz`).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from kasbah.api.public import ErrorBody
from kasbah.clock import ManualClock
from kasbah.control.app import Control, build
from kasbah.settings import ControlSettings

START = datetime(2026, 3, 1, tzinfo=UTC)
DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "reference" / "openapi.json").read_text())
OPERATIONS = {one.ok().label: one.ok() for one in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()}
EXAMPLES = int(os.environ.get("EXAMPLES", "0"))
LARGE = {"POST /api/v1/services/{name}/deploys", "POST /api/v1/services/{name}/plan"}
"""Their bodies take seconds to make."""
WAITING = {"after", "wait"}
"""Long polls are left out: an example may wait for half a minute."""


class Asked:
    """A control plane, asked in this process."""

    def __init__(self, control: Control) -> None:
        self._transport = httpx.ASGITransport(app=control.asgi, raise_app_exceptions=False)
        self._token = control.folder.admin_token.read_text().strip()
        self._loop = asyncio.new_event_loop()

    def ask(self, case: Any, token: str | None) -> httpx.Response:
        return self._loop.run_until_complete(self._ask(case, self._token if token is None else token))

    async def _ask(self, case: Any, token: str) -> httpx.Response:
        given = case.as_transport_kwargs(base_url="http://api")
        headers = {name: value for name, value in (given["headers"] or {}).items() if name.lower() != "authorization"}
        headers = {name: value for name, value in headers.items() if value.isascii()}
        body = {"json": given["json"]} if "json" in given else {"content": given.get("data") or b""}
        async with httpx.AsyncClient(transport=self._transport) as client:
            return await client.request(
                given["method"],
                given["url"],
                params=given.get("params"),
                headers={**headers, "authorization": f"Bearer {token}"},
                timeout=20,
                **body,
            )

    def close(self) -> None:
        self._loop.close()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    settings = ControlSettings(data_dir=tmp_path_factory.mktemp("api"), country="MA")
    control = build(settings, ManualClock(START))
    asked = Asked(control)
    yield asked
    asked.close()
    control.close()


def modes(label: str) -> list[GenerationMode]:
    """What can be made for an operation: one that takes nothing cannot be asked wrongly."""
    takes_nothing = not DOCUMENT["paths"][label.split()[1]][label.split()[0].lower()].get("parameters")
    return [GenerationMode.POSITIVE] if takes_nothing else [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]


@pytest.mark.parametrize("label", [one for one in OPERATIONS if one.split()[1] not in ("/metrics", "/readyz")])
def test_answers_as_its_document_says(api: Asked, label: str) -> None:
    for mode in modes(label):

        @settings(
            max_examples=EXAMPLES or (1 if label in LARGE else 3),
            derandomize=not EXAMPLES,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
        def keeps_its_promise(case: Any) -> None:
            if WAITING & set(case.query or {}):
                return
            check(case, api.ask(case, None))
            check(case, refused := api.ask(case, "kst_nobody"))
            assert refused.is_client_error or not case.operation.path.startswith("/api/")

        keeps_its_promise()


def check(case: Any, answer: httpx.Response) -> None:
    assert answer.status_code < 500 or answer.status_code == 503, (
        f"{answer.request.method} {answer.request.url}: {answer.text}"
    )
    if answer.is_error:
        error = ErrorBody.model_validate_json(answer.content).error
        assert error.code != "internal"
        assert error.request_id == answer.headers["x-request-id"]
    case.validate_response(answer, checks=[response_schema_conformance, content_type_conformance])
