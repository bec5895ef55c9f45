"""The reference says what the code does: it is made from it, and committed."""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path

import pytest
import typer

from kasbah.cli import reference, shapes
from kasbah.cli.exits import TYPES
from kasbah.cli.main import COMMANDS
from kasbah.control.http.errors import TYPES as API_TYPES

PAGES = reference.pages()
FOLDER = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", PAGES)
def test_the_reference_is_current(name: str) -> None:
    assert (FOLDER / name).read_text() == PAGES[name], "run python -m kasbah.cli.reference"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_knows_each_command_as_it_is(name: str) -> None:
    module, _, attribute = COMMANDS[name].at.partition(":")
    found = getattr(importlib.import_module(f"kasbah.cli.{module}"), attribute)
    words = found.info.help if isinstance(found, typer.Typer) else inspect.getdoc(found)
    assert words.splitlines()[0] == COMMANDS[name].summary


def test_links_of_the_reference_lead_somewhere() -> None:
    for name, text in PAGES.items():
        headings = {line.lstrip("# ").strip("`").lower() for line in text.splitlines() if line.startswith("## ")}
        links = {part.partition(")")[0] for part in text.split("](#")[1:]}
        assert links <= headings, name


def test_every_json_output_is_documented() -> None:
    text = json.dumps(shapes.schema())
    for name in ("ServiceView", "ServiceDetail", "KeyMade", "ErrorBody", "Deployed", "Up"):
        assert f'"{name}"' in text


def test_errors_have_the_types_that_the_api_gives_them() -> None:
    assert TYPES.items() <= API_TYPES.items()
