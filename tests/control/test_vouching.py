"""A deploy that sites would refuse for its signature is refused where its deployer sees it, with what helps."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from deployers import signature
from installed import SOURCE, START, Installed, request

from kasbah.api.attesting import contents_of, digest_of, read_contents, revision_of
from kasbah.api.manifest import ResolvedService
from kasbah.api.owner import DEPLOYER, load, sign_document
from kasbah.api.signing import public_text
from kasbah.clock import ManualClock
from kasbah.control.app import build
from kasbah.domain.desired import DesiredState
from kasbah.domain.grant import Deployer, GrantKind
from kasbah.domain.ids import InstallationId
from kasbah.domain.label import Level
from kasbah.settings import ControlSettings

ANNE = Ed25519PrivateKey.generate()
INTERNAL = {"level": "internal"}
OTHER = "sha256:" + "b" * 64


def unsigned(**config: Any) -> dict[str, Any]:
    return {**request(**config), "attested": None}


async def by(installed: Installed, key: Ed25519PrivateKey, **config: Any) -> dict[str, Any]:
    """A deploy that this key signed."""
    body = request(**config)
    resolved = ResolvedService.model_validate(body["config"])
    projects = (await installed.get("/projects"))["items"]
    said = signature(
        key,
        revision_of(resolved, body["source"], body["source_size"]),
        installation=(await installed.get("/installation"))["id"],
        project=next(one["id"] for one in projects if one["name"] == "default"),
        service="web",
        at=installed.clock.now(),
        label=resolved.label,
    )
    return {**body, "attested": said}


async def name(installed: Installed, key: Ed25519PrivateKey, *, status: int = 201, **more: Any) -> Any:
    """Have the owner name the holder of a key."""
    document = Deployer(
        installation=InstallationId((await installed.get("/installation"))["id"]),
        name="anne",
        key=public_text(key),
        evidence="she runs the claims",
        issued_at=installed.clock.now(),
        expires_at=installed.clock.now() + timedelta(days=30),
        **more,
    )
    signed = sign_document(installed.owner, DEPLOYER, document)
    return await installed.post("/policy/grants", {"kind": GrantKind.DEPLOYER, **asdict(signed)}, status=status)


async def told(installed: Installed) -> DesiredState:
    found = await installed.agent.desired()
    assert found is not None
    return found


async def test_sensitive_data_needs_a_signature_and_the_refusal_says_how(installed: Installed) -> None:
    for path in ("deploys", "plan"):
        refused = (await installed.post(f"/services/web/{path}", unsigned(), status=403))["error"]
        assert refused["code"] == "not_signed_by_deployer"
        assert "no deployer has signed it" in refused["message"]
        assert "kasbah deployers key" in refused["hint"]
    await installed.post("/services/web/deploys", unsigned(data=INTERNAL), status=202)


async def test_whom_the_owner_has_not_named_is_shown_the_command_that_names_him(installed: Installed) -> None:
    refused = (await installed.post("/services/web/deploys", await by(installed, ANNE), status=403))["error"]
    assert f"kasbah deployers add NAME --key {public_text(ANNE)}" in refused["hint"]
    await name(installed, ANNE, max_level=Level.RESTRICTED)
    refused = (await installed.post("/services/web/deploys", await by(installed, ANNE), status=403))["error"]
    assert "its deployer anne is not named for this project and data of level 3" in refused["message"]
    made = await name(installed, ANNE)
    assert (made["kind"], made["name"], made["key"], made["in_force"]) == ("deployer", "anne", public_text(ANNE), True)
    await installed.post("/services/web/deploys", await by(installed, ANNE), status=202)


async def test_what_was_signed_is_told_to_the_site_beside_grants_that_older_agents_know(installed: Installed) -> None:
    await installed.agent.report()
    await installed.deploy()
    found = await told(installed)
    ((service,), (attested,)) = found.services, found.attestations
    assert (attested.service, attested.revision) == (service.id, service.revisions[0].id)
    contents = digest_of(contents_of(service.revisions[0]))
    assert contents in attested.attested.signed.document
    assert len(found.deployers) == 1
    assert found.grants == ()


async def test_explain_says_who_signed_and_what_another_site_would_miss(installed: Installed) -> None:
    await installed.serving()
    found = await installed.get("/services/web/explain")
    assert (found["deployer"], found["unsigned"]) == ("local", "")
    (grant,) = (await installed.get("/policy/grants"))["items"]
    assert (await installed.api.delete(f"/policy/grants/{grant['id']}")).status_code == 200
    found = await installed.get("/services/web/explain")
    assert found["deployer"] == ""
    assert "or no more" in found["unsigned"]
    assert (await told(installed)).deployers == ()


async def test_what_sites_took_is_deployed_again_by_anybody_and_nothing_new_is(installed: Installed) -> None:
    await installed.serving()
    (grant,) = (await installed.get("/policy/grants"))["items"]
    await installed.api.delete(f"/policy/grants/{grant['id']}")
    again = await installed.post("/services/web/deploys", unsigned(scaling={"max": 3}), status=202)
    assert again["created"] is False
    await installed.post("/services/web/deploys", unsigned(source=OTHER), status=403)
    await installed.post("/services/web/deploys", request(source=OTHER), status=403)


async def test_what_was_taken_for_less_is_signed_before_its_label_rises(installed: Installed) -> None:
    await installed.agent.report()
    await installed.post("/services/web/deploys", unsigned(data=INTERNAL), status=202)
    await installed.agent.prove("web")
    sensitive = {"level": "sensitive"}
    await installed.post("/services/web/deploys", unsigned(data=sensitive), status=403)
    same = await installed.post("/services/web/deploys", request(data=sensitive), status=202)
    assert same["created"] is False
    assert len((await told(installed)).attestations) == 1


async def test_the_first_label_of_what_nobody_labelled_is_signed(installed: Installed) -> None:
    await installed.serving()
    refused = await installed.post("/services/web/deploys", unsigned(data=INTERNAL), status=403)
    assert refused["error"]["code"] == "not_signed_by_deployer"
    await installed.post("/services/web/deploys", request(data=INTERNAL), status=202)


async def test_another_environment_is_another_revision_and_signed_as_one(installed: Installed) -> None:
    await installed.serving(env={"A": "1"})
    refused = await installed.post("/services/web/env", {"set": {"A": "2"}, "attested": None}, status=403)
    assert refused["error"]["code"] == "not_signed_by_deployer"
    current = await installed.get("/services/web/env")
    assert dict(read_contents(current["contents"]).env) == {"A": "1"}
    assert current["attested"]["key"] == public_text(load(installed.control.folder.deployer_key))
    rollout = await installed.post("/services/web/env", {"set": {"A": "2"}}, status=202)
    assert rollout["revision"] != current["revision"]


async def test_new_values_of_secrets_need_nobody(installed: Installed) -> None:
    await installed.api.put("/secrets/db", json={"value_base64": "b25l"})
    await installed.serving(secrets={"DB": "db"})
    await installed.api.put("/secrets/db", json={"value_base64": "dHdv"})
    rollout = await installed.post("/services/web/env", {"attested": None}, status=202)
    found = [one for one in (await told(installed)).attestations if one.revision == rollout["revision"]]
    assert len(found) == 1, "its contents are those that were signed"


async def test_the_same_deploy_again_tells_sites_nothing_new(installed: Installed) -> None:
    await installed.serving()
    before = (await told(installed)).version
    installed.clock.advance(timedelta(minutes=1))
    again = await installed.post("/services/web/deploys", await by_local(installed), status=202)
    assert again["created"] is False
    assert (await told(installed)).version == before


async def by_local(installed: Installed) -> dict[str, Any]:
    return await by(installed, load(installed.control.folder.deployer_key), source=SOURCE)


async def test_a_naming_that_is_not_sound_is_not_taken(installed: Installed) -> None:
    refused = await name(installed, ANNE, projects=("pr-nobody",), status=400)
    assert "nothing here is pr-nobody" in refused["error"]["message"]


def test_a_start_beside_the_owner_s_key_names_its_deployer_again_once_half_of_the_time_is_over(tmp_path: Path) -> None:
    def start(days: float) -> list[tuple[str, str]]:
        clock = ManualClock(START + timedelta(days=days))
        control = build(ControlSettings(data_dir=tmp_path), clock)
        with control.office.read() as work:
            found = [(one.name, one.key) for one in work.law.grants.deployers]
        control.close()
        return found

    first = start(0)
    assert [one for one, _ in first] == ["local"]
    assert start(100) == first
    assert start(200) == first * 2, "the old one has not ended yet"
    (tmp_path / "owner.key").unlink()
    (tmp_path / "deployer.key").unlink()
    assert start(400) == first
    assert not (tmp_path / "deployer.key").exists()
    assert start(700) == []
