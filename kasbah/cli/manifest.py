"""Reads `kasbah.yaml`: every problem at once, each with its file, line and key, and the nearest right word.

What the fields mean is `api/manifest.py`'s. Nothing here looks at what folders contain, only whether they are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from kasbah.api import yaml_lines
from kasbah.api.manifest import File, ServiceSection, schema
from kasbah.api.yaml_lines import Lines, Problem
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
    lines.problems += _booleans_for_numbers(lines)
    try:
        return File.model_validate(lines.data)
    except ValidationError as error:
        lines.problems += _from_pydantic(error.errors(include_url=False), lines)
        return None


def _beyond_the_schema(lines: Lines, folder: Path) -> list[Problem]:
    """What the schema cannot say: names, images, folders that must be there. Asked of the raw data, so that it is told
    together with whatever else is wrong."""
    services = _at(lines.data, ("services",))
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
        problem = f"{_shown(source)} cannot be read: {error.strerror}"
    return [lines.problem(("services", name, "source"), problem)] if problem else []


def _no_folder(path: Path) -> str:
    return f"{path} is {'no folder' if path.exists() else 'not there'}: source names the folder to deploy"


def _from_pydantic(errors: list[ErrorDetails], lines: Lines) -> list[Problem]:
    """The problems pydantic found, in our words; alternatives of one value become one problem."""
    problems: dict[yaml_lines.Path, Problem] = {}
    # Of the alternatives that a value is not, the one whose kind it has says what is wrong: it comes first.
    for error in sorted(errors, key=lambda one: one["type"].endswith("_type")):
        path = _in_file(error, lines.data)
        if error["type"] == "extra_forbidden":
            problems[path] = lines.problem(path, _unknown_key(path), at_key=True)
        elif path not in problems:
            problems[path] = lines.problem(path, _message(error, path))
    return list(problems.values())


def _in_file(error: ErrorDetails, data: Any) -> yaml_lines.Path:
    """The error's place without pydantic's own words for alternatives, which are not in the file."""
    path: yaml_lines.Path = ()
    for part in error["loc"]:
        inside = (isinstance(data, dict) and part in data) or (isinstance(data, list) and isinstance(part, int))
        if not inside:
            return (*path, part) if error["type"] == "missing" else path
        data = data[part]
        path = (*path, part)
    return path


def _unknown_key(path: yaml_lines.Path) -> str:
    wrong, known = str(path[-1]), _keys_at(path[:-1])
    if near := get_close_matches(wrong.lower().replace("-", "_"), known, n=1, cutoff=0.6):
        return f"unknown key; did you mean {near[0]}?"
    elsewhere = [key for key in known if wrong in _keys_at((*path[:-1], key))]
    if elsewhere:
        return f"unknown key here; it belongs below {elsewhere[0]}"
    return f"unknown key; here can stand: {', '.join(known)}"


def _message(error: ErrorDetails, path: yaml_lines.Path) -> str:
    context: dict[str, Any] = error.get("ctx", {})
    given = _shown(error["input"])
    match error["type"]:
        case "missing":
            return "is missing"
        case "value_error":
            return error["msg"].removeprefix("Value error, ")
        case "enum" | "literal_error":
            return _one_of(error["input"], context["expected"])
        case "string_pattern_mismatch":
            return f"{given} cannot stand here: {_PATTERNS.get(context['pattern'], context['pattern'])}"
        case "greater_than_equal" | "less_than_equal" | "greater_than" | "less_than":
            return f"{given} is out of range: {_bound(error['type'], context)}"
        case "too_short" if path == ("services",):
            return "there is no service: name one below it"
        case "too_short" | "string_too_short":
            return "must not be empty"
        case "too_long" | "string_too_long":
            return f"is too long: {context['max_length']:,} is the most"
        case _:
            return f"{_expected(error['type'], path)} is expected, not {given}"


def _expected(kind: str, path: yaml_lines.Path) -> str:
    if path and path[-1] == "command":
        return "one line of text, or a list of texts,"
    if kind.startswith(("model", "dict")):
        keys = _keys_at(path)
        return f"a mapping with keys such as {', '.join(keys[:3])}" if keys else "a mapping (names and values)"
    if kind.startswith(("tuple", "list")):
        return "a list"
    if kind.startswith("string"):
        return "text"
    return "a whole number" if kind.startswith("int") else "a number"


def _one_of(given: object, expected: str) -> str:
    choices = [choice.strip("' ") for choice in expected.replace(" or ", ", ").split(",")]
    near = get_close_matches(str(given).lower(), choices, n=1, cutoff=0.6)
    return f"{_shown(given)} is none of {', '.join(choices)}{f'; did you mean {near[0]}?' if near else ''}"


def _bound(kind: str, context: dict[str, Any]) -> str:
    words = {"greater_than_equal": "the least is", "less_than_equal": "the most is", "greater_than": "it must be above"}
    key = {"greater_than_equal": "ge", "less_than_equal": "le", "greater_than": "gt", "less_than": "lt"}[kind]
    return f"{words.get(kind, 'it must be below')} {context[key]:,}"


def _shown(value: Any) -> str:
    """A value of the file as a person would name it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = str(value)
    return f"{text[:60]}..." if len(text) > 60 else f"'{text}'"


def _booleans_for_numbers(lines: Lines) -> list[Problem]:
    """`port: true` is no port, whatever Python thinks of it."""
    found = []
    for path in lines.values:
        value, shape = _at(lines.data, path), _schema_at(path)
        kinds = {one.get("type") for one in [shape, *shape.get("anyOf", [])]}
        if isinstance(value, bool) and kinds & {"integer", "number"} and not kinds & {"boolean"}:
            found.append(lines.problem(path, f"a number is expected, not {_shown(value)}"))
    return found


def _at(data: Any, path: yaml_lines.Path) -> Any:
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


@cache
def _schema() -> dict[str, Any]:
    return schema()


def _schema_at(path: yaml_lines.Path) -> dict[str, Any]:
    """The part of the JSON Schema about `path`; empty where it knows nothing of it."""
    shape = _followed(_schema())
    for part in path:
        below = shape.get("items") if isinstance(part, int) else shape.get("properties", {}).get(part)
        shape = _followed(below or shape.get("additionalProperties") or {})
    return shape


def _followed(shape: Any) -> dict[str, Any]:
    """The shape behind references and `or null`."""
    if not isinstance(shape, dict):
        return {}
    if "$ref" in shape:
        return _followed(_schema()["$defs"][shape["$ref"].rpartition("/")[2]])
    real = [one for one in shape.get("anyOf", []) if one.get("type") != "null"]
    return _followed(real[0]) if len(real) == 1 else shape


def _keys_at(path: yaml_lines.Path) -> list[str]:
    return list(_schema_at(path).get("properties", {}))
