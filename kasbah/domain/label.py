"""Labels: how sensitive data is. Unlabelled means sensitive.

Labels combine by the highest level and the union of categories and regimes, so that what is made from several sources
is at least as sensitive as each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Level(IntEnum):
    """0 public, 1 internal, 2 restricted, 3 sensitive, 4 vital."""

    PUBLIC = 0
    INTERNAL = 1
    RESTRICTED = 2
    SENSITIVE = 3
    VITAL = 4

    @property
    def word(self) -> LevelName:
        """How it is written."""
        return LevelName[self.name]


class LevelName(StrEnum):
    """How sensitive the data is."""

    PUBLIC = "public"
    INTERNAL = "internal"
    RESTRICTED = "restricted"
    SENSITIVE = "sensitive"
    VITAL = "vital"

    @property
    def level(self) -> Level:
        """The level that is written so."""
        return Level[self.name]


CATEGORIES = frozenset(
    {"personal", "identifier", "contact", "financial", "health", "genetic", "biometric", "ethnic", "belief"}
    | {"political", "union", "judicial", "minor", "location", "telecom-traffic", "employment", "secret-key"}
    | {"vital-system", "source-code"}
)
"""What data can be about: the words that policies are written in."""


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


def covers(label: Label, floor: Label) -> bool:
    """Whether a label asks for at least as much care as another: no lower level, nothing left out."""
    joined = combine(label, floor)
    return (joined.level, set(joined.categories), set(joined.regimes)) == (
        label.level,
        set(label.categories),
        set(label.regimes),
    )


def label_words(label: Label) -> str:
    """A label as people say it: `restricted (personal) under gdpr`."""
    said: str = label.level.word
    said += f" ({', '.join(label.categories)})" if label.categories else ""
    return said + (f" under {', '.join(label.regimes)}" if label.regimes else "")


def label_text(label: Label) -> str:
    """A label in one line: `3 sensitive; personal, health; ma-0908`."""
    level = f"{label.level.value} {label.level.word}{'' if label.declared else ' (nobody declared one)'}"
    return "; ".join(part for part in (level, ", ".join(label.categories), ", ".join(label.regimes)) if part)
