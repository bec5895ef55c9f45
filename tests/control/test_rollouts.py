"""How traffic moves to a new revision, turns back, and is divided by hand; with an agent that says what it is told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from installed import Installed

from kasbah.domain.ids import RevisionId
from kasbah.domain.observed import UsageBatch
from kasbah.domain.usage import Usage, UsageKey

OTHER = "sha256:" + "b" * 64
THIRD = "sha256:" + "c" * 64


async def shares(installed: Installed) -> dict[str, int]:
    return {one.revision: one.percent for one in (await installed.agent.service("web")).shares}


async def reached(installed: Installed, rollout: Any, state: str, percent: int) -> Any:
    """Follow a rollout until it stands there."""
    for _ in range(20):
        if (rollout["state"], rollout["percent"]) == (state, percent):
            return rollout
        rollout = await installed.get(f"/rollouts/{rollout['id']}", after=rollout["version"], wait=10)
    raise AssertionError(f"the rollout never stands at {state}, {percent}%: {rollout}")


async def begun(installed: Installed, **rules: Any) -> tuple[str, str, Any]:
    """A service that serves, and a deploy of another source; the old revision, the new one and its rollout."""
    rollout = {"rollout": rules} if rules else {}
    old = (await installed.serving(scaling={"max": 4}, **rollout))["revision"]
    made = await installed.deploy(source=OTHER, scaling={"max": 4}, **rollout)
    return old, made["revision"], made["rollout"]


async def test_a_rolling_rollout_moves_replica_by_replica(installed: Installed) -> None:
    old, new, rollout = await begun(installed)
    await installed.agent.serves("web", new, serving=2)
    rollout = await reached(installed, rollout, "shifting", 50)
    assert await shares(installed) == {new: 50, old: 50}
    await installed.agent.serves("web", new, serving=2)
    trial = (await asked(installed)).replicas
    assert trial == 2
    await installed.agent.serves("web", new, ready=2, serving=2)
    await reached(installed, rollout, "shifting", 100)
    assert await shares(installed) == {new: 100, old: 0}


async def asked(installed: Installed) -> Any:
    """What is under trial, once something is."""
    known = (0, 0)
    while (desired := await installed.agent.desired(known=known, wait=10)) is not None:
        known = desired.version
        if (trial := desired.services[0].trial) is not None:
            return trial
    raise AssertionError("nothing is ever under trial")


async def test_what_served_before_is_watched_for_a_while_and_kept_at_hand(installed: Installed) -> None:
    old, new, rollout = await begun(installed)
    await installed.agent.serves("web", new)
    await reached(installed, rollout, "shifting", 100)
    await installed.agent.serves("web", new)
    rollout = await reached(installed, rollout, "watching", 100)
    installed.clock.advance(timedelta(seconds=61))
    await installed.agent.serves("web", new)
    assert (await installed.ended(rollout))["state"] == "done"
    seen = await installed.get("/services/web")
    told = {one["id"]: (one["percent"], one["host"]) for one in seen["revisions"]}
    assert told == {new: (100, f"{new}.web.localhost"), old: (0, f"{old}.web.localhost")}


async def test_a_canary_goes_by_its_steps_and_waits_at_each(installed: Installed) -> None:
    old, new, rollout = await begun(installed, strategy="canary", steps=[5, 50], pause="3m")
    await installed.agent.serves("web", new)
    for percent in (5, 50):
        rollout = await reached(installed, rollout, "shifting", percent)
        assert await shares(installed) == {new: percent, old: 100 - percent}
        await installed.agent.serves("web", new)
        installed.clock.advance(timedelta(minutes=3))
        await installed.agent.serves("web", new)
    await reached(installed, rollout, "shifting", 100)


async def test_a_manual_rollout_only_puts_the_revision_at_hand(installed: Installed) -> None:
    old, new, rollout = await begun(installed, strategy="manual")
    await installed.agent.serves("web", new)
    assert (await installed.ended(rollout))["state"] == "done"
    assert await shares(installed) == {old: 100, new: 0}
    await installed.post("/services/web/traffic", traffic({old: 90, new: 10}))
    assert await shares(installed) == {old: 90, new: 10}


def traffic(parts: dict[str, int]) -> dict[str, Any]:
    return {"shares": [{"revision": revision, "percent": percent} for revision, percent in parts.items()]}


async def test_trouble_while_it_is_watched_turns_back_and_says_why(installed: Installed) -> None:
    old, new, rollout = await begun(installed)
    await installed.agent.serves("web", new)
    await reached(installed, rollout, "shifting", 100)
    await installed.agent.serves("web", new, ready=0, trouble="exited with code 3")
    ended = await installed.ended(rollout)
    assert (ended["state"], ended["reason"]) == ("failed", "turned back: site local: exited with code 3")
    assert await shares(installed) == {old: 100}
    seen = await installed.get("/services/web")
    assert (seen["revision"], seen["rollout"]["reason"]) == (old, ended["reason"])


async def test_more_failed_requests_than_before_turn_it_back(installed: Installed) -> None:
    old, new, rollout = await begun(installed)
    await installed.agent.serves("web", new)
    rollout = await reached(installed, rollout, "shifting", 100)
    service = (await installed.agent.service("web")).id
    minute = installed.clock.now().replace(second=0, microsecond=0)
    counted = ((RevisionId(old), Usage(requests=200, failed=1)), (RevisionId(new), Usage(requests=30, failed=20)))
    usage = tuple((UsageKey(service=service, revision=one, key=None, minute=minute), used) for one, used in counted)
    await installed.agent.send_usage(UsageBatch(sequence=1, usage=usage))
    await installed.agent.serves("web", new)
    ended = await installed.ended(rollout)
    assert ended["reason"] == "turned back: 20 of its 30 requests failed; before it, 1 of 200 did"
    assert await shares(installed) == {old: 100}


async def test_a_deploy_in_the_middle_returns_traffic_first(installed: Installed) -> None:
    old, new, rollout = await begun(installed, strategy="canary")
    await installed.agent.serves("web", new)
    await reached(installed, rollout, "shifting", 10)
    await installed.deploy(source=THIRD, scaling={"max": 4})
    assert (await installed.get(f"/rollouts/{rollout['id']}"))["state"] == "superseded"
    assert await shares(installed) == {old: 100}
    back = await installed.deploy(scaling={"max": 4})
    assert (back["created"], back["revision"]) == (False, old)


async def served_two(installed: Installed) -> tuple[str, str]:
    """Two revisions that have served, the second now."""
    old, new, rollout = await begun(installed, watch="0s")
    await installed.agent.serves("web", new)
    await reached(installed, rollout, "shifting", 100)
    await installed.agent.serves("web", new)
    await installed.ended(rollout)
    return old, new


async def test_a_rollback_is_at_once_where_the_build_is_still_there(installed: Installed) -> None:
    old, new = await served_two(installed)
    await installed.agent.serves("web", RevisionId(old))
    rollout = await installed.post("/services/web/rollback", status=202)
    assert (rollout["revision"], rollout["cause"], rollout["percent"]) == (old, "rollback", 100)
    assert await shares(installed) == {old: 100, new: 0}
    await installed.agent.serves("web", RevisionId(old))
    assert (await installed.ended(rollout))["state"] == "done"
    assert (await installed.post("/services/web/rollback", status=202))["revision"] == new


async def test_a_rollback_whose_build_is_gone_is_built_and_proven_first(installed: Installed) -> None:
    old, new = await served_two(installed)
    rollout = await installed.post("/services/web/rollback", {"to": old[:8]}, status=202)
    assert (rollout["revision"], rollout["percent"], rollout["state"]) == (old, 0, "waiting")
    assert await shares(installed) == {new: 100, old: 0}
    await installed.agent.serves("web", RevisionId(old))
    await reached(installed, rollout, "shifting", 100)


async def test_a_rollback_in_the_middle_returns_to_where_it_began(installed: Installed) -> None:
    old, new, rollout = await begun(installed, strategy="canary")
    await installed.agent.serves("web", new)
    await reached(installed, rollout, "shifting", 10)
    ended = await installed.post("/services/web/rollback", status=202)
    assert (ended["id"], ended["state"]) == (rollout["id"], "superseded")
    assert await shares(installed) == {old: 100}


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        ({"to": "rv-nothere"}, 404, "revision_not_found", "there is no revision 'rv-nothere'"),
        ({"to": "rv-"}, 404, "revision_not_found", "2 revisions begin with"),
        ({"to": "NEW"}, 409, "already_serving", "has all the traffic already"),
    ],
)
async def test_a_rollback_to_nowhere_is_refused(installed: Installed, body, status, code, words) -> None:
    _, new = await served_two(installed)
    body = {"to": new} if body["to"] == "NEW" else body
    error = (await installed.post("/services/web/rollback", body, status=status))["error"]
    assert error["code"] == code
    assert words in error["message"]
    assert error["hint"]


async def test_there_is_nothing_to_roll_back_to_at_first(installed: Installed) -> None:
    await installed.serving()
    error = (await installed.post("/services/web/rollback", status=409))["error"]
    assert error["code"] == "nothing_before"


async def test_shares_must_be_whole_known_and_named_once(installed: Installed) -> None:
    old, new = await served_two(installed)
    for parts, status, code in (
        ({old: 50, new: 40}, 400, "shares_not_whole"),
        ({old: 0, new: 0}, 400, "shares_not_whole"),
        ({old: 50, "rv-none": 50}, 404, "revision_not_found"),
    ):
        error = (await installed.post("/services/web/traffic", traffic(parts), status=status))["error"]
        assert error["code"] == code
        assert error["hint"]
    twice = {"shares": [{"revision": old, "percent": 50}, {"revision": old, "percent": 50}]}
    assert "2 times" in (await installed.post("/services/web/traffic", twice, status=400))["error"]["message"]
    assert await shares(installed) == {new: 100, old: 0}


async def test_the_history_of_rollouts_is_kept(installed: Installed) -> None:
    old, new = await served_two(installed)
    await installed.post("/services/web/rollback", status=202)
    history = (await installed.get("/services/web/rollouts"))["items"]
    assert [(one["revision"], one["previous"], one["cause"]) for one in history] == [
        (old, new, "rollback"),
        (new, old, "deploy"),
        (old, None, "deploy"),
    ]
