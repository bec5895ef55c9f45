"""A pack of one's own, as users write one."""

from __future__ import annotations

from pathlib import Path

TABLE = """
- name: abroad
  data: {level: internal, regimes: [house]}
  site: {kind: public, country: FR}
  expect: refused
  by: [house.payroll]
- name: at home
  data: {level: internal, regimes: [house]}
  site: {kind: public, country: MA}
  expect: allowed
"""


def write_pack(folder: Path, rules: str) -> Path:
    """A pack with these rules, which the table holds of."""
    folder.mkdir(parents=True)
    (folder / "pack.yaml").write_text("name: house\ntitle: Ours\nversion: 1\n")
    (folder / "rules.cedar").write_text(rules)
    (folder / "tests.yaml").write_text(TABLE)
    return folder
