"""How results look: JSON and YAML as the API gave them, tables for people. Results go to standard output, everything
said on the way to standard error.

Plain when standard output is no terminal: no colours, nothing that moves.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, TextIO

from kasbah.cli.text import clean, clean_json


class Output(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


GOOD = frozenset({"running", "ready", "ok", "done", "proven", "built", "chosen", "yes"})
BAD = frozenset({"failed", "fail", "refused", "unready"})
QUIET = frozenset({"frozen", "stopped", "ended", "possible"})


def say(text: str) -> None:
    """A line about what happens, for whoever watches."""
    print(clean(text, lines=True), file=sys.stderr, flush=True)


def document(value: Any, output: Output) -> None:
    """Print `value` as JSON or YAML."""
    if output is Output.YAML:
        from ruamel.yaml import YAML

        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        yaml.representer.add_representer(str, _quoted)
        text = io.StringIO()
        yaml.dump(value, text)
        print(clean_json(text.getvalue()), end="")
        return
    print(clean_json(json.dumps(value, indent=2, ensure_ascii=False)))


def _quoted(representer: Any, text: str) -> Any:
    """Text that holds what a terminal would obey stands in double quotes: there it can be written as escapes."""
    style = '"' if clean_json(text) != text else None
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Print `rows` below `headers`, in columns; `empty` tells what to do where there are none."""
    if not rows:
        say(empty)
        return
    lines = _aligned([list(headers), *([clean(str(cell)) for cell in row] for row in rows)])
    if not colourful(sys.stdout):
        print("\n".join("".join(cells).rstrip() for cells in lines))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False)
    for number, cells in enumerate(lines):
        styled = [(cell, _style(cell.strip()) if number else "bold") for cell in cells]
        console.print(Text.assemble(*styled), soft_wrap=True)  # a URL that is folded cannot be copied


def fields(pairs: Mapping[str, object]) -> None:
    """Print names and values, a line each; those without a value are left out."""
    shown = {name: str(value) for name, value in pairs.items() if value not in (None, "")}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        print(f"{name.ljust(width)}  {clean(value)}")


def moment(text: str | None) -> str:
    """A moment as people read it, in UTC."""
    return "" if text is None else f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S}Z"


def label(level: str, data: Mapping[str, Any]) -> str:
    """A label in words: its `level` as said, and what the data is about and under."""
    parts = [level]
    parts += [f"about {', '.join(data['categories'])}"] if data["categories"] else []
    parts += [f"under {', '.join(data['regimes'])}"] if data["regimes"] else []
    return "; ".join(parts)


def colourful(stream: TextIO) -> bool:
    """Whether colours and moving things are welcome on `stream`."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _aligned(rows: list[list[str]]) -> list[list[str]]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [[f"{cell.ljust(width)}  " for cell, width in zip(row, widths, strict=True)] for row in rows]


def _style(cell: str) -> str:
    if cell in GOOD:
        return "green"
    if cell in BAD:
        return "red"
    return "dim" if cell in QUIET else ""
