"""Who may call, as deployers sign it: keys that the control plane never sees, access, and the keys of services that
sites state and it carries.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from charters import charter_of
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from deployers import signature
from fake_agent import FakeAgent
from installed import SOURCE, Installed, request

from kasbah.agent.identity import Identity as SiteFiles
from kasbah.api.attesting import revision_of
from kasbah.api.caller_keys import sign_key
from kasbah.api.manifest import ResolvedService
from kasbah.api.owner import CHARTER, load, verify_document
from kasbah.api.public import AttestationText
from kasbah.api.secret_kinds import sha256_of
from kasbah.control.store.records import SiteRecord
from kasbah.control.usecases.describe import installation_of
from kasbah.domain.caller import CallersKey, StatedKey
from kasbah.domain.charter import Charter, Signed
from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import InstallationId, ProjectId, ServiceId, SiteId
from kasbah.domain.label import Level
from kasbah.domain.service import Access

KEY = "ksb_made-elsewhere"
SHA = hashlib.sha256(KEY.encode()).hexdigest()
SENSITIVE = {"level": "sensitive"}
OTHER = "sha256:" + "b" * 64


async def signed_key(installed: Installed, key: Ed25519PrivateKey | None = None, **more: Any) -> dict[str, Any]:
    """A request for a key that was made elsewhere, with what a deployer signed of it."""
    (project,) = (await installed.get("/projects"))["items"]
    said: dict[str, Any] = {
        "installation": InstallationId((await installed.get("/installation"))["id"]),
        "project": ProjectId(project["id"]),
        "sha256": SHA,
        "services": (),
        "signed_at": installed.clock.now(),
    }
    made = sign_key(key or load(installed.control.folder.deployer_key), CallersKey(**(said | more)))
    return {"name": "a", "sha256": SHA, "attested": {"key": made.key, **asdict(made.signed)}}


async def told(agent: FakeAgent) -> DesiredState:
    found = await agent.desired()
    assert found is not None
    return found


# --- callers' keys ----------------------------------------------------------------------------------------------------


async def test_a_key_that_was_made_elsewhere_is_told_with_its_signature_and_never_shown(installed: Installed) -> None:
    body = await signed_key(installed)
    made = await installed.post("/keys", body, status=201)
    assert (made["key"], made["opens_up_to"]) == (None, "vital")
    (key,) = (await told(installed.agent)).keys
    assert key.sha256 == SHA
    assert key.attested is not None
    assert key.attested.signed.document == body["attested"]["document"]


async def test_a_key_that_nobody_signed_says_that_it_opens_nothing_sensitive(installed: Installed) -> None:
    made = await installed.post("/keys", {"name": "a"}, status=201)
    assert (len(made["key"]), made["opens_up_to"]) == (47, "restricted")
    await installed.post("/keys", {"name": "b", "max_level": "internal"}, status=201)
    await installed.post("/keys", {"name": "c", "sha256": SHA}, status=201)
    listed = (await installed.get("/keys"))["items"]
    assert [(one["name"], one["opens_up_to"]) for one in listed] == [
        ("a", "restricted"), ("b", "internal"), ("c", "restricted"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "opens"),
    [({}, "restricted"), ({"key": "local"}, "vital"), ({"key": "local", "max_level": Level.SENSITIVE}, "sensitive")],
)
async def test_what_it_opens_is_what_who_signed_is_named_for(
    installed: Installed, more: dict[str, Any], opens: str
) -> None:
    key = load(installed.control.folder.deployer_key) if more.pop("key", "") else Ed25519PrivateKey.generate()
    made = await installed.post("/keys", await signed_key(installed, key, **more), status=201)
    assert made["opens_up_to"] == opens


@pytest.mark.parametrize(
    "more",
    [
        {"sha256": "b" * 64},
        {"project": ProjectId("pr-other")},
        {"installation": InstallationId("in-other")},
        {"services": ("web",)},
    ],
)
async def test_the_signature_of_another_key_is_refused(installed: Installed, more: dict[str, Any]) -> None:
    refused = (await installed.post("/keys", await signed_key(installed, **more), status=400))["error"]
    assert (refused["code"], refused["param"]) == ("other_key", "attested")
    body = await signed_key(installed)
    body["attested"]["document"] += " "
    assert (await installed.post("/keys", body, status=400))["error"]["code"] == "other_key"
    assert (await installed.get("/keys"))["items"] == []


async def test_a_signature_without_the_sha256_that_it_is_of_is_refused(installed: Installed) -> None:
    body = {**await signed_key(installed), "sha256": None}
    assert (await installed.post("/keys", body, status=400))["error"]["code"] == "other_key"


async def test_one_key_is_made_once_though_it_was_revoked(installed: Installed) -> None:
    body = await signed_key(installed)
    await installed.post("/keys", body, status=201)
    await installed.api.delete("/keys/a")
    refused = (await installed.post("/keys", {**body, "name": "b"}, status=409))["error"]
    assert refused["code"] == "key_taken"


# --- access -----------------------------------------------------------------------------------------------------------


async def asked(installed: Installed, *, public: bool | None, source: str = SOURCE, **config: Any) -> dict[str, Any]:
    """A deploy, signed as of now, that says this of who may call."""
    body = request(source=source, data=SENSITIVE, **config)
    resolved = ResolvedService.model_validate(body["config"])
    (project,) = (await installed.get("/projects"))["items"]
    said = signature(
        load(installed.control.folder.deployer_key),
        revision_of(resolved, body["source"], body["source_size"]),
        installation=(await installed.get("/installation"))["id"],
        project=project["id"],
        service="web",
        at=installed.clock.now(),
        label=resolved.label,
        public=public,
    )
    return {**body, "attested": said}


@pytest.mark.parametrize("public", [None, False])
async def test_that_anybody_may_call_what_is_sensitive_is_signed(installed: Installed, public: bool | None) -> None:
    body = await asked(installed, public=public, access="public")
    for path in ("deploys", "plan"):
        refused = (await installed.post(f"/services/web/{path}", body, status=403))["error"]
        assert refused["code"] == "not_signed_by_deployer"
        assert "its deployer signed another access" in refused["message"]
    await installed.post("/services/web/deploys", await asked(installed, public=True, access="public"), status=202)


async def test_that_only_holders_of_keys_may_call_need_not_be_said_and_not_be_contradicted(
    installed: Installed,
) -> None:
    await installed.post("/services/web/deploys", await asked(installed, public=True), status=403)
    await installed.post("/services/web/deploys", await asked(installed, public=None), status=202)


async def test_the_newest_word_is_told_also_where_what_runs_is_as_before(installed: Installed) -> None:
    """Sites take the newest that they saw: an older one of the same code would be none."""
    for source, public in ((SOURCE, True), (OTHER, False), (SOURCE, True)):
        installed.clock.advance(timedelta(minutes=1))
        await installed.agent.report()
        access = {"access": "public"} if public else {}
        body = await asked(installed, public=public, source=source, **access)
        await installed.post("/services/web/deploys", body, status=202)
        await installed.agent.prove("web")
        found = await told(installed.agent)
        said = {one.attested.signed.document for one in found.attestations}
        assert body["attested"]["document"] in said
        assert found.services[0].access is (Access.PUBLIC if public else Access.KEY)
    again = await asked(installed, public=True, access="public")
    installed.clock.advance(timedelta(minutes=1))
    generation = (await told(installed.agent)).generation
    await installed.post("/services/web/deploys", again, status=202)
    assert (await told(installed.agent)).generation == generation, "what says the same is no news"


async def test_explain_says_where_other_sites_would_ask_for_a_key(installed: Installed) -> None:
    """As of a service that was public before that was signed."""
    await installed.serving(access="public", data=SENSITIVE)
    assert (await installed.get("/services/web/explain"))["unsigned"] == ""
    with installed.control.office.write() as work:
        (record,) = (kept for one in work.tx.services.all() for kept in work.tx.revisions.of(one.id))
        before = AttestationText.model_validate((await asked(installed, public=None))["attested"]).to_domain()
        work.tx.revisions.put(replace(record, attested=before))
    found = await installed.get("/services/web/explain")
    assert "anybody may call it: they would ask for a key" in found["unsigned"]


async def test_it_is_signed_anew_when_the_label_rises(installed: Installed) -> None:
    """Of the same code: what was signed for less is no word about what is sensitive."""
    internal = {"level": "internal"}
    await installed.serving(access="public", data=internal)
    old = (await told(installed.agent)).attestations
    installed.clock.advance(timedelta(minutes=1))
    body = await asked(installed, public=True, access="public")
    await installed.post("/services/web/deploys", body, status=202)
    (found,) = (await told(installed.agent)).attestations
    assert found.attested.signed.document == body["attested"]["document"]
    assert (found,) != old


async def test_what_sites_hold_is_opened_to_anybody_by_a_signature_alone(installed: Installed) -> None:
    await installed.serving(data=SENSITIVE)
    opened = {**request(data=SENSITIVE, access="public"), "attested": None}
    assert (await installed.post("/services/web/deploys", opened, status=403))["error"]["code"] == (
        "not_signed_by_deployer"
    )
    await installed.post("/services/web/deploys", {**request(data=SENSITIVE), "attested": None}, status=202)


# --- services' own keys -----------------------------------------------------------------------------------------------


def stated(service: ServiceId, said: str = "signed there") -> StatedKey:
    return StatedKey(service=service, key="k", signed=Signed(document=said, signature="s"))


@pytest.fixture
async def rabat(installed: Installed) -> FakeAgent:
    with installed.control.office.write() as work:
        site = SiteId("st-rabat")
        charter = charter_of(installation_of(work).id, site, "rabat", "MA")
        work.tx.sites.add(SiteRecord(id=site, name="rabat", charter=charter, token_sha256=sha256_of("kst-rabat")))
    agent = FakeAgent(client=installed.agent.client, clock=installed.clock, token="kst-rabat")
    agent.more = {"peers_address": "192.0.2.2:9443"}
    await agent.report()
    return agent


async def test_what_a_site_states_of_a_key_goes_to_the_others_where_what_is_called_passes(
    installed: Installed, rabat: FakeAgent
) -> None:
    await installed.serving("search", data={"level": "internal"})
    await installed.serving("shop", data={"level": "internal"}, calls=["search"])
    shop, search = await installed.agent.service("shop"), await installed.agent.service("search")
    for agent in (installed.agent, rabat):
        agent.more = {**agent.more, "own_keys": (stated(shop.id), stated(search.id, "it calls nobody"))}
        assert (await agent.report()).status_code == 204
    assert (await told(rabat)).own_keys == (stated(shop.id),), "the first site's"
    assert (await told(installed.agent)).own_keys == (stated(shop.id),), "of the other, and not its own"
    await installed.api.delete("/services/search")
    assert (await told(rabat)).own_keys == ()


async def test_what_it_states_anew_is_told_at_once(installed: Installed, rabat: FakeAgent) -> None:
    await installed.serving("search", data={"level": "internal"})
    await installed.serving("shop", data={"level": "internal"}, calls=["search"])
    shop = await installed.agent.service("shop")
    for said in ("first", "second"):
        installed.agent.more = {"own_keys": (stated(shop.id, said),)}
        await installed.agent.report()
        assert [one.signed.document for one in (await told(rabat)).own_keys] == [said]


async def test_a_service_is_given_a_key_that_its_site_makes(installed: Installed) -> None:
    await installed.serving("shop", calls=["search"])
    (use,) = (await installed.agent.service("shop")).revisions[0].secrets
    assert (use.variable, use.version) == ("KASBAH_KEY", 2)


# --- the first site's key ---------------------------------------------------------------------------------------------


async def certified(installed: Installed, folder: Path, *, status: int = 200) -> str:
    """Have the first site's agent ask for a certificate with the key in this folder; its fingerprint."""
    files = SiteFiles(folder)
    answer = await installed.agent.client.post(
        "/agent/v1/certificate", json={"csr": files.request()}, headers=installed.agent.headers
    )
    assert answer.status_code == status, answer.text
    return files.fingerprint()


def first(installed: Installed) -> SiteRecord:
    with installed.control.office.read() as work:
        found = work.tx.sites.find("local")
    assert found is not None
    return found


async def test_the_first_site_s_key_is_signed_when_it_is_first_shown(installed: Installed, tmp_path: Path) -> None:
    before = first(installed).charter
    fingerprint = await certified(installed, tmp_path / "a")
    found = first(installed)
    assert found.signed is not None
    charter = verify_document(installed.owner.public_key(), CHARTER, found.signed, Charter)
    assert (charter.version, charter.gateway_key) == (before.version + 1, fingerprint)
    assert found.signed in (await told(installed.agent)).charters
    assert await certified(installed, tmp_path / "a") == fingerprint
    assert first(installed) == found, "it is the same key"


async def test_another_key_of_the_first_site_takes_the_owner_s(installed: Installed, tmp_path: Path) -> None:
    await certified(installed, tmp_path / "a")
    fingerprint = await certified(installed, tmp_path / "b")
    assert first(installed).charter.gateway_key == fingerprint
    installed.control.folder.owner_key.rename(tmp_path / "taken away")
    await certified(installed, tmp_path / "c", status=403)
    assert first(installed).charter.gateway_key == fingerprint
