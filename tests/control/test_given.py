"""Tokens and keys that end, are switched off, or would give more than their maker has."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from holder import Holder
from installed import Installed


async def waits(installed: Installed, holder: Holder) -> None:
    """Until a long poll of this holder's waits."""
    for _ in range(5_000):
        if f"token/{holder.id}" in installed.control.office.changes._waiting:
            return
        await asyncio.sleep(0.001)
    raise AssertionError("nobody waits")


# --- expiry, and the switch -------------------------------------------------------------------------------------------


async def test_an_expired_token_is_worth_nothing(installed: Installed, admin: Holder) -> None:
    holder = await admin.make("holder", {"role": "auditor"}, expires_in_seconds=60)
    installed.clock.advance(timedelta(seconds=59))
    assert await holder.code("GET", "/services") == "ok"
    installed.clock.advance(timedelta(seconds=1))
    assert await holder.code("GET", "/services") == "401 token_expired"
    (listed,) = [one for one in (await installed.get("/tokens"))["items"] if one["name"] == "holder"]
    assert listed["state"] == "expired"


async def test_a_token_is_switched_off_and_on(installed: Installed, admin: Holder) -> None:
    holder = await admin.make("holder", {"role": "auditor"})
    assert (await installed.post("/tokens/holder/disable"))["state"] == "disabled"
    assert await holder.code("GET", "/services") == "401 token_disabled"
    assert (await installed.post("/tokens/holder/enable"))["state"] == "ok"
    assert await holder.code("GET", "/services") == "ok"
    assert (await installed.api.delete("/tokens/holder")).json()["state"] == "revoked"
    assert await holder.code("GET", "/services") == "401 unauthenticated"
    assert await admin.code("POST", f"/tokens/{holder.id}/enable") == "409 revoked"


@pytest.mark.parametrize("path", ["/services/web?", "/rollouts/{rollout}?"], ids=["service", "rollout"])
@pytest.mark.parametrize("how", ["disable", "revoke"])
async def test_who_waits_is_let_go_at_once(installed: Installed, admin: Holder, path: str, how: str) -> None:
    rollout = await installed.serving()
    version = rollout["version"] if "rollouts" in path else (await installed.get("/services/web"))["version"]
    holder = await admin.make("holder", {"role": "auditor"})
    asked = path.format(rollout=rollout["id"]) + f"after={version}&wait=30"
    waiting = asyncio.create_task(holder.ask("GET", asked))
    await waits(installed, holder)
    if how == "disable":
        await installed.post("/tokens/holder/disable")
    else:
        await installed.api.delete("/tokens/holder")
    async with asyncio.timeout(5):
        answer = await waiting
    assert answer.status_code == 401


async def test_a_right_that_ends_while_one_waits_gives_nothing(installed: Installed, admin: Holder) -> None:
    """Its time is over when there is something to tell."""
    rollout = await installed.serving()
    holder = await admin.make("holder", {"role": "auditor"}, expires_in_seconds=60)
    asked = f"/rollouts/{rollout['id']}?after={rollout['version']}&wait=0.2"
    waiting = asyncio.create_task(holder.ask("GET", asked))
    await waits(installed, holder)
    installed.clock.advance(timedelta(seconds=60))
    assert (await waiting).json()["error"]["code"] == "token_expired"


async def test_a_label_that_rises_while_one_waits_is_told_no_more(installed: Installed, admin: Holder) -> None:
    await installed.deploy(data={"level": "internal"})
    holder = await admin.make("holder", {"role": "auditor"}, max_level="internal")
    seen = await installed.get("/services/web")
    waiting = asyncio.create_task(holder.ask("GET", f"/services/web?after={seen['version']}&wait=30"))
    await waits(installed, holder)
    await installed.deploy(data={"level": "sensitive"})
    async with asyncio.timeout(5):
        answer = await waiting
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "label_ceiling")


# --- nobody gives more than he has ------------------------------------------------------------------------------------


async def test_nobody_gives_more_than_he_has(installed: Installed, projects: dict[str, str], admin: Holder) -> None:
    holder = await admin.make(
        "holder", {"role": "owner", "project": "own"}, max_level="restricted", expires_in_seconds=3_600
    )

    async def gives(*grants: dict[str, Any], **more: Any) -> str:
        return await holder.code("POST", "/tokens", json={"name": "more", "grants": list(grants), **more})

    own = {"role": "deployer", "project": "own"}
    assert await gives({"role": "owner"}) == "403 action_missing"
    assert await gives({"role": "auditor", "project": "other"}) == "404 project_not_found"
    assert await gives(own, {"actions": ["site.read"]}) == "403 action_missing"
    assert await gives(own, max_level="sensitive") == "403 gives_more"
    assert await gives(own, expires_in_seconds=3_601) == "403 gives_more"
    assert await gives(own) == "ok"
    (made,) = [one for one in (await installed.get("/tokens"))["items"] if one["name"] == "more"]
    assert (made["max_level"], made["created_by"]) == ("restricted", holder.id)
    (maker,) = [one for one in (await installed.get("/tokens"))["items"] if one["name"] == "holder"]
    assert made["expires_at"] == maker["expires_at"]


async def test_the_right_to_make_tokens_makes_none_that_may_more(installed: Installed, admin: Holder) -> None:
    holder = await admin.make("holder", {"actions": ["token.create", "service.read"]})
    make = {"name": "more", "grants": [{"actions": ["service.deploy"]}]}
    answer = await holder.ask("POST", "/tokens", json=make)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "gives_more")
    assert "service.deploy" in answer.json()["error"]["message"]
    make["grants"] = [{"actions": ["service.read"]}]
    assert await holder.code("POST", "/tokens", json=make) == "ok"


async def test_who_may_switch_tokens_on_switches_none_on_that_may_more(installed: Installed, admin: Holder) -> None:
    guard = await admin.make("guard", {"actions": ["token.disable", "token.enable", "token.read"]})
    await admin.make("strong", {"role": "owner"})
    assert await guard.code("POST", "/tokens/strong/disable") == "ok"
    assert await guard.code("POST", "/tokens/strong/enable") == "403 gives_more"
    assert await admin.code("POST", "/tokens/strong/enable") == "ok"


async def test_a_project_s_owner_has_no_say_in_what_reaches_beyond(
    installed: Installed, projects: dict[str, str], admin: Holder
) -> None:
    holder = await admin.make("holder", {"role": "owner", "project": "own"})
    await admin.make("both", {"role": "auditor", "project": "own"}, {"role": "auditor", "project": "other"})
    inside = await admin.make("inside", {"role": "auditor", "project": "own"})
    for token in ("admin", "both"):
        assert await holder.code("POST", f"/tokens/{token}/disable") == "404 not_found"
        assert await holder.code("DELETE", f"/tokens/{token}") == "404 not_found"
    assert await holder.code("POST", "/tokens/inside/disable") == "ok"
    assert await inside.code("GET", "/services?project=own") == "401 token_disabled"


async def test_software_makes_no_tokens(installed: Installed, admin: Holder) -> None:
    robot = await admin.make("robot", {"role": "owner"}, kind="software")
    grants = {"name": "more", "grants": [{"role": "auditor"}]}
    assert await robot.code("POST", "/tokens", json=grants) == "403 software_may_not"
    assert await robot.code("GET", "/tokens") == "ok"


async def test_the_last_owner_stays(installed: Installed, admin: Holder) -> None:
    """One who has a ceiling, an expiry or a project is none: when he is gone, nobody could make another."""
    await admin.make("dated", {"role": "owner"}, expires_in_seconds=60)
    await admin.make("low", {"role": "owner"}, max_level="vital")
    await admin.make("partly", {"role": "owner", "project": "default"})
    await admin.make("second", {"role": "owner"})
    await installed.post("/tokens/second/disable")
    for call in (("DELETE", "/tokens/admin"), ("POST", "/tokens/admin/disable")):
        assert await admin.code(*call) == "409 last_owner"
    await installed.post("/tokens/second/enable")
    assert (await installed.api.delete("/tokens/admin")).status_code == 200


async def test_an_unknown_role_or_action_is_refused(installed: Installed) -> None:
    for grant, where in (({"role": "root"}, "grants.0.role"), ({"actions": ["service.fly"]}, "grants.0.actions.0")):
        refused = await installed.post("/tokens", {"name": "x", "grants": [grant]}, status=400)
        assert refused["error"]["param"] == where


# --- keys -------------------------------------------------------------------------------------------------------------


async def test_sites_are_told_of_a_key_what_it_may(installed: Installed, admin: Holder) -> None:
    made = await installed.post("/keys", {"name": "a", "max_level": "internal", "expires_in_seconds": 60}, status=201)
    (key,) = (await installed.agent.desired()).keys
    assert (key.id, key.max_level) == (made["id"], 1)
    assert key.expires_at == installed.clock.now() + timedelta(seconds=60)
    (listed,) = (await installed.get("/keys"))["items"]
    assert (listed["owner"], listed["max_level"], listed["state"]) == ("admin", "internal", "ok")
    assert (await installed.post("/keys/a/disable"))["state"] == "disabled"
    assert (await installed.agent.desired()).keys == ()
    assert (await installed.post("/keys/a/enable"))["state"] == "ok"
    assert [one.id for one in (await installed.agent.desired()).keys] == [made["id"]]
    installed.clock.advance(timedelta(seconds=60))
    (listed,) = (await installed.get("/keys"))["items"]
    assert listed["state"] == "expired"
    await installed.post("/keys", {"name": "b", "owner": "team-b"}, status=201)
    assert [one.id for one in (await installed.agent.desired()).keys] != [made["id"]]
    assert len((await installed.agent.desired()).keys) == 1, "one that has expired goes with the next change"


async def test_a_key_reaches_no_further_than_who_makes_it(installed: Installed, admin: Holder) -> None:
    holder = await admin.make(
        "holder", {"actions": ["key.create", "key.enable"]}, max_level="internal", expires_in_seconds=60
    )
    assert await holder.code("POST", "/keys", json={"name": "a", "max_level": "vital"}) == "403 gives_more"
    assert await holder.code("POST", "/keys", json={"name": "a", "expires_in_seconds": 61}) == "403 gives_more"
    assert await holder.code("POST", "/keys", json={"name": "a"}) == "ok"
    (listed,) = (await installed.get("/keys"))["items"]
    assert (listed["max_level"], listed["created_by"], listed["owner"]) == ("internal", holder.id, "holder")
    assert listed["expires_at"] is not None
    await installed.post("/keys", {"name": "high"}, status=201)
    await installed.post("/keys/high/disable")
    assert await holder.code("POST", "/keys/high/enable") == "403 gives_more"
