"""How does this source run? Its runtime and command, found out from its files, with the reasons.

Pure: the caller supplies the names (the top three levels, what is ignored left out) and the texts of those `wanted`.
The order is: a Procfile; Python; Node. Where both languages are there, what names its command beats a guess. Nothing in
the files makes this raise.
"""

from __future__ import annotations

import re
from dataclasses import replace

from kasbah.decide.detect_node import detect_node
from kasbah.decide.detect_python import detect_python
from kasbah.decide.detected import Detected, Files, Refusal, vector_or_line
from kasbah.domain.revision import Runtime

WANTED = (
    re.compile(r"Procfile|package\.json|pyproject\.toml|requirements[\w.-]*\.txt|requirements/[\w.-]+\.txt|manage\.py"),
    re.compile(r"[^/]+\.(py|js|mjs|cjs)"),
    re.compile(r"(src/)?[^/]+/(main|app|server|asgi|wsgi|api|application|__init__|__main__)\.py"),
    re.compile(r"src/(index|server|app|main)\.(js|mjs|cjs)|src/(main|app|server|asgi|wsgi)\.py"),
)
"""The paths whose text detection reads; of all others it needs the name only."""

DEPTH = 3
LARGEST_TEXT = 2**20
"""A longer file is no entry point that a person wrote."""

PYTHON_MARKS = re.compile(r"requirements\.txt|uv\.lock|poetry\.lock|Pipfile|setup\.py|manage\.py")
PYTHON_TABLES = re.compile(r"^\s*\[\s*(project|tool\.poetry|build-system|tool\.kasbah)\b", re.MULTILINE)
PYTHON_FILE = re.compile(r"[^/]+\.py")
NODE_FILE = re.compile(r"[^/]+\.(js|mjs|cjs)")
NODE_PROGRAMS = frozenset({"node", "npm", "npx"})
WEB_LINE = re.compile(r"^web:[ \t]*(\S.*)$", re.MULTILINE)
NO_LANGUAGE = Refusal(
    message="the folder has no Procfile, pyproject.toml, requirements.txt or package.json, nor a Python or Node file",
    hint="write how it starts as `command:` in kasbah.yaml, or point `source:` at the folder that holds the app",
)


def wanted(path: str) -> bool:
    """Whether detection reads the text of `path`."""
    return any(pattern.fullmatch(path) for pattern in WANTED)


def runtime_of(files: Files, command: tuple[str, ...] = ()) -> Runtime:
    """What builds the source. Where both languages are there, the command's first word may settle it."""
    languages = _languages(files)
    program = (command[0].split() or [""])[0] if command else ""
    if Runtime.NODE in languages and program in NODE_PROGRAMS:
        return Runtime.NODE
    return languages[0] if languages else Runtime.COMMAND


def detect(files: Files) -> Detected | Refusal:
    """How the source runs, or why that cannot be told."""
    if found := WEB_LINE.search(files.get("Procfile") or ""):
        line = found[1].strip()
        command = vector_or_line(line)
        return Detected(runtime=runtime_of(files, command), command=command, reasons=(f"Procfile says web: {line}",))
    languages = _languages(files)
    answers = [detect_python(files) if one is Runtime.PYTHON else detect_node(files) for one in languages]
    return _best(answers)


def _best(answers: list[Detected | Refusal]) -> Detected | Refusal:
    """The first that is certain, else the first guess, else the first refusal."""
    found = [one for one in answers if isinstance(one, Detected)]
    certain = [one for one in found if not one.guess]
    best = (certain or found or answers or [NO_LANGUAGE])[0]
    if isinstance(best, Detected) and len(answers) > 1:
        note = f"there is Python and Node here; {best.runtime} says how it starts"
        return replace(best, reasons=(*best.reasons, note))
    return best


def _languages(files: Files) -> list[Runtime]:
    """The languages here, the likelier one first: what declares dependencies counts more than a lone file."""
    python = _any(PYTHON_MARKS, files) or bool(PYTHON_TABLES.search(files.get("pyproject.toml") or ""))
    node = "package.json" in files
    marks = [(python, Runtime.PYTHON), (node, Runtime.NODE)]
    marks += [(_any(PYTHON_FILE, files), Runtime.PYTHON), (_any(NODE_FILE, files), Runtime.NODE)]
    marks += [("pyproject.toml" in files, Runtime.PYTHON)]
    return list(dict.fromkeys(runtime for there, runtime in marks if there))


def _any(pattern: re.Pattern[str], files: Files) -> bool:
    return any(pattern.fullmatch(path) for path in files)
