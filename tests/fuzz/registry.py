"""The targets of all files, and what they share: see `targets.py`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

Target = Callable[[bytes], None]

SEEDS: dict[str, tuple[bytes, ...]] = {}
"""What each target understands: where the search begins."""

TARGETS: dict[str, Target] = {}


def target(*seeds: bytes) -> Callable[[Target], Target]:
    """Add a target, known by its function's name."""

    def added(run: Target) -> Target:
        TARGETS[run.__name__], SEEDS[run.__name__] = run, seeds
        return run

    return added


@contextmanager
def temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kasbah-fuzz-") as name:
        yield Path(name)


def text_of(data: bytes) -> str:
    """Text of every kind, halves of surrogate pairs included."""
    return data.decode("utf-8", "surrogatepass") if data[:1] != b"\xff" else data.decode("latin-1")


def any_text(data: bytes) -> str:
    with suppress(UnicodeDecodeError):
        return text_of(data)
    return data.decode("utf-8", "surrogateescape")
