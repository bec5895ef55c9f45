"""One row of the table: what was measured, beside what, and whether the goal is met.

`ratio` is the median of ratios taken pair by pair where both sides were measured in turns, else ours over the
reference. `ok` is None where nothing is promised, or where the row was skipped (then `ours` is None and `note` says
why). `spread` is the smallest and the largest value behind `ours`, or behind `ratio` where there is one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """See the module."""

    name: str
    ours: float | None
    reference: float | None = None
    reference_name: str = ""
    ratio: float | None = None
    goal: str = ""
    ok: bool | None = None
    unit: str = ""
    spread: tuple[float, float] | None = None
    note: str = ""


def skipped(name: str, reason: str) -> Row:
    """A row that could not be measured."""
    return Row(name=name, ours=None, note=f"skipped: {reason}")


def to_json(rows: Iterable[Row]) -> str:
    """As the files in `bench/results` have them."""
    return json.dumps([asdict(row) for row in rows], indent=1) + "\n"


def from_json(text: str) -> tuple[Row, ...]:
    """What `to_json` wrote. Fields that this version does not know are left out."""
    known = {field.name for field in fields(Row)}
    return tuple(_row({key: value for key, value in found.items() if key in known}) for found in json.loads(text))


def _row(found: dict[str, Any]) -> Row:
    spread = found.get("spread")
    return Row(**{**found, "spread": None if spread is None else (float(spread[0]), float(spread[1]))})


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows of one group."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_json(rows))


def show(rows: Sequence[Row], console: Console) -> None:
    """Print the table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("measured", overflow="fold")
    for heading in ("ours", "beside it", "ratio"):
        table.add_column(heading, justify="right")
    table.add_column("spread", justify="right", style="dim")
    table.add_column("goal")
    table.add_column("")
    for row in rows:
        beside = f"{figure(row.reference)} {row.reference_name}".strip()
        spread = "" if row.spread is None else f"{figure(row.spread[0])}..{figure(row.spread[1])}"
        name = row.name if not row.note else f"{row.name} [dim]({row.note})[/dim]"
        ours = f"{figure(row.ours)} {row.unit}".strip()
        table.add_row(name, ours, beside, figure(row.ratio), spread, row.goal, _verdict(row))
    console.print(table)


def figure(value: float | None) -> str:
    """A number as people read it: three digits that mean something."""
    if value is None:
        return ""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def _verdict(row: Row) -> str:
    if row.ours is None:
        return "[yellow]skipped[/yellow]"
    return {None: "", True: "[green]met[/green]", False: "[bold red]missed[/bold red]"}[row.ok]
