"""What would change, in words: one line per field, with its value before and after. Values of `env` are never shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

from kasbah.api.quantities import format_duration
from kasbah.domain.revision import Revision

QUIET = frozenset({"id", "source_size"})
"""Fields that follow from others."""


def differences(before: object, after: object) -> tuple[str, ...]:
    """The fields of two values of one class that differ, in the order of `after`."""
    was, will_be = dict(_flat(before, "")), dict(_flat(after, ""))
    names = dict.fromkeys((*will_be, *was))
    return tuple(
        f"{name}: {_text(was.get(name))} -> {_text(will_be.get(name))}"
        for name in names
        if was.get(name) != will_be.get(name)
    )


def revision_differences(before: Revision, after: Revision) -> tuple[str, ...]:
    """What differs between two revisions; of the environment, the names only."""
    found = [line for line in differences(before, after) if not line.startswith("env:")]
    return (*found, *_env(dict(before.env), dict(after.env)))


def _env(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*before, *after}):
        if name not in before:
            yield f"env.{name}: added"
        elif name not in after:
            yield f"env.{name}: removed"
        elif before[name] != after[name]:
            yield f"env.{name}: changed"


def _flat(value: object, path: str) -> Iterator[tuple[str, object]]:
    if not is_dataclass(value):
        yield path, value
        return
    for field in fields(value):
        if field.name not in QUIET:
            inner: Any = getattr(value, field.name)
            yield from _flat(inner, f"{path}.{field.name}" if path else field.name)


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, Enum):
        return str(value.name).lower()
    if isinstance(value, tuple):
        return " ".join(str(one) for one in value) or "none"
    return str(value)
