"""Files that say what cannot be: each mistake with its line, in words, and with the word that was probably meant."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from pydantic import BaseModel

from kasbah.api.sites_file import SitesFile
from kasbah.cli import policy
from kasbah.cli.client import secret_path
from kasbah.cli.exits import ExitCode, exit_code
from kasbah.cli.policy_file import PolicyFile
from kasbah.decide.charters import faults
from kasbah.domain.charter import Charter
from kasbah.domain.ids import InstallationId, SiteId
from kasbah.errors import Invalid, TooLarge
from kasbah.packs import parse
from kasbah.packs.tables import Table

SITES = """\
sites:
  Paris One:
    kind: sovereing
    since: yesterday
    countri: FR
    certificates: [{name: A}]
    exposure: FR
    customer_keys: maybe
    owners: []
    carbon: -1
"""
POLICY = """\
hom: MA
packs: {base: }
limit: many
stale_after: {secret: 5m}
"""
TABLE = """\
- nme: one
  data: 3
  site: {kind: public, country: france}
  expect: allowed
"""


@pytest.mark.parametrize(
    ("shape", "text", "words"),
    [
        (
            SitesFile,
            SITES,
            [
                ":2: sites.Paris One: 'Paris One' is no name",
                "line 3: sites.Paris One.kind: 'sovereing' is none of",
                "did you mean sovereign?",
                "line 4: sites.Paris One.since: 'yesterday' is no day: write one such as 2026-12-31",
                "line 5: sites.Paris One.countri: unknown key; did you mean country?",
                "line 6: sites.Paris One.certificates[0].until: is missing",
                "line 7: sites.Paris One.exposure: a list is expected, not 'FR'",
                "line 8: sites.Paris One.customer_keys: true or false is expected, not 'maybe'",
                "line 9: sites.Paris One.owners: must not be empty",
                "line 10: sites.Paris One.carbon: '-1' is out of range: the least is 0",
            ],
        ),
        (
            PolicyFile,
            POLICY,
            [
                ":1: hom: unknown key; did you mean home?",
                "line 3: limit: 'many' cannot stand here: a number of services is expected, or a part",
                "line 4: stale_after.secret: 'secret' is none of public, internal",
            ],
        ),
        (
            Table,
            TABLE,
            [
                ":1: [0].name: is missing",
                "line 1: [0].nme: unknown key; did you mean name?",
                "line 2: [0].data: a mapping with keys such as level, categories, regimes is expected, not '3'",
                "line 3: [0].site.country: 'france' cannot stand here: a country is two capital letters",
            ],
        ),
    ],
    ids=["sites", "policy", "table"],
)
def test_every_mistake_is_told_at_once(tmp_path: Path, shape: type[BaseModel], text: str, words: list[str]) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(text)
    with pytest.raises(Invalid) as refused:
        parse(file, shape)
    told = str(refused.value)
    assert [one for one in words if one not in told] == []
    assert "[key]" not in told, "pydantic's own words are in no file"
    assert "Input should be" not in told


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("certificates: [{name: HDS, until: 2024-05-31}]", "certificate HDS ran out on 2024-05-31"),
        ("since: 2026-05-01\n    until: 2025-01-01\n    country: FR", "country ends on 2025-01-01, before it begins"),
    ],
    ids=["ran out", "backwards"],
)
def test_days_that_cannot_be(tmp_path: Path, said: str, words: str) -> None:
    """Who named no first day is told of the last one alone."""
    file = tmp_path / "sites.yaml"
    file.write_text(f"sites:\n  paris:\n    kind: public\n    {said}\n")
    section, today = parse(file, SitesFile).sites["paris"], date(2026, 11, 27)
    charter = Charter(
        installation=InstallationId("in-1"),
        site=SiteId("st-1"),
        name="paris",
        version=1,
        kind=section.kind,
        facts=section.facts(today),
    )
    assert words in "; ".join(fault.why for fault in faults(charter, today, ()))


def test_a_pack_without_a_table_is_told_alike_wherever_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "pack.yaml").write_text("name: house\ntitle: Ours\nversion: 1\n")
    (tmp_path / "rules.cedar").write_text("")
    with pytest.raises(Invalid, match="a pack without tests is no pack"):
        policy.run_tables([tmp_path])


def test_what_is_too_large_or_no_name_is_wrong_usage() -> None:
    assert exit_code(TooLarge("the value has more than 65,536 bytes")) is ExitCode.USAGE
    with pytest.raises(Invalid, match="cannot be a secret's name"):
        secret_path("Bad Name")
