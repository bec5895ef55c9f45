"""Every shipped pack keeps its own table, and each rule has a line in it that fails without the rule."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from kasbah.domain.law import Pack
from kasbah.packs import HERE, geography, law_of, shipped, tables
from kasbah.packs.tables import Case

LAW = law_of(shipped())
STANDS_IN = """
@id("{pack}.nothing") @title("-") @advice("-") @cite("-") @verified("-")
forbid (principal, action, resource) when {{ false }};
"""
TABLES = {pack.name: tables.cases(HERE / pack.name / "tests.yaml") for pack in shipped()}
CASES = [(pack, case) for pack, table in TABLES.items() for case in table]


@pytest.mark.parametrize(("pack", "case"), CASES, ids=[f"{pack}: {case.name}" for pack, case in CASES])
def test_the_table_holds(pack: str, case: Case) -> None:
    (outcome,) = tables.run(LAW, (case,))
    assert not outcome.problem


RULES = [(pack, one) for pack in shipped() for one in re.split(r"(?m)^(?=@id)", pack.policies) if one.startswith("@id")]


@pytest.mark.parametrize(
    ("pack", "rule"),
    RULES,
    ids=[re.match(r'@id\("([^"]+)', rule)[1] for _, rule in RULES],  # type: ignore[index]
)
def test_each_rule_is_missed(pack: Pack, rule: str) -> None:
    weakened = replace(pack, policies=pack.policies.replace(rule, ""))
    if not weakened.policies.strip():  # a pack without rules is none
        weakened = replace(pack, policies=STANDS_IN.format(pack=pack.name))
    law = law_of(weakened if one.name == pack.name else one for one in shipped())
    assert any(outcome.problem for outcome in tables.run(law, TABLES[pack.name]))


@pytest.mark.parametrize("rule", list(LAW.rules.values()), ids=lambda rule: rule.id)
def test_every_rule_says_where_it_comes_from_and_when_that_was_looked_up(rule) -> None:
    assert re.match(r"\d{4}-\d{2}-\d{2}|unverified", rule.verified)
    assert len(rule.title) > 20
    assert rule.advice.endswith((".", "confirmed."))


def test_packs_that_nobody_could_verify_are_drafts() -> None:
    assert {pack.name for pack in shipped() if pack.draft} == {"ma-bank", "ma-insurance", "ma-telecom"}


def test_the_lists_of_countries_are_of_countries() -> None:
    found = geography()
    named = found.eea.union(*found.adequate.values())
    assert all(re.fullmatch("[A-Z]{2}", one) for one in named)
    assert len(found.eea) == 30
    assert not found.adequate["ma-0908"], "the CNDP's list was not read: whoever has, fills it in"
