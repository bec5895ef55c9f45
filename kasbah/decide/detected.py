"""The answers of detection: how a source runs, or why that could not be found out. Both carry reasons people read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kasbah.domain.revision import Runtime

Files = Mapping[str, str | None]
"""Paths relative to the source folder, with slashes; the text of those that are `wanted`, None for the others."""

PLAIN_WORD = re.compile(r"[\w./:@%+,-][\w./:@%+,=-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """How a source runs. `command` of one element is a line for the shell; `port` is the port the app seems to insist
    on, None where it listens on PORT; `guess` says that nothing in the source names the command."""

    runtime: Runtime
    command: tuple[str, ...]
    port: int | None = None
    reasons: tuple[str, ...] = ()
    guess: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why no command was found, and what to do about it."""

    message: str
    hint: str


def vector_or_line(line: str) -> tuple[str, ...]:
    """A command line as an argument vector where it is plain words, else as one line for the shell."""
    words = line.split()
    plain = all(PLAIN_WORD.fullmatch(word) for word in words)
    return tuple(words) if words and plain and "=" not in words[0] else (line.strip(),)
