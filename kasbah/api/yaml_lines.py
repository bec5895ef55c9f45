"""Reads YAML 1.2 into plain data and remembers the line of every key and value.

It builds from the parsed nodes and not with a loader, so that duplicate keys are seen, numbers can be kept as they were
written (`1.10` as an environment variable is not 1.1), and aliases are counted before they grow: a file is bounded in
bytes, depth and nodes, aliases included.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

LARGEST_FILE = 1_000_000
MOST_NODES = 20_000
DEEPEST = 40
LONGEST_NUMBER = 100
"""Characters of a number. Python refuses to read or write out one of thousands."""

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Something wrong with a file, at a line. `path` is the key, with dots."""

    line: int
    path: str
    message: str


@dataclass(slots=True)
class Lines:
    """The data of a file, with the line of each key and value, and what was wrong on the way."""

    data: Any = None
    keys: dict[Path, int] = field(default_factory=dict)
    values: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, path: Path, message: str, *, at_key: bool = False) -> Problem:
        """A problem at `path`, or at the nearest place above it that is in the file."""
        places = self.keys if at_key else self.values
        known = path
        while known and known not in places:
            known = known[:-1]
        return Problem(places.get(known) or self.values.get(known, 1), dotted(path), message)


def dotted(path: Path) -> str:
    """A path as people write it: `services.web.command[2]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def read(raw: bytes, *, as_written: Callable[[Path], bool]) -> Lines:
    """The data in `raw`. `as_written` says at which paths a number stays the text it was written as."""
    lines = Lines()
    if len(raw) > LARGEST_FILE:
        lines.problems.append(Problem(1, "", f"the file is larger than {LARGEST_FILE:,} bytes"))
        return lines
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        lines.problems.append(Problem(line, "", "the file is not UTF-8 text: save it as UTF-8"))
        return lines
    try:
        yaml = YAML(pure=True)
        yaml.Composer = _Counting
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an anchor used twice, once for each time it is
            node = yaml.compose(text)
        if node is not None:
            lines.data = _Builder(lines, as_written).build(node, ())
    except _TooMuch as error:
        lines.problems.append(Problem(1, "", str(error)))
    except MarkedYAMLError as error:
        lines.problems.append(_syntax(error))
    except (YAMLError, ValueError, RecursionError) as error:
        lines.problems.append(Problem(1, "", f"this is not YAML: {str(error).partition(chr(10))[0]}"))
    return lines


class _TooMuch(ValueError):
    """More nodes, or deeper ones, than any file of ours needs."""


class _Counting(Composer):
    """Gives up at the same number of nodes: composing a megabyte of them would take half a minute."""

    _composed = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._composed += 1
        if self._composed > MOST_NODES:
            raise _TooMuch("the file holds too many values")
        return super().compose_node(parent, index)


class _Builder:
    def __init__(self, lines: Lines, as_written: Callable[[Path], bool]) -> None:
        self._lines = lines
        self._as_written = as_written
        self._nodes = 0

    def build(self, node: Node, path: Path) -> Any:
        self._nodes += 1
        if self._nodes > MOST_NODES or len(path) > DEEPEST:
            raise _TooMuch("the file holds too many values, or too deeply nested ones, its aliases counted")
        self._lines.values[path] = node.start_mark.line + 1
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path) if isinstance(node, ScalarNode) else None

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        made: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self._lines.problems.append(Problem(line, dotted(path), "a key must be one word"))
                continue
            key = str(key_node.value)
            if key == "<<":
                merged |= self._merged(value_node, path)
                continue
            if key in made:
                first = self._lines.keys[(*path, key)]
                self._lines.problems.append(
                    Problem(line, dotted((*path, key)), f"this key is here twice, first on line {first}")
                )
                continue
            self._lines.keys[(*path, key)] = line
            made[key] = self.build(value_node, (*path, key))
            if made[key] is None:
                self._lines.values[(*path, key)] = line  # nothing stands where the next thing begins
        return {**merged, **made}

    def _merged(self, node: Node, path: Path) -> dict[str, Any]:
        built = self.build(node, path)
        parts = built if isinstance(built, list) else [built]
        if not all(isinstance(part, dict) for part in parts):
            self._lines.problems.append(self._lines.problem(path, "`<<` takes a mapping, or a list of them"))
            return {}
        return {key: value for part in reversed(parts) for key, value in part.items()}

    def _scalar(self, node: ScalarNode, path: Path) -> Any:
        text: str = node.value
        kind = str(node.tag).rpartition(":")[2]
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind in ("int", "float"):
            return text if self._as_written(path) else self._number(text, kind, path)
        if kind not in ("str", "timestamp"):
            self._lines.problems.append(self._lines.problem(path, f"tags such as {node.tag} are not understood here"))
        return text

    def _number(self, text: str, kind: str, path: Path) -> int | float | str:
        digits = text.lstrip("+-").replace("_", "")
        if kind == "int" and len(digits) > 1 and digits[0] == "0" and digits.isdigit():
            plain = digits.lstrip("0") or "0"
            self._lines.problems.append(
                self._lines.problem(
                    path, f"{text} starts with a zero, which readers of YAML take differently: write {plain}"
                )
            )
            return text
        cleaned = text.replace("_", "")
        try:
            if len(text) > LONGEST_NUMBER:
                raise ValueError("longer than any number of ours")
            if kind == "int":
                return int(cleaned, 0)
            return float(cleaned.lower().replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:
            shown = f"{text[:40]}..." if len(text) > LONGEST_NUMBER else repr(text)
            self._lines.problems.append(self._lines.problem(path, f"{shown} is no number that can be read"))
            return text


def _syntax(error: MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    said = str(error.problem or error.context or "this is not YAML")
    if "'\\t'" in said or "tab" in said:
        return Problem(line, "", "a tab cannot indent YAML: use spaces")
    if "mapping values are not allowed" in said:
        return Problem(
            line, "", "a colon is not expected here: is the line indented too far, or does the text need quotes?"
        )
    if "another document" in said:
        return Problem(line, "", "only one document is expected: remove the line `---`")
    if "could not find expected ':'" in said:
        return Problem(line, "", "a colon is missing here, or on the line above")
    return Problem(line, "", f"this is not YAML: {said}")
