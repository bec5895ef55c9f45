"""Labels: how sensitive data is. Unlabelled means sensitive.

Labels combine by the highest level and the union of categories and regimes, so that what is made from several sources
is at least as sensitive as each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """0 public, 1 internal, 2 restricted, 3 sensitive, 4 vital."""

    PUBLIC = 0
    INTERNAL = 1
    RESTRICTED = 2
    SENSITIVE = 3
    VITAL = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """The label on data. `declared` is false where nobody declared one and the default stands in."""

    level: Level = Level.SENSITIVE
    categories: tuple[str, ...] = ()
    regimes: tuple[str, ...] = ()
    declared: bool = True


UNLABELLED = Label(level=Level.SENSITIVE, declared=False)


def combine(first: Label, second: Label) -> Label:
    """The label of what is made from both: the highest level, all categories, all regimes."""
    return Label(
        level=max(first.level, second.level),
        categories=tuple(sorted({*first.categories, *second.categories})),
        regimes=tuple(sorted({*first.regimes, *second.regimes})),
        declared=first.declared and second.declared,
    )
