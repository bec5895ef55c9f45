"""The oracle that judges the simulated fleet shares no code with what it judges."""

from __future__ import annotations

import ast
from pathlib import Path

ORACLE = Path(__file__).parents[1] / "simulation" / "lawful_oracle.py"
STANDARD = {"__future__", "collections.abc", "dataclasses", "datetime", "ipaddress"}


def test_the_oracle_knows_the_law_by_itself() -> None:
    found = [node for node in ast.walk(ast.parse(ORACLE.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    named = {one.module if isinstance(one, ast.ImportFrom) else alias.name for one in found for alias in one.names}
    assert named <= STANDARD
