"""`kasbah policy` and `kasbah declassify` against a real control plane: the law changes as an owner changes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command_line import Cli, eventually
from own_pack import TABLE, write_pack
from ruamel.yaml import YAML

from kasbah import packs
from kasbah.api.owner import load_or_make
from kasbah.cli import foreseen

RULES = """
@id("house.payroll") @title("Payroll stays in Morocco") @advice("Choose a site in Morocco.")
@cite("the works council, 2026") @verified("2026-11-26") @needs("country") @approval("council")
forbid (principal, action, resource)
when { principal.label.regimes.contains("house") }
unless { (resource has country && resource.country == "MA") || context.approvals.contains("council") };
"""


def test_a_plan_begins_with_the_whole_and_stays_short(capsys: pytest.CaptureFixture[str]) -> None:
    """A plan of thousands of services is read on one screen."""
    group = {"data_declared": True, "kind": "public", "country": "US", "sites": ["cloud"]}
    personal = {"level": "restricted", "categories": ["personal"], "regimes": ["gdpr"]}
    plain = {"level": "sensitive", "categories": [], "regimes": []}
    found = {
        "based_on": 1, "losing": 12, "services": 5000, "stranded": [], "allowed": 0, "ends": [], "cuts": [],
        "two_person": [], "bars": [], "admits": [], "opens": [],
        "closes": [{"service": f"web{number}", "site": "cloud"} for number in range(4000)],
        "classes": [
            {**group, "data": personal, "ends": 12, "closes": 3, "opens": 0},
            {**group, "data": plain, "data_declared": False, "country": "", "ends": 0, "closes": 0, "opens": 7},
        ],
    }  # fmt: skip
    foreseen.show(found)
    said = capsys.readouterr()
    first, *rest = said.out.splitlines()
    assert first.split("  ")[0] == "SERVICES WITH"
    assert [part for part in rest[0].split("  ") if part] == ["restricted; personal; gdpr", "public, US", "12", "3"]
    assert rest[1].split("  ")[0] == "sensitive, as unlabelled data is"
    assert "public, country not declared" in rest[1]
    assert len(rest) < 40
    assert "... and 3970 more changes" in said.err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a policy file and a pack of one's own."""
    write_pack(tmp_path / "packs" / "house", RULES)
    write(tmp_path, "  house: {path: packs/house}\n")
    return tmp_path


def write(folder: Path, more: str = "", rest: str = "") -> Path:
    names = [one.name for one in packs.shipped() if not one.draft]
    lines = "".join(f"  {name}:\n" for name in names)
    (folder / "policy.yaml").write_text(f"home: MA\npacks:\n{lines}{more}{rest}")
    return folder / "policy.yaml"


@pytest.fixture
def owner(control: Cli) -> Path:
    return control.home / "data" / "owner.key"


@pytest.fixture
def user(control: Cli, owner: Path) -> Cli:
    """Someone with the API's token, and the owner's key in the usual place."""
    usual = control.home / ".local" / "share" / "kasbah"
    usual.mkdir(parents=True, exist_ok=True)
    shutil.copy(owner, usual / "owner.key")
    return control


def version(cli: Cli) -> int:
    """The version in force, once none is on its way."""

    def settled() -> int:
        status = cli("policy", "status", "-o", "json").json
        newest = status["newest"]["version"]
        return int(newest) if newest == status["in_force"]["version"] else 0

    return int(eventually(settled))


def test_a_change_is_planned_applied_listed_and_undone(user: Cli, folder: Path) -> None:
    before = version(user)
    file = folder / "policy.yaml"
    planned = user("policy", "plan", "-f", file)
    assert "0 of 0 services would lose a placement or a call" in planned.err
    assert f"kasbah policy apply -f {file} --based-on {before}" in planned.err
    made = user("policy", "apply", "-f", file, "--based-on", str(before), "--reason", "the council")
    assert f"Version {before + 1} is " in made.err
    listed = user("policy", "list").out
    assert "in force, your own" in next(line for line in listed.splitlines() if line.startswith("house"))
    status = user("policy", "status").out
    assert "house" in status
    back = user("policy", "rollback", "-o", "json").json
    assert (back["version"], back["reason"]) == (before + 2, f"back to version {before}")
    assert "house" not in user("policy", "list").out
    line = next(one for one in user("policy", "history").out.splitlines() if one.startswith(str(before + 1)))
    assert ("admin" in line, "the council" in line) == (True, True)
    again = user("policy", "rollback", "--to", str(before + 1), "-o", "json").json
    assert again["version"] == before + 3
    stale = user("policy", "apply", "-f", write(folder), "--based-on", str(before), code=6)
    assert "the law changed meanwhile" in stale.err


def test_the_file_that_says_what_holds_describes_it(user: Cli, folder: Path) -> None:
    version(user)
    file = folder / "now.yaml"
    file.write_text(user("policy", "file").out)
    assert "packs" in YAML(typ="safe").load(file.read_text())
    refused = user("policy", "apply", "-f", file, code=6)
    assert "this is the law already" in refused.err


def test_a_key_that_is_not_there_or_another_s_signs_nothing(user: Cli, folder: Path, tmp_path: Path) -> None:
    missing = tmp_path / "nobody.key"
    refused = user("policy", "apply", "-f", folder / "policy.yaml", "--owner-key", missing, code=2)
    assert "--owner-key PATH" in refused.err
    load_or_make(missing)
    refused = user("policy", "apply", "-f", write(folder, rest="limit: 3\n"), "--owner-key", missing, code=4)
    assert "not signed by this installation's owner" in refused.err


def test_a_pack_of_one_s_own_is_checked_with_its_tests(cli: Cli, folder: Path) -> None:
    house = folder / "packs" / "house"
    assert "house is sound: 1 rules; 2 of 2 cases hold" in cli("policy", "check", house).err
    assert "policy.yaml is sound" in cli("policy", "check", folder / "policy.yaml").err
    (house / "tests.yaml").write_text(TABLE.replace("country: FR", "country: MA"))
    for path in (house, folder / "policy.yaml"):
        wrong = cli("policy", "check", path, code=1)
        assert "abroad: it is allowed" in wrong.err
    (house / "tests.yaml").unlink()
    for path in (house, folder / "policy.yaml"):
        assert "a pack without tests is no pack" in cli("policy", "check", path, code=2).err


@pytest.mark.parametrize(
    ("more", "rest", "words"),
    [
        ("  gdrp:\n", "", "did you mean gdpr?"),
        ("  ma-bank: {version: 9}\n", "", "no version 9"),
        ("  other: {path: packs/house}\n", "", "is called 'house'"),
        ("", "limit: some\n", "limit"),
        ("", "stale_after: {secret: 1h}\n", "stale_after"),
        ("", "agents: on\n", "agents"),
    ],
    ids=["pack", "version", "name", "limit", "level", "key"],
)
def test_a_policy_file_that_is_wrong_is_refused_with_the_place(
    cli: Cli, folder: Path, more: str, rest: str, words: str
) -> None:
    refused = cli("policy", "check", write(folder, more, rest), code=2)
    assert words in refused.err
    assert "policy.yaml" in refused.err


def test_grants_need_somebody_evidence_and_a_day_to_come(user: Cli) -> None:
    add = ("policy", "approval", "add", "cndp-f118")
    assert "--evidence" in user(*add, "--expires", "30d", "--all-of", "default", code=2).err
    assert "for somebody" in user(*add, "--expires", "30d", "--evidence", "file 7", code=2).err
    some = ("--evidence", "file 7", "--all-of", "default")
    assert "is over" in user(*add, *some, "--expires", "2020-01-01", code=2).err
    assert "is no day" in user(*add, *some, "--expires", "soon", code=2).err
    assert "there is no site 'moon'" in user(*add, *some, "--expires", "30d", "--site", "moon", code=5).err
    unknown = user("policy", "approval", "add", "f118", *some, "--expires", "30d", code=2)
    assert "no rule in force is lifted by 'f118'" in unknown.err
    made = user(*add, *some, "--expires", "30d", "-o", "json").json
    assert (made["projects"], made["in_force"]) == (["default"], True)
    assert made["id"] in user("policy", "approvals").out
    user("policy", "approval", "revoke", made["id"])
    row = next(line for line in user("policy", "approvals").out.splitlines() if made["id"] in line)
    assert "revoked" in row


def test_declassifying_needs_a_service_and_a_known_category(user: Cli) -> None:
    rest = ("--to", "internal", "--evidence", "file 7", "--expires", "30d")
    assert "there is no service 'nobody'" in user("declassify", "nobody", *rest, code=5).err
