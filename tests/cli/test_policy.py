"""`kasbah policy`: packs as people read them, and tables as those who write rules run them."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Cli
from own_pack import TABLE, write_pack

from kasbah.packs import HERE, shipped

OWN = """
@id("house.payroll") @title("Payroll stays in Morocco") @advice("Choose a site in Morocco.")
@cite("the works council, 2026") @verified("2026-11-26") @needs("country")
forbid (principal, action, resource)
when { principal.label.regimes.contains("house") }
unless { resource has country && resource.country == "MA" };
"""


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return write_pack(tmp_path / "house", OWN)


def test_the_packs_are_listed_with_their_state(cli: Cli) -> None:
    listed = cli("policy", "list").out.splitlines()
    assert len(listed) == len(shipped()) + 1
    states = {line.split()[0]: "in force" in line for line in listed[1:]}
    assert (states["base"], states["gdpr"], states["ma-bank"]) == (True, True, False)
    assert [one["name"] for one in cli("policy", "list", "-o", "json").json] == [pack.name for pack in shipped()]


def test_a_pack_shows_each_rule_with_its_source(cli: Cli) -> None:
    shown = cli("policy", "show", "ma-0908").out
    assert "Loi 09-08, articles 43 and 44" in shown
    assert "the approval cndp-f118" in shown
    assert "there is no pack 'ma-909'" in cli("policy", "show", "ma-909", code=5).err


def test_the_shipped_tables_hold(cli: Cli) -> None:
    said = cli("policy", "test").err
    assert f"in {len(shipped())} tables" in said
    assert said.split()[0] == said.split()[2]


def test_a_pack_of_one_s_own_is_tested_beside_the_shipped_ones(cli: Cli, pack: Path) -> None:
    assert "2 of 2 cases hold" in cli("policy", "test", pack).err


def test_a_case_that_does_not_hold_is_told_and_ends_with_one(cli: Cli, pack: Path) -> None:
    (pack / "tests.yaml").write_text(TABLE.replace("country: FR", "country: MA"))
    answer = cli("policy", "test", pack, code=1)
    assert answer.out.splitlines()[1].split() == [f"{pack}/tests.yaml", "abroad", "it", "is", "allowed"]
    assert "1 of 2 cases hold, in 1 table\n" in answer.err
    assert cli("policy", "test", pack, "-o", "json", code=1).json[0]["failed"] == {"abroad": "it is allowed"}


def test_a_table_alone_is_run_under_the_shipped_packs(cli: Cli, tmp_path: Path) -> None:
    table = tmp_path / "mine.yaml"
    table.write_text((HERE / "gdpr" / "tests.yaml").read_text())
    assert "11 of 11 cases hold" in cli("policy", "test", table).err


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("rules.cedar", OWN.replace("resource has country && ", ""), "country"),
        ("rules.cedar", OWN.replace("resource.country", "resource.county"), "county"),
        ("tests.yaml", "[]", "no case"),
        ("pack.yaml", "name: House\n", "name"),
    ],
    ids=["unasked", "unknown", "untested", "name"],
)
def test_a_pack_that_cannot_be_law_is_refused_with_the_place(
    cli: Cli, pack: Path, file: str, text: str, words: str
) -> None:
    (pack / file).write_text(text)
    answer = cli("policy", "test", pack, code=2)
    assert file in answer.err
    assert words in answer.err
    assert "Traceback" not in answer.err
