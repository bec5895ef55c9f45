"""Packs that cannot be law are refused whole, with the rule that is at fault; tables too, with the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from kasbah.domain.law import Pack
from kasbah.errors import Invalid
from kasbah.packs import check_new, law_of, read, shipped, tables
from kasbah.packs.own import read_own

SAID = '@id("house.one") @title("A title") @advice("Do it.") @cite("us") @verified("2026-11-26")'
FORBID = "forbid (principal, action, resource) when { principal.label.level > 9 };"


TABLE = "- {name: one, data: {}, site: {kind: on-prem}, expect: allowed}\n"


def pack(policies: str) -> Pack:
    return Pack(name="house", title="Ours", version=1, policies=policies)


@pytest.mark.parametrize(
    ("policies", "words"),
    [
        ("", "no policy"),
        ("forbid (principal, action", "not Cedar"),
        (FORBID, "no @id"),
        (SAID.replace("@title", "@name") + FORBID, "no @title"),
        (SAID + '@sponsor("me")' + FORBID, "@sponsor means nothing"),
        (SAID.replace("house.one", "gdpr.one") + FORBID, "must begin with house."),
        (SAID + FORBID + SAID + FORBID, "two rules have this @id"),
        (SAID + "permit (principal, action, resource);", "a permit needs @level"),
        (SAID + '@level("7") @unmet("-")' + "permit (principal, action, resource);", "a permit needs @level"),
        (SAID + "forbid (principal, action, resource) when { resource.owner == 1 };", "owner"),
        (SAID + 'forbid (principal, action, resource) when { resource.country == "MA" };', "country"),
        (SAID + "forbid (principal == ?principal, action, resource);", "templates"),
    ],
    ids=["empty", "syntax", "id", "title", "annotation", "prefix", "twice", "permit", "level", "attribute", "unasked",
         "template"],
)  # fmt: skip
def test_policies_that_cannot_be_law(policies: str, words: str) -> None:
    with pytest.raises(Invalid, match="house/rules") as raised:
        law_of((*shipped(), pack(policies)))
    assert words in raised.value.message
    assert "policy0" not in raised.value.message


@pytest.mark.parametrize(
    "when",
    [
        "(" * 20_000 + "true",
        "true && " * 20_000 + "true",
        "if true then " * 1_000,
        "[" * 41 + "]" * 41,
        "1" + "+1" * 201,
    ],
    ids=["brackets", "and", "if", "set", "plus"],
)
def test_what_is_too_deep_for_cedar_never_reaches_it(when: str) -> None:
    """Cedar would end the process, whoever sent it."""
    with pytest.raises(Invalid, match=r"nested deeper|longer than"):
        law_of((pack(SAID + "forbid (principal, action, resource) when { " + when + " };"),))


def test_brackets_in_words_and_remarks_are_no_brackets() -> None:
    words = SAID.replace("Do it.", "((" * 50 + ";" + "&&" * 300)
    law_of((pack(f"// {'(' * 90}\n{words}{FORBID}"),))


def test_an_error_names_the_rule_by_its_id() -> None:
    with pytest.raises(Invalid) as raised:
        law_of((pack(SAID + "forbid (principal, action, resource) when { resource.owner == 1 };"),))
    assert raised.value.where == "house/rules.cedar: house.one"


@pytest.mark.parametrize(
    ("when", "hint"),
    [
        ('resource.cuntry == "MA"', "did you mean country?"),
        ('resource.country == "MA"', "`resource has country && ...`"),
        ('principal.label.levl == "MA"', "did you mean level?"),
        ("resource.kind == 1", "mend the rule"),
    ],
    ids=["misspelt", "not asked for", "inside", "other"],
)
def test_what_does_not_fit_the_schema_has_its_next_step(when: str, hint: str) -> None:
    with pytest.raises(Invalid) as raised:
        law_of((pack(SAID + "forbid (principal, action, resource) when { " + when + " };"),))
    assert hint in raised.value.hint
    assert "for policy" not in raised.value.message, "where says which"


NOWHERE = [
    ('resource == Kasbah::Site::"rabat"', "it is about", "resource.country"),
    ('[Kasbah::Site::"rabat", Kasbah::Site::"paris"].contains(resource)', "it is about", "placement.avoid"),
    ('principal in Kasbah::Data::"payroll"', "it is about", "label"),
    ('resource has cuntry && resource.cuntry == "MA"', "never has `cuntry`", "did you mean country?"),
    ("resource has risk", "never has `risk`", "known are"),
    ("principal.label has levels", "never has `levels`", "did you mean level?"),
    ('resource.kind == "onprem"', 'is never "onprem"', "did you mean on-prem?"),
    ('["on-prem", "cloud"].contains(resource.kind)', 'is never "cloud"', "known are"),
    ('principal.kind == "app"', 'is never "app"', "service"),
    ('principal has risk && principal.risk == "hihg"', 'is never "hihg"', "did you mean high?"),
    ('principal.label.categories.containsAny(["personal", "helth"])', 'is never "helth"', "did you mean health?"),
    ('resource has country && resource.country == "FRA"', 'is never "FRA"', "two capital letters"),
    ('resource has exposure && resource.exposure.contains("UK")', 'is never "UK"', "did you mean GB?"),
    ("principal.label.level >= 5", "no level is 5", "0 to 4"),
]


@pytest.mark.parametrize(("when", "words", "hint"), NOWHERE, ids=[when for when, _, _ in NOWHERE])
def test_a_new_rule_that_speaks_of_what_is_not_there(tmp_path: Path, when: str, words: str, hint: str) -> None:
    """It would never apply, and a forbid that never applies allows. Where it is law already, it stays what it was."""
    rule = SAID + "forbid (principal, action, resource) when { " + when + " };"
    law_of((*shipped(), pack(rule)))
    (tmp_path / "pack.yaml").write_text("{name: house, title: Ours, version: 1}\n")
    (tmp_path / "rules.cedar").write_text(rule)
    (tmp_path / "tests.yaml").write_text(TABLE)
    with pytest.raises(Invalid) as raised:
        read_own(tmp_path)
    assert words in raised.value.message
    assert hint in raised.value.hint
    assert raised.value.where == "house/rules.cedar: house.one"


def test_a_scope_that_names_a_site_never_applies() -> None:
    with pytest.raises(Invalid, match="it is about"):
        check_new(pack(SAID + 'forbid (principal, action, resource in Kasbah::Site::"rabat");'))
    with pytest.raises(Invalid, match="it is about"):
        check_new(pack(SAID + 'forbid (principal is Kasbah::Data in Kasbah::Data::"rabat", action, resource);'))


def test_what_can_be_is_taken() -> None:
    words = '"it is about resource.kind" like "*on prem*" || resource.certificates.contains("Ours")'
    check_new(pack(SAID + "forbid (principal is Kasbah::Data, action, resource) when { " + words + " };"))
    for one in shipped():
        check_new(one)


@pytest.mark.parametrize(
    ("policies", "line"),
    [
        (f"// one; two\n{SAID}\n{FORBID}\n\n{SAID}\nforbid (principal, action\n", 5),
        (f"{SAID}\nforbid (principal, action, resource) when {{ ; }};\n{SAID}{FORBID}", 1),
    ],
    ids=["last", "first"],
)
def test_what_is_not_cedar_is_told_with_its_line(policies: str, line: int) -> None:
    with pytest.raises(Invalid, match=f"this is not Cedar: the policy at line {line}: "):
        law_of((pack(policies),))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("- name: one\n  data: {level: secret}\n  site: {kind: on-prem}\n  expect: allowed\n", "data.level"),
        ("- name: one\n  data: {}\n  site: {kind: castle}\n  expect: allowed\n", "site.kind"),
        ("- name: one\n  data: {}\n  site: {kind: on-prem, country: Morocco}\n  expect: allowed\n", "site.country"),
        ("- name: one\n  data: {}\n  site: {kind: on-prem}\n  expect: refused\n", "say which rules refuse it"),
        ("- name: one\n  data: {}\n  site: {kind: on-prem}\n  expect: allowed\n  by: [base.open]\n", "by nothing"),
        ("- name: one\n  data: {}\n  site: {kind: on-prem}\n  expect: allowed\n  because: x\n", "because"),
        ("cases: []\n", "a list is expected"),
        ("- name: [\n", "YAML"),
    ],
    ids=["level", "kind", "country", "reasonless", "contradiction", "key", "shape", "syntax"],
)
def test_a_table_that_says_nothing_is_refused_with_its_line(tmp_path: Path, table: str, words: str) -> None:
    file = tmp_path / "tests.yaml"
    file.write_text(table)
    with pytest.raises(Invalid) as raised:
        tables.cases(file)
    assert str(file) in raised.value.where
    assert words in str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot be read"):
        read(tmp_path)
