"""Deployers as people meet them: a key of one's own, named by the owner; what is signed comes from one's own file."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Cli
from pydantic import TypeAdapter

from kasbah.api.manifest import ResolvedService
from kasbah.cli.client import Client
from kasbah.cli.context import Context
from kasbah.cli.shapes import OUTPUTS
from kasbah.cli.signing import Signer

pytestmark = pytest.mark.real

DENIED = 4


@pytest.fixture
def anne(control: Cli, tmp_path: Path) -> Cli:
    """Somebody at another machine, who may use the API and has no deployer's key."""
    home = tmp_path / "anne"
    home.mkdir()
    return Cli(home, {name: value for name, value in control.extra.items() if name != "KASBAH_DEPLOYER_KEY"})


def app(folder: Path, name: str, level: str = "sensitive") -> Path:
    folder.mkdir()
    service = f"{name}: {{command: [./serve], env: {{A: '1'}}, data: {{level: {level}}}}}"
    (folder / "kasbah.yaml").write_text(f"services:\n  {service}\n")
    (folder / "serve").write_text("#!/bin/sh\n")
    return folder


def client_of(control: Cli) -> Client:
    context = Context(url=control.extra["KASBAH_URL"], token=control.extra["KASBAH_TOKEN"], origin="a test")
    return Client(context, project="default")


def deploy(control: Cli, name: str) -> None:
    """Deploy a service whose source nobody sends: there is no site that would take it."""
    config = ResolvedService(runtime="command", command=("./serve",), env={"A": "1"})
    source, size = "sha256:" + "a" * 64, 10
    with client_of(control) as client:
        signed = Signer(client, "default", Path(control.extra["KASBAH_DEPLOYER_KEY"])).deploy(
            name, config, source, size
        )
        body = {"config": config.model_dump(mode="json", exclude_unset=True), "source": source, "source_size": size}
        client.post(f"/services/{name}/deploys", {**body, "attested": signed})


def owner_key(control: Cli) -> Path:
    return Path(control.extra["KASBAH_DEPLOYER_KEY"]).with_name("owner.key")


def named(control: Cli, anne: Cli, *more: str) -> str:
    """Have the owner name her; the id of that."""
    public = TypeAdapter(OUTPUTS["deployers key"]).validate_python(anne("deployers", "key", "-o", "json").json).key
    evidence = ("--evidence", "she runs the claims", "--expires", "90d", "--owner-key", owner_key(control))
    made = control("deployers", "add", "anne", "--key", public, *evidence, *more, "-o", "json").json
    TypeAdapter(OUTPUTS["deployers add"]).validate_python(made)
    return str(made["id"])


def test_a_key_is_made_named_used_and_taken_back(control: Cli, anne: Cli, tmp_path: Path) -> None:
    folder = app(tmp_path / "app", "signed")
    assert "kasbah deployers key" in anne("plan", folder, code=DENIED).err
    first = anne("deployers", "key", "-o", "json").json
    assert first["made"]
    assert Path(first["path"]).stat().st_mode & 0o777 == 0o600
    assert anne("deployers", "key", "-o", "json").json == {**first, "made": False}
    assert f"kasbah deployers add NAME --key {first['key']}" in anne("plan", folder, code=DENIED).err
    grant = named(control, anne, "--max-level", "restricted")
    assert "not named for this project and data of level 3" in anne("plan", folder, code=DENIED).err
    control("deployers", "revoke", grant)
    grant = named(control, anne)
    anne("plan", folder)
    listed = TypeAdapter(OUTPUTS["deployers list"]).validate_python(control("deployers", "list", "-o", "json").json)
    assert {"anne", "local"} <= {one.name for one in listed if one.in_force}
    assert grant not in control("policy", "approvals").out
    assert "revoked" in control("deployers", "list").out
    control("deployers", "revoke", grant)
    anne("plan", folder, code=DENIED)


def test_what_is_not_sensitive_is_deployed_without_a_key(anne: Cli, tmp_path: Path) -> None:
    anne("plan", app(tmp_path / "app", "open", level="internal"))


def test_the_environment_is_changed_by_who_signed_what_serves(control: Cli, anne: Cli) -> None:
    deploy(control, "changed")
    control("env", "set", "changed", "A=2", "--no-wait")
    grant = named(control, anne)
    assert "no deployer has signed it" in anne("env", "set", "changed", "A=3", "--no-wait", code=DENIED).err
    control("env", "set", "changed", "A-", "--no-wait")
    control("deployers", "revoke", grant)


def test_nothing_is_signed_on_the_control_plane_s_word(control: Cli, tmp_path: Path) -> None:
    """It is captured, and shows another command as what serves."""
    deploy(control, "shown")
    with client_of(control) as client:
        signer = Signer(client, "default", Path(control.extra["KASBAH_DEPLOYER_KEY"]))
        current = client.get("/services/shown/env")
        assert signer.change("shown", current, {"A": "2"}, []) is not None
        bent = {**current, "contents": current["contents"].replace("./serve", "./send")}
        assert bent["contents"] != current["contents"]
        assert signer.change("shown", bent, {"A": "2"}, []) is None
        assert signer.change("other", current, {"A": "2"}, []) is None, "it was signed as another service"
        assert Signer(client, "default", other_key(tmp_path)).change("shown", current, {"A": "2"}, []) is None


def other_key(tmp_path: Path) -> Path:
    from kasbah.api.owner import load_or_make

    load_or_make(tmp_path / "other.key", whose="deployer")
    return tmp_path / "other.key"


def test_a_public_key_that_is_none_is_refused_before_anything_is_signed(control: Cli) -> None:
    words = ("--evidence", "x y z", "--expires", "9d", "--owner-key", owner_key(control))
    assert "begins with ed25519:" in control("deployers", "add", "x", "--key", "ssh-rsa AAA", *words, code=2).err
