"""From what was built to how it starts: the argument vector, the environment, and the folders a replica must read."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin")
SYSTEM_PREFIXES = (Path("/"), Path("/usr"))
"""What every replica may read anyway."""

QUIET = {
    "LANG": "C.UTF-8",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Where an app runs is nobody else's business: known libraries that dial home are told not to."""

NEEDS_SHELL = re.compile(r"[\s$|&;<>()`\\\"'*?\[\]#~{}]")
NO_EXEC = re.compile(r"[;&|\n]|^\s*\w+=")
"""Lines that are more than one command, or begin by setting a variable."""
SHELL_WORD = re.compile(
    r"\(.*|[!.:{]|alias|case|cd|command|eval|exec|exit|export|for|if|local|read|set|source|trap|ulimit|umask|unset|until"
    r"|wait|while"
)
"""First words that are the shell's own: they cannot be exec'ed."""
PLAIN_WORD = re.compile(r"[\w./+@:-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a runtime adds to a replica: where its programs are, its variables, and what it must be able to read."""

    path: tuple[Path, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    readable: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A revision that can be started. `app` is its source as built: a replica works in it or in a copy of it."""

    app: Path
    argv: tuple[str, ...]
    env: Mapping[str, str]
    readable: tuple[Path, ...]


def built(app: Path, command: tuple[str, ...], launch: Launch) -> Built:
    """What `launch` makes of a revision's command."""
    path = ":".join([*map(str, launch.path), *SYSTEM_PATH])
    return Built(
        app=app,
        argv=argument_vector(command, app),
        env={**QUIET, **launch.variables, "PATH": path},
        readable=(app.parent, *(one for one in launch.readable if one not in SYSTEM_PREFIXES)),
    )


def argument_vector(command: tuple[str, ...], app: Path) -> tuple[str, ...]:
    """The command as an argument vector: one element that needs a shell is a line for it, anything else is taken as
    it is. A program named by a path in the source is named in full.

    >>> argument_vector(("serve --port $PORT",), Path("/a"))
    ('/bin/sh', '-c', 'exec serve --port $PORT')
    """
    if len(command) == 1 and NEEDS_SHELL.search(command[0]):
        return ("/bin/sh", "-c", shell_line(command[0]))
    program = command[0]
    if "/" in program and not program.startswith("/"):
        program = str(app / program)
    return (program, *command[1:])


def shell_line(line: str) -> str:
    """The line, `exec` before it where it is a single command: signals then reach the app and not its shell."""
    first = line.split(maxsplit=1)[:1]
    return line if not first or NO_EXEC.search(line) or SHELL_WORD.fullmatch(first[0]) else f"exec {line.strip()}"


def command_error(built: Built, command: tuple[str, ...]) -> str | None:
    """Why the command cannot start, or None where nothing speaks against it. A shell line tells only its first word."""
    if not command[0].strip():
        return "the command is empty"
    shell = built.argv[:2] == ("/bin/sh", "-c") and len(command) == 1
    shown = command[0].split()[0] if shell else command[0]
    program = shown if shell else built.argv[0]
    if shell and not (built.argv[2].startswith("exec ") and PLAIN_WORD.fullmatch(program)):
        return None
    if "/" not in program:
        return None if shutil.which(program, path=built.env["PATH"]) else f"the command `{shown}` was not found"
    path = built.app / program
    if not path.is_file():
        return f"the command `{shown}` was not found"
    return None if os.access(path, os.X_OK) else f"`{shown}` is not executable"
