"""How a Node source runs: its `start` script, else its `main`, else a file with a usual name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from kasbah.decide.detected import Detected, Files, Refusal, vector_or_line
from kasbah.domain.revision import Runtime

NAMES = tuple(
    f"{folder}{name}.{ending}"
    for folder in ("", "src/")
    for name in ("index", "server", "app", "main")
    for ending in ("js", "mjs", "cjs")
)
READS_PORT = re.compile(r"env\s*(\.\s*PORT\b|\[\s*['\"`]PORT)|\bPORT\b[^;}]*\}\s*=\s*process\.env")
FIXED_PORT = re.compile(r"\.listen\(\s*(\d{2,5})\b|\bport\b\s*[=:]\s*(\d{2,5})\b", re.IGNORECASE)
NEEDS_NPM = re.compile(r"\bnpm_\w+")
"""Scripts that read what only npm sets."""
NO_START = Refusal(
    message="package.json has no start script, and there is no index.js, server.js, app.js or main.js",
    hint='add "scripts": {"start": "node FILE"} to package.json, or `command:` to kasbah.yaml',
)


def detect_node(files: Files) -> Detected | Refusal:
    """How a Node source runs, or why that cannot be told."""
    text = files.get("package.json")
    try:
        package = json.loads((text or "{}").removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        return Refusal(message=f"package.json is not valid JSON: {error}", hint="correct it")
    if not isinstance(package, dict):
        return Refusal(message="package.json is not an object", hint="correct it")
    scripts = package.get("scripts")
    scripts = scripts if isinstance(scripts, dict) else {}
    return _by_script(scripts, files) or _by_main(package.get("main"), scripts, files) or _by_name(files) or NO_START


def _by_script(scripts: Mapping[str, object], files: Files) -> Detected | None:
    """The script's own text is run, not npm: one process fewer, and signals arrive."""
    line = scripts.get("start")
    if not isinstance(line, str) or not line.strip():
        return None
    reason = f"package.json starts it with: {line.strip()}"
    if "prestart" in scripts or NEEDS_NPM.search(line):
        return Detected(runtime=Runtime.NODE, command=("npm", "start"), reasons=(reason,))
    command = vector_or_line(line)
    entry = next((word.removeprefix("./") for word in command[1:] if word.endswith((".js", ".mjs", ".cjs"))), "")
    return Detected(runtime=Runtime.NODE, command=command, port=_port(files.get(entry)), reasons=(reason,))


def _by_main(main: object, scripts: Mapping[str, object], files: Files) -> Detected | None:
    """`npm init` writes a `main` that may not exist; it counts where it does, or where the build may make it."""
    if not isinstance(main, str) or not main.strip() or "\0" in main:
        return None
    path = main.strip().removeprefix("./").rstrip("/")
    there = next((name for name in (path, f"{path}.js", f"{path}/index.js") if name in files), None)
    if there is None and "build" not in scripts:
        return None
    reason = f"package.json names {main.strip()} as its main file"
    return Detected(runtime=Runtime.NODE, command=("node", path), port=_port(files.get(there or "")), reasons=(reason,))


def _by_name(files: Files) -> Detected | None:
    name = next((name for name in NAMES if name in files), None)
    if name is None:
        return None
    reason = f"there is {name}"
    return Detected(
        runtime=Runtime.NODE, command=("node", name), port=_port(files.get(name)), reasons=(reason,), guess=True
    )


def _port(text: str | None) -> int | None:
    """The port written into the code, where it does not ask for PORT."""
    if not text or READS_PORT.search(text):
        return None
    found = FIXED_PORT.search(text)
    port = int(found[1] or found[2]) if found else 0
    return port if 0 < port < 65_536 else None
