"""Projects keep names and keys apart, and a quota is the most that one may have."""

from __future__ import annotations

from typing import Any

import pytest
from installed import Installed, request

GIB = 2**30
LIMITED = {"resources": {"cpu": 1, "memory": "1Gi"}}


def source(number: int) -> str:
    return "sha256:" + f"{number:064x}"


async def deploy(installed: Installed, name: str, *, project: str = "team", status: int = 202, **config: Any) -> Any:
    body = request(**config)
    answer = await installed.api.post(f"/services/{name}/deploys", json=body, params={"project": project})
    assert answer.status_code == status, answer.text
    return answer.json()


async def team(installed: Installed, **quota: Any) -> None:
    await installed.post("/projects", {"name": "team"}, status=201)
    if quota:
        await installed.post("/projects/team/quota", quota)


async def use(installed: Installed) -> dict[str, Any]:
    return (await installed.get("/projects/team"))["use"]


# --- projects ---------------------------------------------------------------------------------------------------------


async def test_a_name_belongs_to_its_project(installed: Installed) -> None:
    await team(installed)
    await installed.agent.report()
    await installed.deploy("web")
    theirs = await deploy(installed, "web")
    assert theirs["service"]["host"] == "web--team.localhost"
    assert [one["name"] for one in (await installed.get("/services", project="team"))["items"]] == ["web"]
    assert (await installed.get("/services/web", project="team"))["id"] == theirs["service"]["id"]
    await installed.api.delete("/services/web", params={"project": "team"})
    assert (await installed.get("/services/web"))["project"] == "default"


async def test_projects_are_listed_page_by_page(installed: Installed) -> None:
    for name in ("oud", "ney"):
        await installed.post("/projects", {"name": name}, status=201)
    first = await installed.get("/projects", limit=2)
    rest = await installed.get("/projects", limit=2, cursor=first["next"])
    assert [one["name"] for one in (*first["items"], *rest["items"])] == ["default", "ney", "oud"]
    assert rest["next"] is None
    assert first["items"][0]["quota"] == dict.fromkeys(("services", "replicas", "cpu", "memory", "disk"))


@pytest.mark.parametrize("name", ["Team", "a--b", "-a", "kasbah", "../x", "a b", "x" * 41])
async def test_what_cannot_be_a_projects_name(installed: Installed, name: str) -> None:
    refused = await installed.post("/projects", {"name": name}, status=400)
    assert refused["error"]["param"] == "name"


async def test_a_project_that_is_there(installed: Installed) -> None:
    refused = await installed.post("/projects", {"name": "default"}, status=409)
    assert refused["error"]["code"] == "name_taken"
    answer = await installed.api.get("/services", params={"project": "nowhere"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "project_not_found")


async def test_a_host_no_resolver_would_look_up_is_refused(installed: Installed) -> None:
    await installed.post("/projects", {"name": "p" * 40}, status=201)
    refused = await deploy(installed, "s" * 22, project="p" * 40, status=400)
    assert "64 characters" in refused["error"]["message"]
    await deploy(installed, "s" * 21, project="p" * 40)


async def test_a_project_is_deleted_once_it_is_empty(installed: Installed) -> None:
    await team(installed)
    await deploy(installed, "web")
    key = await installed.api.post("/keys", json={"name": "me"}, params={"project": "team"})
    assert key.status_code == 201
    secret = await installed.api.put("/secrets/word", json={"value_base64": "eA=="}, params={"project": "team"})
    assert secret.is_success, secret.text
    refused = await installed.api.delete("/projects/team")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "project_not_empty")
    assert "web" in refused.json()["error"]["message"]
    await installed.api.delete("/services/web", params={"project": "team"})
    before = await installed.get("/projects/team")
    assert (await installed.api.delete("/projects/team")).status_code == 204
    assert (await installed.api.get("/projects/team")).status_code == 404
    assert (await installed.agent.desired()).keys == (), "its key opens nothing any more"
    again = await installed.post("/projects", {"name": "team"}, status=201)
    assert again["id"] != before["id"]
    assert (await installed.api.get("/keys", params={"project": "team", "revoked": True})).json()["items"] == []


async def test_the_default_project_stays(installed: Installed) -> None:
    refused = await installed.api.delete("/projects/default")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "default_project")


async def test_only_owners_change_projects(installed: Installed) -> None:
    made = await installed.post("/tokens", {"name": "dev", "grants": [{"role": "deployer"}]}, status=201)
    headers = {"authorization": f"Bearer {made['token']}"}
    for path, body in (
        ("/projects", {"name": "x"}),
        ("/projects/default/quota", {}),
        ("/gc", {}),
        ("/sites/local/gc-door", {}),
    ):
        answer = await installed.api.post(path, json=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "action_missing"), path
    assert (await installed.api.get("/projects", headers=headers)).status_code == 200


# --- quotas -----------------------------------------------------------------------------------------------------------


async def test_what_is_used_is_what_may_come_to_be_used(installed: Installed) -> None:
    await team(installed)
    await installed.agent.report()
    await deploy(installed, "web", scaling={"max": 3}, **LIMITED)
    await deploy(installed, "free", source=source(1))
    assert await use(installed) == {
        "services": 2,
        "replicas": 4,
        "cpu": 3.0,
        "memory": 3 * GIB,
        "disk": 2_000,
        "without_cpu_limit": ["free"],
        "without_memory_limit": ["free"],
    }


@pytest.mark.parametrize(
    ("quota", "config", "param", "words", "hint"),
    [
        ({"services": 1}, {}, "services", "may have 1 service: it has 1 service, and this makes 2 services", "delete"),
        ({"replicas": 2}, {"scaling": {"max": 2}}, "replicas", "2 replicas: it has 1 replica, and this makes 3", "max"),
        ({"cpu": 1.5}, LIMITED, "cpu", "1.5 CPUs: it has 1 CPU, and this makes 2 CPUs", "resources.cpu"),
        ({"cpu": 8}, {}, "cpu", "this makes 1 replica without limit on cpu", "give each replica a limit"),
        ({"memory": GIB}, LIMITED, "memory", "1Gi of memory, and this makes 2Gi of memory", "resources.memory"),
        (
            {"disk": 1_500},
            {},
            "disk",
            "1.5Ki of disk: it has 1000B of disk, and this makes 2.0Ki",
            "kasbah gc --keep 1",
        ),
    ],
)
async def test_a_quota_refuses_a_deploy_and_its_plan_says_so(
    installed: Installed, quota, config, param, words, hint
) -> None:
    await team(installed)
    await installed.agent.report()
    await deploy(installed, "first", **LIMITED)
    await installed.post("/projects/team/quota", quota)
    body = {"name": "second", "source": source(2), **config}
    refused = (await deploy(installed, status=429, **body))["error"]
    assert (refused["code"], refused["param"]) == ("quota_exceeded", param)
    assert words in refused["message"]
    assert hint in refused["hint"]
    name = body.pop("name")
    planned = await installed.api.post(f"/services/{name}/plan", json=request(**body), params={"project": "team"})
    (shown,) = planned.json()["refused"]
    assert (shown["quota"], shown["reason"]) == (param, refused["message"])
    assert [one["name"] for one in (await installed.get("/services", project="team"))["items"]] == ["first"]


async def test_a_quota_is_its_projects_alone(installed: Installed) -> None:
    await team(installed, services=0)
    await deploy(installed, "web", status=429)
    await installed.deploy("web")


async def test_scaling_is_asked_too(installed: Installed) -> None:
    await installed.post("/projects/default/quota", {"replicas": 3})
    await installed.serving()
    await installed.post("/services/web/scale", {"max": 3})
    refused = await installed.post("/services/web/scale", {"max": 4}, status=429)
    assert refused["error"]["param"] == "replicas"
    assert (await installed.get("/services/web"))["scaling"]["max"] == 3
    await installed.post("/services/web/scale", {"max": 1})


@pytest.mark.parametrize("what", ["replicas", "cpu", "services", "disk"])
async def test_a_quota_below_what_is_used_is_refused_with_who_uses_it(installed: Installed, what: str) -> None:
    await team(installed)
    await installed.agent.report()
    await deploy(installed, "web", scaling={"max": 3}, **LIMITED)
    refused = (await installed.post("/projects/team/quota", {what: 0}, status=409))["error"]
    assert (refused["code"], refused["param"]) == ("quota_below_use", what)
    assert "web" in refused["message"]
    assert (await installed.get("/projects/team"))["quota"][what] is None


async def test_a_forced_quota_stops_nothing_and_lets_nothing_grow(installed: Installed) -> None:
    await installed.serving(scaling={"max": 3})
    await installed.post("/projects/default/quota", {"replicas": 1, "cpu": 2}, status=409)
    shown = await installed.post("/projects/default/quota", {"replicas": 1, "cpu": 2, "force": True})
    assert (shown["quota"]["replicas"], shown["use"]["replicas"]) == (1, 3)
    await installed.post("/services/web/scale", {"max": 4}, status=429)
    made = await installed.deploy(env={"A": "b"}, scaling={"max": 3})
    assert made["created"], "what stays as large as it is may change"
    await installed.post("/services/web/scale", {"max": 2})
    await installed.post("/services/web/scale", {"max": 3}, status=429)


async def test_limits_are_set_one_by_one_and_lifted(installed: Installed) -> None:
    await team(installed, services=3, memory=GIB)
    shown = await installed.post("/projects/team/quota", {"services": None, "cpu": 0.5})
    assert shown["quota"] == {"services": None, "replicas": None, "cpu": 0.5, "memory": GIB, "disk": None}


@pytest.mark.parametrize("quota", [{"services": -1}, {"cpu": "x"}, {"memory": 2**60}, {"gpus": 1}, {"replicas": 1.5}])
async def test_quotas_that_cannot_be(installed: Installed, quota: dict[str, Any]) -> None:
    refused = await installed.post("/projects/default/quota", quota, status=400)
    assert refused["error"]["param"] == next(iter(quota))


async def test_what_replaces_a_revision_counts_the_larger_until_it_has_the_traffic(installed: Installed) -> None:
    await installed.post("/projects/default/quota", {"cpu": 2})
    await installed.serving(resources={"cpu": 2})
    cpu = {"resources": {"cpu": 1}, "rollout": {"watch": "0s"}}
    made = await installed.deploy(**cpu)
    assert (await installed.get("/projects/default"))["use"]["cpu"] == 2.0
    await installed.agent.prove("web")
    await installed.ended(made["rollout"])
    assert (await installed.get("/projects/default"))["use"]["cpu"] == 1.0
    refused = await installed.post("/services/other/deploys", request(resources={"cpu": 1.5}), status=429)
    assert refused["error"]["param"] == "cpu"
    # The way back is asked for as well, once its place was given away.
    await installed.post("/services/other/deploys", request(**cpu), status=202)
    refused = await installed.post("/services/web/rollback", status=429)
    assert refused["error"]["param"] == "cpu"


# --- what is kept -----------------------------------------------------------------------------------------------------


async def test_a_full_disk_is_emptied_of_older_revisions(installed: Installed) -> None:
    await installed.post("/projects/default/quota", {"disk": 3_000})
    for number in range(3):
        await installed.serving(source=source(number), rollout={"watch": "0s"})
    await installed.post("/services/web/deploys", request(source=source(9)), status=429)
    looked = await installed.post("/gc", {"keep": 1, "dry_run": True})
    assert (looked["kind"], looked["count"]) == ("revisions", 3)
    assert looked["freed"] > 0
    freed = await installed.post("/gc", {"keep": 1})
    assert freed["freed"] == looked["freed"]
    assert freed["count"] == 3 - freed["freed"]
    await installed.post("/services/web/deploys", request(source=source(9)), status=202)
    assert (await installed.get("/services/web"))["revision"], "what serves was kept"


async def test_the_eleventh_deploy_fits_where_ten_sources_do(installed: Installed) -> None:
    await installed.post("/projects/default/quota", {"disk": 10_000})
    for number in range(12):
        await installed.deploy(source=source(number))


async def test_revisions_of_deleted_services_are_freed(installed: Installed) -> None:
    await installed.serving()
    await installed.api.delete("/services/web")
    assert (await installed.post("/gc"))["freed"] == 1
    assert (await installed.post("/gc")) == {
        "kind": "revisions",
        "count": 0,
        "bytes": None,
        "freed": 0,
        "freed_bytes": None,
    }


async def test_what_is_rolled_out_is_never_freed(installed: Installed) -> None:
    await installed.serving()
    made = await installed.deploy(source=source(5), rollout={"watch": "0s"})
    assert (await installed.post("/gc", {"keep": 1}))["freed"] == 0
    await installed.agent.prove("web")
    assert (await installed.ended(made["rollout"]))["state"] == "done"


async def test_a_sites_door_to_free_what_it_keeps(installed: Installed) -> None:
    away = await installed.api.post("/sites/local/gc-door")
    assert (away.status_code, away.json()["error"]["code"]) == (503, "site_away")
    await installed.agent.report()
    door = await installed.post("/sites/local/gc-door")
    assert (door["host"], door["path"]) == ("kasbah.localhost", "/v1/gc")
    unknown = await installed.api.post("/sites/nowhere/gc-door")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "site_not_found")
