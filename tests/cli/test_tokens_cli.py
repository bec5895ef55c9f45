"""Tokens as people make them: where, for whom, for how long; and what is refused before it is asked."""

from __future__ import annotations

import pytest
from command_line import Cli
from pydantic import TypeAdapter

from kasbah.cli.shapes import OUTPUTS

pytestmark = pytest.mark.real


def test_tokens_are_made_listed_and_switched(control: Cli) -> None:
    control("projects", "create", "tokens-shop")
    words = "--role deployer --action key.read --action key.create --project tokens-shop --max-level internal"
    made = control("tokens", "create", "ci", *words.split(), "--expires", "30d", "-o", "json").json
    TypeAdapter(OUTPUTS["tokens create"]).validate_python(made)
    listed = TypeAdapter(OUTPUTS["tokens list"]).validate_python(control("tokens", "list", "-o", "json").json)
    (ci,) = [one for one in listed if one.name == "ci"]
    assert [(one.project, one.role, one.actions) for one in ci.grants] == [
        ("tokens-shop", "deployer", []),
        ("tokens-shop", None, ["key.read", "key.create"]),
    ]
    assert (ci.kind, ci.max_level, ci.state) == ("person", "internal", "ok")
    assert (ci.expires_at - ci.created_at).days == 30
    (line,) = [one for one in control("tokens", "list").out.splitlines() if one.startswith(made["id"])]
    assert "deployer in tokens-shop; key.read, key.create in tokens-shop  internal" in line
    holder = Cli(control.home, {**control.extra, "KASBAH_TOKEN": made["token"]})
    assert holder("keys", "list", "--project", "tokens-shop", "-o", "json").json == []
    assert "may not key.revoke" in holder("keys", "revoke", "x", "--project", "tokens-shop", code=4).err
    control("tokens", "disable", "ci")
    assert "tokens enable ci" in holder("ps", code=4).err
    control("tokens", "enable", "ci")
    holder("ps", "--project", "tokens-shop")
    control("tokens", "revoke", made["id"])
    holder("ps", code=4)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--role owner", "--everywhere"),
        ("--role owner --everywhere --project default", "--everywhere"),
        ("--everywhere", "--role"),
        ("--action service.fly --everywhere", "service.deploy"),
        ("--role owner --everywhere --expires soon", "no duration"),
        ("--role owner --everywhere --expires 1ms", "over at once"),
        ("--role root --everywhere", "root"),
    ],
    ids=lambda one: one.split()[-1],
)
def test_what_is_not_said_plainly_is_refused(control: Cli, words: str, told: str) -> None:
    """Nobody gets everything by leaving a word out."""
    assert told in control("tokens", "create", "x", *words.split(), code=2).err
    assert "x" not in {one["name"] for one in control("tokens", "list", "-o", "json").json}


def test_keys_have_owners_and_ends(control: Cli) -> None:
    control("keys", "create", "partner", "--owner", "team-b", "--max-level", "public", "--expires", "12h")
    (line,) = [one for one in control("keys", "list").out.splitlines() if "partner" in one]
    assert line.split()[2:5] == ["all", "team-b", "public"]
    assert line.split()[-1] == "ok"
    control("keys", "disable", "partner")
    (listed,) = [one for one in control("keys", "list", "-o", "json").json if one["name"] == "partner"]
    assert listed["state"] == "disabled"
    control("keys", "enable", "partner")
    control("keys", "revoke", "partner")
