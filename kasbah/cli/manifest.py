"""Reads `kasbah.yaml`: every problem at once, each with its file, line and key, and the nearest right word.

What the fields mean is `api/manifest.py`'s. Nothing here looks at what folders contain, only whether they are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kasbah.api import yaml_lines
from kasbah.api.manifest import File, ServiceSection, schema
from kasbah.api.yaml_lines import Lines, Problem
from kasbah.api.yaml_words import Words, at, shown
from kasbah.cli.text import clean
from kasbah.domain.service import name_error
from kasbah.errors import Invalid

NAMES = ("kasbah.yaml", "kasbah.yml")
NO_CONTAINERS = (
    "no site has a container driver yet, so images cannot run: remove image, and give source (a folder) instead"
)
_PATTERNS = {
    r"^/[^\s\x00]*$": "a path starts with / and holds no spaces",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "the name of a variable holds letters, digits and _, and starts with no digit",
    r"^[a-z0-9][a-z0-9-]*$": "a word of lower-case letters, digits and dashes is expected",
    r"^[^\x00]*$": "the text holds a zero byte",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A file that holds no mistake: its services in its order, and the folder that their sources are relative to."""

    file: Path
    services: dict[str, ServiceSection]

    @property
    def folder(self) -> Path:
        """The folder that holds the file."""
        return self.file.parent


def read(file: Path) -> Manifest:
    """The manifest in `file`. Raises Invalid that names every problem."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(yaml_lines.LARGEST_FILE + 1)
    except OSError as error:
        raise Invalid(f"it cannot be read: {error.strerror}", where=str(file)) from error
    lines = yaml_lines.read(raw, as_written=_as_written)
    parsed = None if lines.problems and lines.data is None else _validate(lines)
    lines.problems += _beyond_the_schema(lines, file.parent)
    if lines.problems or parsed is None:
        raise _refusal(file, lines.problems)
    return Manifest(file=file, services=dict(parsed.services))


def _as_written(path: yaml_lines.Path) -> bool:
    """Arguments and environment variables are text: 1.10 stays 1.10 and 007 stays 007."""
    return len(path) > 3 and path[0] == "services" and path[2] in ("env", "command")


def _refusal(file: Path, problems: list[Problem]) -> Invalid:
    told = [
        f"{file.name}:{one.line}: {one.path + ': ' if one.path else ''}{one.message}" for one in sorted(set(problems))
    ]
    return Invalid(
        clean("\n".join(told), lines=True),
        hint="`kasbah schema` prints every key that can stand in it",
        code="invalid_file",
    )


def _validate(lines: Lines) -> File | None:
    if lines.data is None:
        lines.problems.append(Problem(1, "", "the file is empty: it needs `services:`, and a service below it"))
        return None
    if not isinstance(lines.data, dict):
        lines.problems.append(Problem(1, "", "the file must hold `services:`, and the services below it"))
        return None
    lines.problems += _words().booleans_for_numbers(lines)
    try:
        return File.model_validate(lines.data)
    except ValidationError as error:
        lines.problems += _words().problems(error.errors(include_url=False), lines)
        return None


def _beyond_the_schema(lines: Lines, folder: Path) -> list[Problem]:
    """What the schema cannot say: names, images, folders that must be there. Asked of the raw data, so that it is told
    together with whatever else is wrong."""
    services = at(lines.data, ("services",))
    found: list[Problem] = []
    for name, section in services.items() if isinstance(services, dict) else ():
        if reason := name_error(name):
            found.append(lines.problem(("services", name), reason, at_key=True))
        if isinstance(section, dict):
            found += _image(section, lines, name) if section.get("image") else _source(section, lines, name, folder)
    return found


def _image(section: dict[str, Any], lines: Lines, name: str) -> list[Problem]:
    beside = [key for key in ("source", "command", "runtime") if section.get(key) is not None]
    return [
        *(lines.problem(("services", name, key), "cannot stand beside image: keep one of them") for key in beside),
        lines.problem(("services", name, "image"), NO_CONTAINERS),
    ]


def _source(section: dict[str, Any], lines: Lines, name: str, folder: Path) -> list[Problem]:
    source = section.get("source", ".")
    if not isinstance(source, str) or "\x00" in source:
        return []
    try:
        problem = "" if (folder / source).is_dir() else _no_folder(folder / source)
    except OSError as error:  # a name too long for the machine, a folder above it that may not be read
        problem = f"{shown(source)} cannot be read: {error.strerror}"
    return [lines.problem(("services", name, "source"), problem)] if problem else []


def _no_folder(path: Path) -> str:
    return f"{path} is {'no folder' if path.exists() else 'not there'}: source names the folder to deploy"


@cache
def _words() -> Words:
    return Words(schema(), _PATTERNS)
