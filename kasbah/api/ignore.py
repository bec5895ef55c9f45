"""Which files of a source folder travel: all but what its ignore file names, and what nobody deploys.

`.kasbahignore` where the folder has one at its top, else `.gitignore`; both may be nested, and read as git reads
them. Folders that are symbolic links are never entered; one with nothing in it does not travel, as in git.
`kasbah.yaml` at the top says how the source runs and is no part of it: changing a replica count builds nothing anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from pathspec import GitIgnoreSpec

from kasbah.errors import Invalid

NEVER = (
    ".git",
    ".hg",
    ".svn",
    ".venv",
    "node_modules",
    "__pycache__",
    "*.pyc",
    "*.pyo",
    ".kasbah",
    ".DS_Store",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".hypothesis",
    ".tox",
    ".nox",
)
"""Names left out whatever the ignore files say: histories, caches, and what the site builds itself."""

NEVER_AT_TOP = ("kasbah.yaml", "kasbah.yml")
LARGEST_IGNORE_FILE = 2**20
STARS = re.compile(r"(?<!\\)\*{3,}")
"""To git they are one star; each would double the time that a name takes to match."""
MOST_STARS = 20

Rules = tuple[tuple[str, GitIgnoreSpec], ...]
"""Ignore files from the top down, each with the folder it counts from (`""` or ending in a slash)."""


def travelling(folder: Path, *, depth: int | None = None) -> Iterator[str]:
    """The paths that travel, relative to `folder` and with slashes: files, symbolic links and whatever else is no
    folder, in no particular order. `depth` 1 looks at the top level only."""
    own = folder / ".kasbahignore"
    name = ".kasbahignore" if own.is_file() else ".gitignore"
    yield from _walk(folder, "", (), name, depth)


def _walk(folder: Path, base: str, rules: Rules, ignore_file: str, depth: int | None) -> Iterator[str]:
    found = _read_rules(folder / ignore_file)
    if found is not None:
        rules = (*rules, (base, found))
    for entry in _entries(folder):
        path = base + entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        if _left_out(entry, path, is_folder, rules):
            continue
        if not is_folder:
            yield path
        elif depth is None or depth > 1:
            yield from _walk(Path(entry.path), f"{path}/", rules, ignore_file, None if depth is None else depth - 1)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise Invalid(f"cannot read {folder}: {error.strerror}", hint="make it readable, or ignore it") from error


def _left_out(entry: os.DirEntry[str], path: str, is_folder: bool, rules: Rules) -> bool:
    if any(fnmatchcase(entry.name, pattern) for pattern in NEVER) or path in NEVER_AT_TOP:
        return True
    if is_folder and os.path.lexists(os.path.join(entry.path, "pyvenv.cfg")):
        return True  # a virtual environment, whatever it is called
    shown = f"{path}/" if is_folder else path
    for base, spec in reversed(rules):  # the nearest ignore file that has an opinion wins
        verdict = spec.check_file(shown.removeprefix(base)).include
        if verdict is not None:
            return verdict
    return False


def _read_rules(path: Path) -> GitIgnoreSpec | None:
    if not path.is_file() or path.is_symlink():
        return None
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_IGNORE_FILE).decode("utf-8", "replace")
        lines = [STARS.sub("*", line) for line in text.splitlines()]
        if any(line.count("*") > MOST_STARS for line in lines if not line.startswith("#")):
            raise ValueError(f"a line has more than {MOST_STARS} stars, which takes longer to match than anybody waits")
        return GitIgnoreSpec.from_lines(lines)
    except (OSError, ValueError, re.error) as error:
        raise Invalid(f"cannot read this ignore file: {error}", where=str(path)) from error
