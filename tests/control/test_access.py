"""Who may do what, asked of the real API: every route by every role; and that nothing secret is kept or told."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest
from access_table import MAY, OF_THE_INSTALLATION
from api_routes import api_routes
from holder import Holder
from installed import Installed, request

from kasbah.control.http.call import anywhere, declared, some_project, the_rollout, the_token
from kasbah.domain.observed import BuildState, TrialState

READS = ("/installation", "/services", "/sites", "/usage")


# --- every route ------------------------------------------------------------------------------------------------------


ROUTES = api_routes()
GHOSTS = {
    "key": "ghost",
    "site": "ghost",
    "version": "1",
    "grant": "ghost",
    "sequence": "0",
    "number": "0",
    "log": "ghost",
}
REFUSED = frozenset({"action_missing", "label_ceiling", "software_may_not", "access_undecided"})


def expected(role: str, where: str, label: str) -> str:
    """What becomes of a call about the project `own`: allowed, refused, or not found."""
    (asked,) = declared(ROUTES[label])
    has, action = asked.action.value in MAY[role], asked.action.value
    if action == "installation.read":
        return "allowed"
    if action in OF_THE_INSTALLATION:
        return "allowed" if has and where == "everywhere" else "refused"
    if asked.target in (anywhere, some_project):
        return "allowed" if has else "refused"
    if where == "other" and (has or asked.target not in (the_rollout, the_token)):
        return "not found"
    if where == "other" and asked.target is the_rollout:
        return "not found"
    return "allowed" if has else "refused"


@pytest.mark.parametrize("where", ["everywhere", "own", "other"])
@pytest.mark.parametrize("role", MAY)
async def test_every_route_asks_for_its_action(
    installed: Installed, admin: Holder, projects: dict[str, str], role: str, where: str
) -> None:
    scope = {} if where == "everywhere" else {"project": where}
    holder = await admin.make("holder", {"role": role, **scope})
    target = await admin.make("target", {"role": "auditor", "project": "own"})
    names = {"name": "ghost", "rollout_id": projects["own"], "token": target.id, **GHOSTS}
    wrong = {}
    for label, route in ROUTES.items():
        method, path = label.split()
        of_projects = path.startswith("/api/v1/projects/")
        filled = path.format(**names | ({"name": "own"} if of_projects else {})).removeprefix("/api/v1")
        asks_project = any(one.alias == "project" for one in route.dependant.query_params)
        given = {"params": {"project": "own"}} if asks_project and filled != "/services" else {}
        answer = await holder.ask(method, filled, **given, **({"json": {}} if method in ("POST", "PUT") else {}))
        found = outcome(answer, projects["own"], target.id)
        if found != expected(role, where, label):
            wrong[label] = f"{found}, and not {expected(role, where, label)}: {answer.status_code} {answer.text}"
    assert not wrong


def outcome(answer: httpx.Response, *hidden: str) -> str:
    assert answer.status_code != 401, answer.text
    error = {} if answer.is_success else answer.json()["error"]
    if error.get("code") in REFUSED:
        return "refused"
    missing = error.get("code") == "not_found" and any(one in error["message"] for one in hidden)
    return "not found" if error.get("code") == "project_not_found" or missing else "allowed"


async def test_whoever_was_granted_nothing_may_nothing(installed: Installed, admin: Holder) -> None:
    """Such a token cannot be made, but it can come about: its project was deleted."""
    await installed.post("/projects", {"name": "gone"}, status=201)
    holder = await admin.make("holder", {"role": "owner", "project": "gone"})
    assert (await installed.api.delete("/projects/gone")).status_code == 204
    for label in ROUTES:
        method, path = label.split()
        filled = path.format(name="default", rollout_id="ro-1", token="admin", **GHOSTS).removeprefix("/api/v1")
        answer = await holder.ask(method, filled, json={})
        seen = [] if answer.is_error else [one["name"] for one in answer.json().get("items", [])]
        assert seen == (["holder"] if label == "GET /api/v1/tokens" else []), label
        assert answer.is_error or method == "GET", label
    refused = await installed.api.post("/tokens", json={"name": "x", "grants": []})
    assert refused.status_code == 400
    refused = await installed.api.post("/tokens", json={"name": "x", "grants": [{"project": "default"}]})
    assert "grants nothing" in refused.json()["error"]["message"]


# --- what may be seen -------------------------------------------------------------------------------------------------


async def test_another_s_project_is_told_as_one_that_is_not_there(projects: dict[str, str], admin: Holder) -> None:
    holder = await admin.make("holder", {"role": "owner", "project": "own"})
    for path in (
        "/services/web?project={}",
        "/keys?project={}",
        "/secrets?project={}",
        "/projects/{}",
        "/usage?project={}",
    ):
        there, nowhere = [(await holder.ask("GET", path.format(one))) for one in ("other", "ghost")]
        assert there.status_code == nowhere.status_code == 404
        a, b = there.json()["error"], nowhere.json()["error"]
        del a["request_id"], b["request_id"]
        assert str(a).replace("other", "ghost") == str(b)


async def test_lists_show_what_one_may_see(installed: Installed, projects: dict[str, str], admin: Holder) -> None:
    await installed.post("/services/open/deploys?project=own", request(data={"level": "public"}), status=202)
    holder = await admin.make("holder", {"role": "owner", "project": "own"})
    low = await admin.make("low", {"role": "deployer", "project": "own"}, max_level="internal")

    async def named(who: Holder, path: str, field: str = "name") -> list[str]:
        return [one[field] for one in (await who.ask("GET", path)).json()["items"]]

    assert await named(holder, "/services") == ["open", "web"]
    assert await named(holder, "/services", "project") == ["own", "own"]
    assert await named(holder, "/projects") == ["own"]
    assert await named(holder, "/tokens") == ["holder", "low"]
    assert await named(low, "/services") == ["open"]
    assert await named(low, "/usage?project=own", "service") == ["open"]
    assert sorted(await named(admin, "/services", "project")) == ["other", "own", "own"]
    assert len(await named(admin, "/tokens")) == 3


async def test_pages_are_whole_where_most_is_hidden(
    installed: Installed, projects: dict[str, str], admin: Holder
) -> None:
    for number in range(12):
        project = "own" if number % 3 == 0 else "other"
        await installed.post(f"/services/s{number:02}/deploys?project={project}", request(), status=202)
    holder = await admin.make("holder", {"role": "auditor", "project": "own"})
    found: list[str] = []
    cursor, pages = "", 0
    while True:
        page = (await holder.ask("GET", f"/services?limit=2{cursor}")).json()
        found += [one["name"] for one in page["items"]]
        pages += 1
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert (found, pages) == (["s00", "s03", "s06", "s09", "web"], 3)


async def test_what_is_said_twice_is_asked_about_as_it_is_done(projects: dict[str, str], admin: Holder) -> None:
    """A query that names two projects: the one that is asked about is the one that is looked at."""
    holder = await admin.make("holder", {"role": "owner", "project": "own"})
    told = {
        query: await holder.code("GET", f"/services/web?{query}")
        for query in ("project=own&project=other", "project=other&project=own")
    }
    assert sorted(told.values()) == ["404 project_not_found", "ok"]
    (fine,) = [query for query, code in told.items() if code == "ok"]
    assert (await holder.ask("GET", f"/services/web?{fine}")).json()["project"] == "own"


# --- the ceiling ------------------------------------------------------------------------------------------------------


async def test_a_service_above_the_ceiling_is_refused_with_the_reason(
    installed: Installed, projects: dict[str, str], admin: Holder
) -> None:
    holder = await admin.make("holder", {"role": "deployer", "project": "own"}, max_level="internal")
    for method, path in (
        ("GET", "/services/web?project=own"),
        ("POST", "/services/web/wake?project=own"),
        ("POST", "/services/web/log-door?project=own"),
        ("DELETE", "/services/web?project=own"),
        ("GET", f"/rollouts/{projects['own']}"),
    ):
        assert await holder.code(method, path) == "403 label_ceiling", path
    lowered = request(data={"level": "public"})
    for path in ("deploys", "plan"):
        assert await holder.code("POST", f"/services/web/{path}?project=own", json=lowered) == "403 label_ceiling"
    assert await holder.code("POST", "/services/new/deploys?project=own", json=lowered) == "ok"
    refused = await holder.ask("POST", "/services/vault/deploys?project=own", json=request(data={"level": "vital"}))
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (403, "label_ceiling")
    assert "label is above" in error["message"]
    unlabelled = request()
    assert await holder.code("POST", "/services/new/deploys?project=own", json=unlabelled) == "403 label_ceiling"
    dry = "/services/vault/deploys?project=own&dry_run=true"
    assert await holder.code("POST", dry, json=request(data={"level": "vital"})) == "403 label_ceiling"


async def test_what_calls_a_service_above_the_ceiling_is_refused(
    installed: Installed, projects: dict[str, str], admin: Holder
) -> None:
    holder = await admin.make("holder", {"role": "deployer", "project": "own"}, max_level="internal")
    through = request(data={"level": "public"}, calls=["web"])
    assert await holder.code("POST", "/services/front/deploys?project=own", json=through) == "403 label_ceiling"


async def test_a_declassification_that_ended_lowers_nothing_for_a_ceiling(installed: Installed, admin: Holder) -> None:
    await installed.deploy("claims", data={"level": "restricted"})
    await installed.declassify("claims", days=1, level="internal")
    await installed.deploy("claims", data={"level": "internal"})
    holder = await admin.make("holder", {"role": "deployer"}, max_level="internal")
    assert await holder.code("GET", "/services/claims") == "ok"
    installed.clock.advance(timedelta(days=2))
    for method, path in (("GET", "/services/claims"), ("POST", "/services/claims/log-door")):
        assert await holder.code(method, path) == "403 label_ceiling"
    assert (await holder.ask("GET", "/services")).json()["items"] == []


async def test_what_was_printed_last_is_shown_to_who_may_read_logs(installed: Installed, admin: Holder) -> None:
    await installed.agent.report()
    made = await installed.deploy("claims")
    service = await installed.agent.service("claims")
    await installed.agent.say(
        service, BuildState.BUILT, TrialState.FAILED, reason="exited with code 3", tail=("a patient's record",)
    )
    await installed.ended(made["rollout"])
    paths = ("/services/claims", "/services/claims/revisions", f"/rollouts/{made['rollout']['id']}")
    for role, reads in (("owner", True), ("deployer", True), ("operator", False), ("auditor", False)):
        holder = await admin.make(role, {"role": role})
        for path in paths:
            shown = (await holder.ask("GET", path)).text
            assert ("a patient's record" in shown) is reads, (role, path)
            assert "exited with code 3" in shown


# --- tokens and secrets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer kst_wrong", "Basic abc", "bearer  "], ids=lambda one: repr(one)
)
async def test_without_a_known_token_nothing_is_told(installed: Installed, header: str | None) -> None:
    headers = {"authorization": header} if header is not None else {}
    for path in (*READS, "/services/web", "/rollouts/ro-1", "/keys", "/tokens"):
        answer = await installed.agent.client.get(f"/api/v1{path}", headers=headers)
        assert answer.status_code == 401, path
        assert answer.json()["error"]["code"] == "unauthenticated"
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_each_door_opens_for_its_own_tokens_only(installed: Installed) -> None:
    site = {"authorization": f"Bearer {installed.agent.token}"}
    assert (await installed.agent.client.get("/api/v1/services", headers=site)).status_code == 401
    admin = {"authorization": installed.api.headers["authorization"], "x-kasbah-protocol": "1"}
    assert (await installed.agent.client.get("/agent/v1/desired", headers=admin)).status_code == 401


async def test_no_secret_is_in_the_store(installed: Installed) -> None:
    """Whatever the files of the database hold, no secret is among it; nor is a ticket."""
    await installed.agent.report()
    secrets = [installed.agent.token, installed.api.headers["authorization"].removeprefix("Bearer ")]
    headers = {"idempotency-key": "once"}
    secrets.append((await installed.post("/keys", {"name": "a"}, status=201, **headers))["key"])
    headers = {"idempotency-key": "twice"}
    body = {"name": "a", "grants": [{"role": "auditor"}]}
    secrets.append((await installed.post("/tokens", body, status=201, **headers))["token"])
    headers = {"idempotency-key": "thrice"}
    deploy = await installed.post("/services/web/deploys", request(), status=202, **headers)
    secrets.append(deploy["uploads"][0]["ticket"])
    files = [path for path in installed.control.folder.root.iterdir() if path.name.startswith("kasbah.db")]
    stored = b"".join(path.read_bytes() for path in files)
    assert b"thrice" in stored  # so that this looks where things are
    assert [one for one in secrets if one.encode() in stored] == []


async def test_the_secret_files_are_for_their_owner_only(installed: Installed) -> None:
    folder = installed.control.folder
    for path in (folder.admin_token, folder.site_token, folder.signing_key):
        assert path.stat().st_mode & 0o777 == 0o600, path


async def test_health_needs_no_token(installed: Installed) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        assert (await installed.agent.client.get(path)).status_code == 200


async def test_metrics_count_by_template_and_name_no_service(installed: Installed) -> None:
    await installed.serving("secretname")
    await installed.get("/services/secretname")
    text = (await installed.agent.client.get("/metrics")).text
    counted = 'kasbah_control_requests_total{code="200",method="GET",route="/api/v1/services/{name}"} 1.0'
    assert counted in text
    assert 'kasbah_rollouts{state="done"} 1.0' in text
    assert 'kasbah_site_seen_age_seconds{site="local"} 0.0' in text
    desired = await installed.agent.desired()
    assert f'kasbah_site_desired_generation{{site="local"}} {float(desired.generation)}' in text
    assert "secretname" not in text
