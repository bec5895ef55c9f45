"""A key's ceiling and its end, held by a real Envoy: with an agent and without."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
from real_gateway import PROJECT, Site, replica, saying

from kasbah.clock import SystemClock
from kasbah.domain.gateway import Credential
from kasbah.domain.ids import KeyId, ProjectId
from kasbah.domain.label import Level

pytestmark = pytest.mark.real


def key(text: str, project: ProjectId | None = PROJECT) -> Credential:
    return Credential(key=KeyId(f"ky-{text}"), sha256=hashlib.sha256(text.encode()).hexdigest(), project=project)


async def refusal(gateway: Site, text: str) -> str:
    """The code of the answer to a caller with this key; "ok" where he is served."""
    found = await gateway.get(authorization=f"Bearer {text}")
    return "ok" if found.status_code == 200 else f"{found.status_code} {code(found)}"


def code(found: httpx.Response) -> str:
    assert found.headers["content-type"] == "application/json"
    error = found.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return str(error["code"])


@pytest.mark.parametrize("asleep", [False, True], ids=["awake", "asleep"])
@pytest.mark.parametrize("level", Level, ids=lambda level: level.name.lower())
async def test_a_key_opens_nothing_above_its_ceiling_and_wakes_nothing(
    gateway: Site, level: Level, asleep: bool
) -> None:
    """Be it that its project's services are open to it, or that the service names it."""
    known = [replace(key(f"k-{ceiling.name}"), ceiling=ceiling) for ceiling in Level]
    named = replace(key("k-named", None), ceiling=Level.INTERNAL)
    async with replica(saying("notes")) as address:
        gateway.doorman.lets_all_through_to = address
        await gateway.keys(*known, named, key("k-any"))
        await gateway.route(*[] if asleep else [address], public=False, level=level, allowed_keys=(named.key,))
        served = 0
        for one in (*known, named):
            may = one.ceiling is not None and one.ceiling >= level
            served += may
            assert await refusal(gateway, one.key.removeprefix("ky-")) == ("ok" if may else "403 label_ceiling")
        assert gateway.doorman.asked == (served if asleep else 0)
        assert await refusal(gateway, "k-any") == "ok"


async def test_a_service_whose_level_nobody_told_opens_to_no_ceiling(gateway: Site) -> None:
    """What a virtual host does not say is taken for the highest."""
    await gateway.keys(replace(key("k"), ceiling=Level.SENSITIVE))
    await gateway.route(public=False)
    assert await refusal(gateway, "k") == "403 label_ceiling"


@pytest.mark.parametrize("agent", ["there", "gone"])
async def test_a_key_ends_at_its_moment_whether_or_not_there_is_an_agent(gateway: Site, agent: str) -> None:
    """By Envoy's own clock: nothing is sent to it in between."""
    clock = SystemClock()
    ends = clock.now().replace(microsecond=0) + timedelta(seconds=3)
    async with replica(saying("notes")) as address:
        await gateway.keys(
            replace(key("k-soon"), expires_at=ends),
            replace(key("k-past"), expires_at=clock.now() - timedelta(seconds=1)),
            replace(key("k-later"), expires_at=clock.now() + timedelta(days=1)),
        )
        await gateway.route(address, public=False)
        assert await refusal(gateway, "k-past") == "401 expired_api_key"
        if agent == "gone":
            await gateway.leave()
        was_served = 0
        while clock.now() < ends:
            found = await refusal(gateway, "k-soon")
            was_served += found == "ok"
            assert found == "ok" or clock.now() >= ends
        assert was_served
        assert await refusal(gateway, "k-soon") == "401 expired_api_key"
        assert await refusal(gateway, "k-later") == "ok"


async def test_an_expired_key_wakes_nothing(gateway: Site) -> None:
    await gateway.keys(replace(key("k"), expires_at=SystemClock().now() - timedelta(days=1)))
    await gateway.route(public=False)
    assert await refusal(gateway, "k") == "401 expired_api_key"
    assert gateway.doorman.asked == 0
