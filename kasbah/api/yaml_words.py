"""What pydantic found wrong in a file of ours, in words for whoever wrote the file: at which line, and what was meant.

The keys that can stand somewhere are read from the file's JSON Schema, so that a misspelt one is told the nearest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from pydantic_core import ErrorDetails

from kasbah.api import yaml_lines
from kasbah.api.yaml_lines import Lines, Problem

LONGEST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Words:
    """The words for files of one schema. `patterns` says what a regular expression of it asks for."""

    schema: Mapping[str, Any]
    patterns: Mapping[str, str] = field(default_factory=dict)

    def problems(self, errors: list[ErrorDetails], lines: Lines) -> list[Problem]:
        """What pydantic found; alternatives of one value become one problem."""
        problems: dict[yaml_lines.Path, Problem] = {}
        # Of the alternatives that a value is not, the one whose kind it has says what is wrong: it comes first.
        for error in sorted(errors, key=lambda one: one["type"].endswith(("_type", "_parsing"))):
            path = _in_file(error, lines.data)
            at_key = error["loc"][-1:] == ("[key]",)
            if error["type"] == "extra_forbidden":
                problems[path] = lines.problem(path, self._unknown_key(path), at_key=True)
            elif path not in problems:
                problems[path] = lines.problem(path, self._message(error, path), at_key=at_key)
        return list(problems.values())

    def booleans_for_numbers(self, lines: Lines) -> list[Problem]:
        """`port: true` is no port, whatever Python thinks of it."""
        found = []
        for path in lines.values:
            value, shape = at(lines.data, path), self._shape_at(path)
            kinds = {one.get("type") for one in [shape, *shape.get("anyOf", [])]}
            if isinstance(value, bool) and kinds & {"integer", "number"} and not kinds & {"boolean"}:
                found.append(lines.problem(path, f"a number is expected, not {shown(value)}"))
        return found

    def _unknown_key(self, path: yaml_lines.Path) -> str:
        wrong, known = str(path[-1]), self._keys_at(path[:-1])
        if near := get_close_matches(wrong.lower().replace("-", "_"), known, n=1, cutoff=0.6):
            return f"unknown key; did you mean {near[0]}?"
        elsewhere = [key for key in known if wrong in self._keys_at((*path[:-1], key))]
        if elsewhere:
            return f"unknown key here; it belongs below {elsewhere[0]}"
        return f"unknown key; here can stand: {', '.join(known)}"

    def _message(self, error: ErrorDetails, path: yaml_lines.Path) -> str:
        context: dict[str, Any] = error.get("ctx", {})
        given = shown(error["input"])
        match error["type"]:
            case "missing":
                return "is missing"
            case "value_error":
                return error["msg"].removeprefix("Value error, ")
            case "enum" | "literal_error":
                return _one_of(error["input"], context["expected"])
            case "string_pattern_mismatch":
                return f"{given} cannot stand here: {self.patterns.get(context['pattern'], context['pattern'])}"
            case "greater_than_equal" | "less_than_equal" | "greater_than" | "less_than":
                return f"{given} is out of range: {_bound(error['type'], context)}"
            case "too_short" if path == ("services",):
                return "there is no service: name one below it"
            case "too_short" | "string_too_short":
                return "must not be empty"
            case "too_long" | "string_too_long":
                return f"is too long: {context['max_length']:,} is the most"
            case kind if kind.startswith("date"):
                return f"{given} is no day: write one such as 2026-12-31"
            case _:
                return f"{self._expected(error['type'], path)} is expected, not {given}"

    def _expected(self, kind: str, path: yaml_lines.Path) -> str:
        if path and path[-1] == "command":
            return "one line of text, or a list of texts,"
        if kind.startswith(("model", "dict")):
            keys = self._keys_at(path)
            return f"a mapping with keys such as {', '.join(keys[:3])}" if keys else "a mapping (names and values)"
        if kind.startswith(("tuple", "list", "frozen_set", "set")):
            return "a list"
        if kind.startswith("string"):
            return "text"
        if kind.startswith("bool"):
            return "true or false"
        return "a whole number" if kind.startswith("int") else "a number"

    def _shape_at(self, path: yaml_lines.Path) -> Mapping[str, Any]:
        """The part of the JSON Schema about `path`; empty where it knows nothing of it."""
        shape = self._followed(self.schema)
        for part in path:
            below = shape.get("items") if isinstance(part, int) else shape.get("properties", {}).get(part)
            shape = self._followed(below or shape.get("additionalProperties") or {})
        return shape

    def _followed(self, shape: Any) -> Mapping[str, Any]:
        """The shape behind references and `or null`."""
        if not isinstance(shape, Mapping):
            return {}
        if "$ref" in shape:
            return self._followed(self.schema["$defs"][shape["$ref"].rpartition("/")[2]])
        real = [one for one in shape.get("anyOf", []) if one.get("type") != "null"]
        return self._followed(real[0]) if len(real) == 1 else shape

    def _keys_at(self, path: yaml_lines.Path) -> list[str]:
        return list(self._shape_at(path).get("properties", {}))


def at(data: Any, path: yaml_lines.Path) -> Any:
    """What stands at a path; None where nothing does."""
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


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


def _one_of(given: object, expected: str) -> str:
    choices = [choice.strip("' ") for choice in expected.replace(" or ", ", ").split(",")]
    near = get_close_matches(str(given).lower(), choices, n=1, cutoff=0.6)
    return f"{shown(given)} is none of {', '.join(choices)}{f'; did you mean {near[0]}?' if near else ''}"


def _bound(kind: str, context: dict[str, Any]) -> str:
    words = {"greater_than_equal": "the least is", "less_than_equal": "the most is", "greater_than": "it must be above"}
    key = {"greater_than_equal": "ge", "less_than_equal": "le", "greater_than": "gt", "less_than": "lt"}[kind]
    return f"{words.get(kind, 'it must be below')} {context[key]:,}"


def shown(value: Any) -> str:
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
    return f"{text[:LONGEST_SHOWN]}..." if len(text) > LONGEST_SHOWN else f"'{text}'"
