"""Secrets: set, used, given to the site that uses them, and never shown; and a service's environment changed."""

from __future__ import annotations

import base64
import os
from dataclasses import replace
from typing import Any

import pytest
from installed import Installed, request

from kasbah.domain.ids import RevisionId
from kasbah.domain.label import Label, Level
from kasbah.domain.secret import LARGEST, Delivery, SecretUse
from kasbah.errors import Unavailable

VALUE = b"correct horse battery staple"


def body(value: bytes = VALUE) -> dict[str, str]:
    return {"value_base64": base64.b64encode(value).decode()}


async def put(installed: Installed, name: str, value: bytes = VALUE, *, status: int = 200) -> Any:
    answer = await installed.api.put(f"/secrets/{name}", json=body(value), headers={"idempotency-key": "k-1"})
    assert answer.status_code == status, answer.text
    return answer.json()


async def uses(installed: Installed, name: str = "web") -> tuple[SecretUse, ...]:
    service = await installed.agent.service(name)
    wanted = service.trial.revision if service.trial else service.shares[0].revision
    revision = service.revision(wanted)
    assert revision is not None
    return revision.secrets


async def given(installed: Installed, use: SecretUse) -> Any:
    agent = installed.agent
    return await agent.client.get(f"/agent/v1/secrets/{use.secret}/{use.version}", headers=agent.headers)


async def test_a_value_goes_in_and_reaches_only_the_site_that_uses_it(installed: Installed) -> None:
    made = await put(installed, "db-url")
    assert (made["version"], made["size"]) == (1, len(VALUE))
    await installed.agent.report()
    await installed.deploy(secrets={"DATABASE_URL": "db-url", "CERT": {"name": "db-url", "deliver": "file"}})
    first, second = await uses(installed)
    assert [(one.variable, one.delivery) for one in (first, second)] == [
        ("CERT", Delivery.FILE),
        ("DATABASE_URL", Delivery.ENV),
    ]
    assert (await given(installed, first)).content == VALUE
    other = await put(installed, "unused")
    assert other["used_by"] == []
    assert (await given(installed, SecretUse(variable="X", secret=first.secret, version=2))).status_code == 404


async def test_no_value_is_in_any_answer_document_or_file(installed: Installed) -> None:
    await put(installed, "db-url")
    await installed.serving(secrets={"DATABASE_URL": "db-url"})
    for path in ("/secrets", "/services/web", "/services", "/services/web/rollouts"):
        assert VALUE.decode() not in (await installed.api.get(path)).text
    desired = await installed.agent.desired()
    assert VALUE.decode() not in repr(desired)
    folder = installed.control.folder
    everything = b"".join(path.read_bytes() for path in folder.root.iterdir() if path.is_file())
    assert VALUE not in everything
    assert base64.b64encode(VALUE) not in everything
    assert oct(folder.secrets_key.stat().st_mode & 0o777) == "0o600"


async def test_a_value_in_an_error_is_not_told(installed: Installed) -> None:
    answer = await installed.api.put("/secrets/x", json={"value_base64": "correct horse!"})
    assert answer.status_code == 400
    assert "correct" not in answer.text
    wrong = await installed.api.put("/secrets/x", json={"value_base64": ["hunter2"]})
    assert "hunter2" not in wrong.text


async def test_a_new_value_is_a_new_version_and_the_same_one_none(installed: Installed) -> None:
    await put(installed, "db-url")
    assert (await put(installed, "db-url"))["version"] == 1
    first = await installed.serving(secrets={"URL": "db-url"})
    changed = await put(installed, "db-url", b"another")
    assert (changed["version"], changed["used_by"], changed["outdated"]) == (2, ["web"], ["web"])
    again = await installed.deploy(secrets={"URL": "db-url"})
    assert again["created"] is True
    assert again["revision"] != first["revision"]
    assert [use.version for use in await uses(installed)] == [2]


async def test_the_newest_values_come_without_a_deploy(installed: Installed) -> None:
    await put(installed, "db-url")
    await installed.serving(secrets={"URL": "db-url"})
    await put(installed, "db-url", b"another")
    rollout = await installed.post("/services/web/env", {}, status=202)
    assert [use.version for use in await uses(installed)] == [2]
    assert rollout["previous"] is not None


async def test_what_is_used_is_not_removed(installed: Installed) -> None:
    await put(installed, "db-url")
    await installed.serving(secrets={"URL": "db-url"})
    refused = await installed.api.delete("/secrets/db-url")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "secret_used")
    assert "web" in refused.json()["error"]["message"]
    await put(installed, "free")
    assert (await installed.api.delete("/secrets/free")).status_code == 204
    assert (await installed.api.delete("/secrets/free")).status_code == 404
    assert [one["name"] for one in (await installed.get("/secrets"))["items"]] == ["db-url"]


@pytest.mark.parametrize(
    ("value", "status", "words"),
    [
        (os.urandom(10 * 2**20), 413, "the body is larger than"),
        (os.urandom(LARGEST + 1), 413, "are the most"),
        (b"", 400, "is empty"),
    ],
    ids=["ten megabytes", "a byte too many", "nothing"],
)
async def test_values_that_cannot_be(installed: Installed, value: bytes, status: int, words: str) -> None:
    error = (await put(installed, "big", value, status=status))["error"]
    assert words in error["message"]
    assert error["hint"]


async def test_lines_and_zero_bytes_are_kept_and_a_variable_cannot_hold_the_latter(installed: Installed) -> None:
    await put(installed, "pem", b"line one\nline two\n")
    await put(installed, "binary", b"a\0b")
    await installed.agent.report()
    error = (await installed.post("/services/web/deploys", request(secrets={"B": "binary"}), status=400))["error"]
    assert (error["code"], error["param"]) == ("secret_not_text", "secrets.B")
    await installed.deploy(secrets={"P": "pem", "B": {"name": "binary", "deliver": "file"}})
    values = [(await given(installed, use)).content for use in await uses(installed)]
    assert values == [b"a\0b", b"line one\nline two\n"]


async def test_a_secret_that_is_not_there_is_named(installed: Installed) -> None:
    error = (await installed.post("/services/web/plan", request(secrets={"URL": "db-url"}), status=400))["error"]
    assert (error["code"], error["param"]) == ("secret_not_found", "secrets.URL")
    assert "kasbah secrets set db-url" in error["hint"]


def test_a_value_moved_to_another_place_does_not_open(installed: Installed) -> None:
    vault = installed.control.office.vault
    sealed = vault.seal(VALUE, "here")
    assert vault.open(sealed, "here") == VALUE
    for wrong in (
        lambda: vault.open(sealed, "there"),
        lambda: vault.open(sealed[:-1], "here"),
        lambda: vault.open(b"", ""),
    ):
        with pytest.raises(Unavailable, match="another key"):
            wrong()


async def test_the_environment_is_changed_without_the_source(installed: Installed) -> None:
    first = await installed.serving(env={"A": "1", "B": "2"})
    rollout = await installed.post("/services/web/env", {"set": {"A": "9", "C": "3"}, "unset": ["B"]}, status=202)
    service = await installed.agent.service("web")
    changed = service.revision(RevisionId(rollout["revision"]))
    assert changed is not None
    assert changed.env == (("A", "9"), ("C", "3"))
    same = await installed.deploy(env={"A": "9", "C": "3"})
    assert same["revision"] == rollout["revision"], "identical input makes the same revision, whichever way it came"
    nothing = await installed.api.post("/services/web/env", json={"set": {"A": "9"}})
    assert nothing.status_code == 202
    wrong = await installed.post("/services/web/env", {"unset": ["ZZ"]}, status=404)
    assert "it has A, C" in wrong["error"]["hint"]
    reserved = await installed.post("/services/web/env", {"set": {"PORT": "1"}}, status=400)
    assert "set by Kasbah itself" in reserved["error"]["message"]
    assert first["revision"] != rollout["revision"]


# --- how sensitive they are -------------------------------------------------------------------------------------------

INTERNAL, PERSONAL = {"level": "internal"}, {"level": "restricted", "categories": ["personal"], "regimes": ["ma-0908"]}


async def labelled(installed: Installed, name: str, data: dict[str, Any], *, status: int = 200) -> Any:
    answer = await installed.api.put(f"/secrets/{name}/label", json=data)
    assert answer.status_code == status, answer.text
    return answer.json()


async def refused(installed: Installed, service: str, **config: Any) -> Any:
    made = await installed.post(f"/services/{service}/deploys", request(secrets={"DB": "db-url"}, **config), status=403)
    assert made["error"]["code"] == "secret_refused"
    return made["error"]


async def test_a_service_that_is_labelled_lower_cannot_have_a_secret(installed: Installed) -> None:
    await put(installed, "db-url")
    assert (await labelled(installed, "db-url", PERSONAL))["data"] == PERSONAL
    await installed.agent.report()
    error = await refused(installed, "web", data={"level": "internal"})
    assert "labelled restricted (personal) under ma-0908" in error["message"]
    assert error["param"] == "config.secrets.DB"
    await installed.deploy(data=PERSONAL, secrets={"DB": "db-url"})
    (use,) = await uses(installed)
    assert (await given(installed, use)).content == VALUE
    assert (await put(installed, "db-url", b"another"))["data"] == PERSONAL, "a new value is as sensitive"


async def test_a_secret_without_a_label_is_shared_by_services_of_one_label(installed: Installed) -> None:
    await put(installed, "db-url")
    await installed.serving("claims", data=PERSONAL, secrets={"DB": "db-url"})
    error = await refused(installed, "web", data=INTERNAL)
    assert "used by claims (restricted (personal) under ma-0908)" in error["message"]
    assert "kasbah secrets label db-url LEVEL" in error["hint"]
    await installed.deploy("more", data=PERSONAL, secrets={"DB": "db-url"})
    await labelled(installed, "db-url", INTERNAL)
    await installed.deploy(data=INTERNAL, secrets={"DB": "db-url"})


async def test_a_secret_s_label_only_rises_and_not_past_those_who_use_it(installed: Installed) -> None:
    await put(installed, "db-url")
    await installed.serving(data=INTERNAL, secrets={"DB": "db-url"})
    await labelled(installed, "db-url", INTERNAL)
    used = await labelled(installed, "db-url", PERSONAL, status=409)
    assert "is used by web, labelled lower" in used["error"]["message"]
    lower = await labelled(installed, "db-url", {"level": "public"}, status=403)
    assert lower["error"]["code"] == "label_lowered"
    nobody = await labelled(installed, "nothing", INTERNAL, status=404)
    assert "there is no secret" in nobody["error"]["message"]
    wrong = await labelled(installed, "db-url", {"level": "secret"}, status=400)
    assert "level" in wrong["error"]["param"]


async def test_a_site_is_not_given_what_no_service_there_may_have(installed: Installed) -> None:
    """Whatever is written in the store: it is asked about again as the value goes out."""
    await put(installed, "db-url")
    await installed.serving(data=INTERNAL, secrets={"DB": "db-url"})
    (use,) = await uses(installed)
    assert (await given(installed, use)).content == VALUE
    with installed.control.office.write() as work:
        found = work.tx.secrets.get(use.secret)
        work.tx.secrets.put(replace(found, label=Label(level=Level.RESTRICTED)))
    assert (await given(installed, use)).status_code == 404
