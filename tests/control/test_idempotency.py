"""A write under an Idempotency-Key happens once, however often it is sent."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from installed import Installed, request

from kasbah.control.loops.tidy import Tidy

ONCE = {"idempotency-key": "once"}


async def test_the_same_deploy_again_gets_the_same_answer_and_a_fresh_ticket(installed: Installed) -> None:
    await installed.agent.report()
    body = {**request(data={"level": "internal"}), "attested": None}  # a signature says when it was made
    first = await installed.api.post("/services/web/deploys", json=body, headers=ONCE)
    installed.clock.advance(timedelta(seconds=5))
    again = await installed.api.post("/services/web/deploys", json=body, headers=ONCE)
    assert (first.status_code, again.status_code) == (202, 202)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    one, two = first.json(), again.json()
    assert one.pop("uploads")[0]["ticket"] != two.pop("uploads")[0]["ticket"]
    assert one == two
    assert one["created"] is True


async def test_an_order_is_given_once(installed: Installed) -> None:
    await installed.serving()
    answers = await asyncio.gather(*(installed.api.post("/services/web/wake", headers=ONCE) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    service = await installed.agent.service("web")
    assert service.order is not None
    assert service.order.number == 1


async def test_a_deletion_is_answered_again(installed: Installed) -> None:
    await installed.deploy()
    for _ in range(2):
        answer = await installed.api.delete("/services/web", headers=ONCE)
        assert (answer.status_code, answer.content) == (204, b"")
    assert (await installed.api.delete("/services/web")).status_code == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [("/keys", {"name": "a"}), ("/tokens", {"name": "a", "grants": [{"role": "auditor"}]})],
    ids=["key", "token"],
)
async def test_a_secret_is_shown_once(installed: Installed, path: str, body: dict[str, object]) -> None:
    await installed.post(path, body, status=201, **ONCE)
    again = await installed.post(path, body, status=409, **ONCE)
    assert again["error"]["code"] == "already_made"
    assert len((await installed.get(path))["items"]) == (1 if path == "/keys" else 2)


async def test_another_request_under_the_same_key_is_refused(installed: Installed) -> None:
    await installed.serving()
    await installed.post("/services/web/scale", {"max": 2}, **ONCE)
    for path, body in (("/services/web/scale", {"max": 3}), ("/services/other/scale", {"max": 2})):
        refused = await installed.post(path, body, status=409, **ONCE)
        assert refused["error"]["code"] == "idempotency_key_reused"
    assert (await installed.get("/services/web"))["scaling"]["max"] == 2


async def test_a_refusal_is_not_kept(installed: Installed) -> None:
    await installed.post("/services/web/wake", status=404, **ONCE)
    await installed.serving()
    await installed.post("/services/web/wake", **ONCE)


async def test_keys_belong_to_the_token_that_used_them(installed: Installed) -> None:
    await installed.serving()
    made = await installed.post("/tokens", {"name": "ci", "grants": [{"role": "deployer"}]}, status=201)
    await installed.post("/services/web/wake", **ONCE)
    other = {**ONCE, "authorization": f"Bearer {made['token']}"}
    answer = await installed.agent.client.post("/api/v1/services/web/wake", headers=other)
    assert "idempotent-replayed" not in answer.headers


async def test_answers_are_kept_for_a_day(installed: Installed) -> None:
    await installed.serving()
    tidy = Tidy(installed.control.office)
    await installed.post("/services/web/wake", **ONCE)
    installed.clock.advance(timedelta(hours=23))
    await tidy.sweep()
    answer = await installed.api.post("/services/web/wake", headers=ONCE)
    assert "idempotent-replayed" in answer.headers
    installed.clock.advance(timedelta(hours=2))
    await tidy.sweep()
    answer = await installed.api.post("/services/web/wake", headers=ONCE)
    assert "idempotent-replayed" not in answer.headers


@pytest.mark.parametrize("key", ["", "a b", "x" * 201, "\t"])
async def test_a_key_that_cannot_be_used_is_refused(installed: Installed, key: str) -> None:
    refused = await installed.post("/services/web/wake", status=400, **{"idempotency-key": key})
    assert refused["error"]["param"] == "Idempotency-Key"
