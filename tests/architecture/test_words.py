"""What the repository says: nothing about who or what typed it, nothing that works on one machine only."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).relative_to(ROOT).as_posix()

BANNED = {
    "tools that write text": r"\b(claude|chatgpt|copilot|codex|anthropic|llm[- ]generated|as an ai)\b",
    "talk about sittings of work": r"\b(this|the last|a previous|earlier|next) (session|conversation|prompt)\b(?! id)",
    "a folder outside the repository": r"\.\./shared\b|(?<![\w.$}])/(root|work|home/\w+|Users/\w+|opt/pypi)\b/",
    "a package registry's host": r"\b(pypi\.org|pythonhosted\.org|registry\.npmjs\.org|deb\.debian\.org)\b",
    "left for later without an issue": r"\b(TODO|FIXME|XXX|HACK)\b(?!\(#\d+\))",
}
IGNORED_SUFFIXES = {".png", ".ico", ".woff2", ".onnx", ".safetensors", ".gz", ".tar", ".lock"}


def test_no_word_that_does_not_belong(files) -> None:
    found = []
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        if name == HERE or path.suffix in IGNORED_SUFFIXES:
            continue
        text = path.read_text(errors="replace")
        for what, pattern in BANNED.items():
            flags = 0 if pattern.startswith(r"\b(TODO") else re.IGNORECASE
            found += [
                f"{name}:{text.count(chr(10), 0, hit.start()) + 1}: {what}: {hit.group()!r}"
                for hit in re.finditer(pattern, text, flags)
            ]
    assert not found, "\n".join(found)


def test_the_locks_name_no_index_and_no_folder() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        lines = (ROOT / name).read_text().splitlines()
        odd = [line for line in lines if re.search(r"https?://|file:|--(index|find-links|extra)|(?<!#)\s/\w", line)]
        assert not odd, f"{name}: run `make lock`"
