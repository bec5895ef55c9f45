"""Packs that a site's own owner pins: read whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from kasbah.errors import Invalid
from kasbah.packs import shipped
from kasbah.packs.own import beside, digest_of, pinned

RULES = """
@id("house.payroll") @title("Payroll stays at home") @advice("Choose a site at home.") @cite("Our own decision")
@verified("2026-11-26") @needs("country")
forbid (principal, action in Kasbah::Action::"Process", resource)
when { principal.label.regimes.contains("house") && !(resource has country && resource.country == "MA") };
"""
TABLE = """
- name: abroad
  data: {level: internal, regimes: [house]}
  site: {kind: public, country: FR}
  expect: refused
  by: [RULE]
"""


def write(folder: Path, name: str = "house", table: str = TABLE, rules: str = RULES) -> Path:
    folder.mkdir(parents=True)
    (folder / "pack.yaml").write_text(f"name: {name}\ntitle: Ours\nversion: 3\n")
    (folder / "rules.cedar").write_text(rules.replace("house.", f"{name}."))
    if table:
        (folder / "tests.yaml").write_text(table.replace("RULE", f"{name}.payroll"))
    return folder


def test_a_folder_is_one_pack_or_holds_several(tmp_path: Path) -> None:
    both = TABLE.replace("RULE", "cellar.payroll, house.payroll")
    write(tmp_path / "packs" / "house", table=both)
    write(tmp_path / "packs" / "cellar", name="cellar", table=both)
    (tmp_path / "packs" / "README").write_text("nothing of a pack")
    assert [(one.name, one.version) for one in pinned(tmp_path / "packs")] == [("cellar", 3), ("house", 3)]
    alone = write(tmp_path / "alone")
    assert [one.name for one in pinned(alone)] == ["house"]


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        pytest.param({"table": ""}, "without tests", id="no tests"),
        pytest.param({"table": TABLE.replace("refused\n  by: [RULE]", "allowed")}, "abroad: it is refused", id="wrong"),
        pytest.param({"rules": RULES.replace("forbid", "forbidden")}, "this is not Cedar", id="no Cedar"),
    ],
)
def test_a_broken_pack_is_not_pinned(tmp_path: Path, broken: dict[str, str], says: str) -> None:
    write(tmp_path / "packs" / "house", **broken)
    with pytest.raises(Invalid, match=says):
        pinned(tmp_path / "packs")


def test_nothing_pinned_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no pack is in it"):
        pinned(tmp_path)
    with pytest.raises(Invalid, match="cannot be read"):
        pinned(tmp_path / "nowhere")


def test_it_stands_beside_the_others_in_the_place_of_its_namesake(tmp_path: Path) -> None:
    (own,) = pinned(write(tmp_path / "house"))
    law = beside((*shipped(), own), [own])
    assert [one.name for one in law.packs].count("house") == 1
    assert digest_of(own).startswith("sha256:")
