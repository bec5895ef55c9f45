"""Who may do what, and that nothing secret is kept or told."""

from __future__ import annotations

import pytest
from installed import Installed, request

READS = ("/installation", "/services", "/sites", "/usage")


async def token(installed: Installed, *scopes: str) -> dict[str, str]:
    made = await installed.post("/tokens", {"name": "-".join(scopes) + "x", "scopes": list(scopes)}, status=201)
    return {"authorization": f"Bearer {made['token']}"}


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


@pytest.mark.parametrize(
    ("scope", "method", "path", "allowed"),
    [
        ("read", "GET", "/services", True),
        ("read", "POST", "/services/web/plan", True),
        ("read", "POST", "/services/web/deploys", False),
        ("read", "GET", "/keys", False),
        ("deploy", "GET", "/services", True),
        ("deploy", "POST", "/services/web/deploys", True),
        ("deploy", "DELETE", "/services/web", True),
        ("deploy", "POST", "/keys", False),
        ("deploy", "GET", "/tokens", False),
        ("keys", "GET", "/keys", True),
        ("keys", "GET", "/services", False),
        ("keys", "POST", "/tokens", False),
        ("admin", "GET", "/tokens", True),
        ("admin", "POST", "/services/web/deploys", True),
    ],
)
async def test_a_token_may_what_its_scope_says(installed: Installed, scope, method, path, allowed) -> None:
    headers = await token(installed, scope)
    body = {"json": request()} if method == "POST" else {}
    answer = await installed.agent.client.request(method, f"/api/v1{path}", headers=headers, **body)
    assert (answer.status_code != 403) is allowed
    if not allowed:
        assert answer.json()["error"]["code"] == "scope_missing"
        assert answer.status_code == 403


async def test_a_revoked_token_is_worth_nothing(installed: Installed) -> None:
    headers = await token(installed, "read")
    assert (await installed.agent.client.get("/api/v1/services", headers=headers)).status_code == 200
    assert (await installed.api.delete("/tokens/readx")).status_code == 200
    assert (await installed.agent.client.get("/api/v1/services", headers=headers)).status_code == 401


async def test_the_last_administrator_stays(installed: Installed) -> None:
    refused = await installed.api.delete("/tokens/admin")
    assert refused.json()["error"]["code"] == "last_admin"
    await token(installed, "admin")
    assert (await installed.api.delete("/tokens/admin")).status_code == 200


async def test_an_unknown_scope_is_refused(installed: Installed) -> None:
    refused = await installed.post("/tokens", {"name": "x", "scopes": ["read", "root"]}, status=400)
    assert refused["error"]["param"] == "scopes.1"
    assert "admin" in refused["error"]["hint"]


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
    secrets.append((await installed.post("/tokens", {"name": "a", "scopes": ["read"]}, status=201, **headers))["token"])
    headers = {"idempotency-key": "thrice"}
    deploy = await installed.post("/services/web/deploys", request(), status=202, **headers)
    secrets.append(deploy["upload"]["ticket"])
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
