"""A deploy from the request to its end, with an agent that says what it is told to say."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from installed import Installed, request

from kasbah.api.signing import parse_public, read_ticket
from kasbah.domain.observed import BuildState, TrialState
from kasbah.domain.service import ServiceState, Share

OTHER = "sha256:" + "b" * 64


async def test_a_deploy_goes_from_waiting_to_done(installed: Installed) -> None:
    agent = installed.agent
    await agent.report()
    made = await installed.deploy()
    assert made["created"] is True
    assert made["rollout"]["state"] == "waiting"
    assert "waiting for the source" in made["rollout"]["reason"]
    assert made["service"]["state"] == "waiting"
    assert made["service"]["revision"] is None

    service = await agent.service("web")
    assert service.trial is not None
    assert service.shares == ()
    assert [one.id for one in service.revisions] == [made["revision"]]

    rollout = made["rollout"]
    await agent.say(service, BuildState.BUILDING, step="installing")
    rollout = await installed.get(f"/rollouts/{rollout['id']}", after=rollout["version"], wait=10)
    assert (rollout["state"], rollout["step"]) == ("building", "installing")
    assert (await installed.get("/services/web"))["state"] == "building"

    await agent.say(service, BuildState.BUILT, TrialState.TRYING)
    rollout = await installed.get(f"/rollouts/{rollout['id']}", after=rollout["version"], wait=10)
    assert rollout["state"] == "starting"

    await agent.prove("web")
    assert (await installed.ended(rollout))["state"] == "done"
    moved = await agent.service("web")
    assert moved.shares == (Share(revision=made["revision"], percent=100),)
    assert moved.trial is None

    seen = await installed.get("/services/web")
    assert (seen["state"], seen["revision"]) == ("running", made["revision"])
    assert (seen["url"], seen["host"]) == ("http://web.localhost:8080/", "web.localhost")
    assert (seen["site"], seen["address"]) == ("local", "127.0.0.1:8080")


async def test_a_rollout_is_not_done_before_the_site_acts_on_the_traffic(installed: Installed) -> None:
    agent = installed.agent
    await agent.report()
    made = await installed.deploy()
    service = await agent.service("web")
    await agent.say(service, BuildState.BUILT, TrialState.PROVEN)
    moved = await agent.moved("web")
    rollout = await installed.get(f"/rollouts/{made['rollout']['id']}")
    assert (rollout["state"], rollout["step"]) == ("shifting", "moving traffic to 100%")
    agent.applied = moved.version
    await agent.report()
    assert (await installed.ended(rollout))["state"] == "done"


@pytest.mark.parametrize(
    ("build", "trial", "reason"),
    [
        (BuildState.FAILED, TrialState.UNTRIED, "no such package"),
        (BuildState.BUILT, TrialState.FAILED, "exited with code 1"),
    ],
)
async def test_a_first_deploy_that_fails_says_why_and_is_tried_again(
    installed: Installed, build: BuildState, trial: TrialState, reason: str
) -> None:
    agent = installed.agent
    await agent.report()
    made = await installed.deploy()
    service = await agent.service("web")
    await agent.say(service, build, trial, reason=reason, tail=("line one", "line two"))
    rollout = await installed.ended(made["rollout"])
    assert (rollout["state"], rollout["reason"], rollout["tail"]) == ("failed", reason, ["line one", "line two"])
    seen = await installed.get("/services/web")
    assert (seen["state"], seen["reason"]) == ("failed", reason)
    assert (await agent.service("web")).trial is None

    again = await installed.deploy()
    assert again["created"] is True
    assert again["revision"] == made["revision"]
    assert again["rollout"]["id"] != made["rollout"]["id"]
    tried = await agent.service("web")
    assert tried.trial is not None
    assert tried.trial.rollout == again["rollout"]["id"]
    await agent.report()  # still the old failure, of the old rollout
    await asyncio.gather(*(installed.get("/sites") for _ in range(3)))
    assert (await installed.get(f"/rollouts/{again['rollout']['id']}"))["state"] == "waiting"
    await agent.prove("web")
    assert (await installed.ended(again["rollout"]))["state"] == "done"


async def test_a_later_deploy_that_fails_leaves_traffic_where_it_was(installed: Installed) -> None:
    agent = installed.agent
    first = await installed.serving()
    made = await installed.deploy(source=OTHER)
    assert made["rollout"]["previous"] == first["revision"]
    service = await agent.service("web")
    assert {one.id for one in service.revisions} == {first["revision"], made["revision"]}
    await agent.say(service, BuildState.FAILED, reason="no", state=ServiceState.RUNNING)
    assert (await installed.ended(made["rollout"]))["state"] == "failed"
    after = await agent.service("web")
    assert (after.shares[0].revision, after.trial) == (first["revision"], None)
    assert [one.id for one in after.revisions] == [first["revision"]]
    assert (await installed.get("/services/web"))["state"] == "running"


async def test_the_same_again_does_nothing(installed: Installed) -> None:
    done = await installed.serving()
    before = await installed.agent.desired()
    again = await installed.deploy()
    assert (again["created"], again["rollout"], again["uploads"]) == (False, None, [])
    assert again["revision"] == done["revision"]
    assert await installed.agent.desired(known=before.version) is None


async def test_other_scaling_sleep_access_or_data_make_no_revision(installed: Installed) -> None:
    done = await installed.serving()
    made = await installed.deploy(
        access="public", scaling={"max": 3}, sleep={"stop_after": "never"}, data={"level": "public"}
    )
    assert (made["created"], made["rollout"], made["revision"]) == (False, None, done["revision"])
    service = await installed.agent.service("web")
    assert (service.access, service.scaling.max, service.sleep.stop_after) == ("public", 3, None)
    assert service.label.level == 0
    assert made["service"]["data"]["level"] == "public"


async def test_a_deploy_during_a_deploy_supersedes_it(installed: Installed) -> None:
    await installed.agent.report()
    first = await installed.deploy()
    second = await installed.deploy(source=OTHER)
    old = await installed.get(f"/rollouts/{first['rollout']['id']}")
    assert old["state"] == "superseded"
    assert second["revision"] in old["reason"]
    service = await installed.agent.service("web")
    assert service.trial is not None
    assert service.trial.rollout == second["rollout"]["id"]
    await installed.agent.prove("web")
    assert (await installed.ended(second["rollout"]))["state"] == "done"


async def test_the_same_deploy_during_a_deploy_joins_it(installed: Installed) -> None:
    await installed.agent.report()
    first = await installed.deploy()
    second = await installed.deploy()
    assert second["created"] is False
    assert second["rollout"]["id"] == first["rollout"]["id"]
    assert second["uploads"]


async def test_going_back_to_what_serves_ends_the_rollout_under_way(installed: Installed) -> None:
    done = await installed.serving()
    other = await installed.deploy(source=OTHER)
    back = await installed.deploy()
    assert (back["created"], back["rollout"], back["revision"]) == (False, None, done["revision"])
    assert (await installed.get(f"/rollouts/{other['rollout']['id']}"))["state"] == "superseded"
    assert (await installed.agent.service("web")).trial is None


async def test_two_deploys_at_once_leave_one_rollout_under_way(installed: Installed) -> None:
    await installed.agent.report()
    sources = [f"sha256:{number:064}" for number in range(8)]
    made = await asyncio.gather(*(installed.deploy(source=source) for source in sources))
    states = [(await installed.get(f"/rollouts/{one['rollout']['id']}"))["state"] for one in made]
    assert sorted(states) == ["superseded"] * 7 + ["waiting"]
    assert len({one["rollout"]["id"] for one in made}) == 8
    service = await installed.agent.service("web")
    winner = next(one for one, state in zip(made, states, strict=True) if state == "waiting")
    assert service.trial is not None
    assert service.trial.revision == winner["revision"]


async def test_nothing_fits_is_no_error_and_says_why(installed: Installed) -> None:
    made = await installed.deploy()
    assert made["uploads"] == []
    assert "local: it has never reported" in made["rollout"]["reason"]
    assert (await installed.get("/services/web"))["state"] == "waiting"
    assert (await installed.agent.desired()).services == ()
    await installed.agent.report()
    rollout = await installed.get(f"/rollouts/{made['rollout']['id']}", after=made["rollout"]["version"], wait=10)
    assert "waiting for the source" in rollout["reason"]
    await installed.agent.prove("web")
    assert (await installed.ended(rollout))["state"] == "done"


async def test_a_runtime_the_site_lacks_is_named(installed: Installed) -> None:
    await installed.agent.report()
    made = await installed.deploy(runtime="node", command=["node", "a.js"])
    assert "cannot build node" in made["rollout"]["reason"]
    assert "npm" in made["service"]["reason"]


async def test_the_source_must_arrive_in_time(installed: Installed) -> None:
    await installed.agent.report()
    made = await installed.deploy()
    installed.clock.advance(timedelta(minutes=16))
    await installed.agent.report()
    rollout = await installed.ended(made["rollout"])
    assert rollout["state"] == "failed"
    assert "did not arrive" in rollout["reason"]


async def test_the_door_lets_in_this_source_only(installed: Installed) -> None:
    identity = await installed.agent.introduce()
    await installed.agent.report()
    door = (await installed.deploy())["uploads"][0]
    assert (door["address"], door["host"]) == ("127.0.0.1:8080", "kasbah.localhost")
    assert door["path"] == f"/v1/blobs/{request()['source']}"
    ticket = read_ticket(parse_public(identity.public_key), door["ticket"], now=installed.clock.now())
    assert (ticket.act, ticket.object, ticket.site) == ("blob.put", request()["source"], identity.site)
    assert ticket.limit >= 1_000


async def test_a_built_revision_needs_no_source(installed: Installed) -> None:
    await installed.agent.report()
    await installed.deploy()
    service = await installed.agent.service("web")
    await installed.agent.say(service, BuildState.BUILT, TrialState.TRYING)
    assert (await installed.deploy())["uploads"] == []


async def test_ten_revisions_are_kept_and_the_one_that_serves(installed: Installed) -> None:
    done = await installed.serving()
    for number in range(12):
        await installed.deploy(source=f"sha256:{number:064}")
    revisions = (await installed.get("/services/web/revisions"))["items"]
    assert len(revisions) == 11
    assert revisions[-1]["id"] == done["revision"]
    assert revisions[-1]["percent"] == 100


async def test_a_plan_says_what_a_deploy_would_do_and_does_nothing(installed: Installed) -> None:
    await installed.agent.report()
    plan = await installed.post("/services/web/plan", request())
    assert (plan["action"], plan["sites"][0]["verdict"]) == ("create", "chosen")
    assert (await installed.get("/services"))["items"] == []
    await installed.serving(env={"A": "1", "SECRET": "hunter2"})
    same = await installed.post("/services/web/plan", request(env={"A": "1", "SECRET": "hunter2"}))
    assert (same["action"], same["changes"]) == ("none", [])
    changed = await installed.post(
        "/services/web/deploys?dry_run=true",
        request(env={"B": "1", "SECRET": "hunter3"}, scaling={"max": 4}, command=["x"], data={"level": "public"}),
    )
    assert changed["action"] == "update"
    assert {"scaling.max: 1 -> 4", "env.A: removed", "env.B: added", "env.SECRET: changed"} <= set(changed["changes"])
    assert {"command: python app.py -> x", "label.level: sensitive -> public"} <= set(changed["changes"])
    assert "hunter" not in str(changed)


async def test_an_old_version_is_not_written_over(installed: Installed) -> None:
    made = await installed.deploy()
    version = made["service"]["version"]
    await installed.post("/services/web/deploys", request(source=OTHER, expected_version=version), status=202)
    refused = await installed.post("/services/web/deploys", request(expected_version=version), status=409)
    assert refused["error"]["code"] == "version_conflict"
    assert "read it again" in refused["error"]["hint"]
    gone = await installed.post("/services/new/deploys", request(expected_version=3), status=409)
    assert gone["error"]["code"] == "conflict"
