"""What people do with services once they exist."""

from __future__ import annotations

import asyncio

import pytest
from installed import Installed, request

from kasbah.api.signing import parse_public, read_ticket
from kasbah.domain.ids import ServiceId
from kasbah.domain.service import Command, Order


async def test_scaling_changes_the_bounds_and_makes_no_revision(installed: Installed) -> None:
    done = await installed.serving()
    await installed.post("/services/web/scale", {"max": 5})
    await installed.post("/services/web/scale", {"min": 2})
    service = await installed.agent.service("web")
    assert (service.scaling.min, service.scaling.max) == (2, 5)
    assert [one.id for one in service.revisions] == [done["revision"]]
    assert (await installed.get("/services/web"))["scaling"]["max"] == 5


@pytest.mark.parametrize(
    ("config", "bounds", "param", "words"),
    [
        ({}, {"min": 3}, "min", "above max"),
        ({"scaling": {"min": 2, "max": 4}}, {"max": 1}, "max", "above max"),
        ({"port": 8000}, {"max": 2}, "max", "fixed port 8000"),
        ({"volumes": [{"name": "data", "path": "data", "size": "1Gi"}]}, {"max": 2}, "max", "a volume (data)"),
        ({}, {"max": 0}, "max", "greater than or equal to 1"),
        ({}, {"maximum": 2}, "maximum", "not known"),
    ],
)
async def test_bounds_that_cannot_be_are_refused(installed: Installed, config, bounds, param, words) -> None:
    await installed.serving(**config)
    refused = await installed.post("/services/web/scale", bounds, status=400)
    assert refused["error"]["param"] == param
    assert words in refused["error"]["message"]


async def test_orders_are_numbered_so_that_sites_obey_each_once(installed: Installed) -> None:
    await installed.serving()
    await installed.post("/services/web/sleep", {"rung": "stopped"})
    assert (await installed.agent.service("web")).order == Order(number=1, command=Command.STOP)
    await installed.post("/services/web/wake")
    await installed.post("/services/web/wake")
    assert (await installed.agent.service("web")).order == Order(number=3, command=Command.WAKE)
    await installed.post("/services/web/sleep")
    assert (await installed.agent.service("web")).order == Order(number=4, command=Command.SLEEP)


async def test_what_serves_nothing_cannot_be_put_to_sleep(installed: Installed) -> None:
    await installed.deploy()
    for act in ("sleep", "wake"):
        refused = await installed.post(f"/services/web/{act}", status=409)
        assert refused["error"]["code"] == "not_serving"


async def test_a_deleted_service_is_gone_and_its_name_is_free(installed: Installed) -> None:
    await installed.serving()
    first = await installed.get("/services/web")
    other = await installed.deploy(source="sha256:" + "c" * 64)
    assert (await installed.api.delete("/services/web", params={"expected_version": 1})).status_code == 409
    assert (await installed.api.delete("/services/web")).status_code == 204
    assert (await installed.api.get("/services/web")).status_code == 404
    assert (await installed.agent.desired()).services == ()
    assert (await installed.get(f"/rollouts/{other['rollout']['id']}"))["state"] == "superseded"
    assert (await installed.agent.report()).status_code == 204  # the site still says what it ends
    await installed.deploy()
    again = await installed.get("/services/web")
    assert again["id"] != first["id"]
    assert again["replicas"] == []


async def test_services_are_listed_page_by_page(installed: Installed) -> None:
    for name in ("cedar", "argan", "thuya"):
        await installed.deploy(name)
    page = await installed.get("/services", limit=2)
    assert [one["name"] for one in page["items"]] == ["argan", "cedar"]
    rest = await installed.get("/services", limit=2, cursor=page["next"], project="default")
    assert ([one["name"] for one in rest["items"]], rest["next"]) == (["thuya"], None)


async def test_a_watch_answers_when_something_changed_and_not_before(installed: Installed) -> None:
    await installed.serving()
    seen = await installed.get("/services/web")
    watch = asyncio.create_task(installed.get("/services/web", after=seen["version"], wait=20))
    done, _ = await asyncio.wait([watch], timeout=0.1)
    assert not done
    await installed.post("/services/web/scale", {"max": 2})
    changed = await watch
    assert changed["version"] > seen["version"]
    assert changed["scaling"]["max"] == 2


async def test_a_watch_that_sees_nothing_answers_with_what_is(installed: Installed) -> None:
    await installed.serving()
    seen = await installed.get("/services/web")
    assert (await installed.get("/services/web", after=seen["version"], wait=0.05))["version"] == seen["version"]


async def test_a_watch_on_what_is_deleted_ends(installed: Installed) -> None:
    await installed.serving()
    seen = await installed.get("/services/web")
    watch = asyncio.create_task(installed.api.get("/services/web", params={"after": seen["version"], "wait": 20}))
    await asyncio.wait([watch], timeout=0.05)
    await installed.api.delete("/services/web")
    assert (await watch).status_code == 404


async def test_the_door_to_logs_names_the_service(installed: Installed) -> None:
    identity = await installed.agent.introduce()
    await installed.deploy()
    closed = await installed.post("/services/web/log-door", status=503)
    assert closed["error"]["code"] == "not_placed"
    await installed.serving()
    door = await installed.post("/services/web/log-door")
    service = await installed.agent.service("web")
    assert door["path"] == f"/v1/services/{service.id}/logs"
    ticket = read_ticket(parse_public(identity.public_key), door["ticket"], now=installed.clock.now())
    assert (ticket.act, ticket.object) == ("logs.read", service.id)


async def test_the_door_to_commands_is_for_who_may_deploy(installed: Installed) -> None:
    identity = await installed.agent.introduce()
    await installed.deploy()
    await installed.serving()
    door = await installed.post("/services/web/exec-door", {"program": "ls"})
    service = await installed.agent.service("web")
    assert door["path"] == f"/v1/services/{service.id}/exec"
    ticket = read_ticket(parse_public(identity.public_key), door["ticket"], now=installed.clock.now())
    assert (ticket.act, ticket.object) == ("exec", service.id)
    made = await installed.post("/tokens", {"name": "reader", "grants": [{"role": "auditor"}]}, status=201)
    reads = {"authorization": f"Bearer {made['token']}"}
    refused = await installed.api.post("/services/web/exec-door", json={"program": "ls"}, headers=reads)
    assert refused.status_code == 403


async def test_the_door_for_a_source_waits_for_a_site(installed: Installed) -> None:
    source = {"digest": request()["source"], "size": 12}
    answer = await installed.api.post("/services/web/upload-doors", json=source)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    await installed.agent.report()
    assert (await installed.post("/services/web/upload-doors", source))["doors"][0]["host"] == "kasbah.localhost"


async def test_keys_reach_the_sites_as_digests_until_they_are_revoked(installed: Installed) -> None:
    await installed.serving()
    made = await installed.post("/keys", {"name": "ci"}, status=201)
    some = await installed.post("/keys", {"name": "some", "services": ["web"]}, status=201)
    assert made["key"].startswith("ksb_")
    assert len(made["key"]) == 47
    desired = await installed.agent.desired()
    assert made["key"] not in desired.__repr__()
    web = ServiceId((await installed.get("/services/web"))["id"])
    assert {one.id: one.services for one in desired.keys} == {made["id"]: None, some["id"]: (web,)}
    listed = (await installed.get("/keys"))["items"]
    assert [(one["name"], one["services"]) for one in listed] == [("ci", None), ("some", ["web"])]

    revoked = (await installed.api.delete("/keys/ci")).json()
    assert revoked["revoked_at"] is not None
    assert [one.id for one in (await installed.agent.desired()).keys] == [some["id"]]
    assert len((await installed.get("/keys"))["items"]) == 1
    assert len((await installed.get("/keys", revoked=True))["items"]) == 2
    assert (await installed.api.delete(f"/keys/{made['id']}")).json() == revoked
    await installed.post("/keys", {"name": "ci"}, status=201)


async def test_a_key_for_one_service_never_opens_more_once_that_is_gone(installed: Installed) -> None:
    await installed.serving()
    made = await installed.post("/keys", {"name": "some", "services": ["web"]}, status=201)
    await installed.api.delete("/services/web")
    await installed.deploy("web")
    (key,) = (await installed.agent.desired()).keys
    assert key.id == made["id"]
    assert key.services is not None
    assert (await installed.get("/services/web"))["id"] not in key.services


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"name": "ci"}, 409, "name_taken"),
        ({"name": "x", "services": ["nobody"]}, 400, "service_not_found"),
        ({"name": "a b"}, 400, "invalid"),
    ],
)
async def test_keys_that_cannot_be_made(installed: Installed, body, status, code) -> None:
    await installed.post("/keys", {"name": "ci"}, status=201)
    assert (await installed.post("/keys", body, status=status))["error"]["code"] == code


async def test_the_installation_its_site_and_what_was_served(installed: Installed) -> None:
    await installed.serving()
    installation = await installed.get("/installation")
    assert (installation["epoch"], installation["gateway"]) == (1, "127.0.0.1:8080")
    (site,) = (await installed.get("/sites"))["items"]
    assert (site["name"], site["kind"], site["country"], site["connected"]) == ("local", "on-prem", "MA", True)
    assert site["isolation_missing"] == {"cgroups": "no root"}
    assert site["applied_generation"] == site["desired_generation"]
    (usage,) = (await installed.get("/usage"))["items"]
    assert (usage["service"], usage["requests"]) == ("web", 0)
