"""The small server behind every proxy (`references/upstream.c`): compiled, started, or made a service of Kasbah's."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import Unmeasured
from bench.processes import free_port, started, tool, until_listening

SOURCE = Path(__file__).with_name("references") / "upstream.c"
COMPILE_SECONDS = 60.0


def compiled(folder: Path) -> Path:
    """The program, in a folder that is made for it."""
    program = folder / "upstream"
    if program.exists():
        return program
    folder.mkdir(parents=True, exist_ok=True)
    command = [tool("gcc", "gcc libc6-dev"), "-O2", "-Wall", "-o", str(program), str(SOURCE)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False)
    if ran.returncode != 0:
        raise Unmeasured(f"{SOURCE} cannot be compiled: {ran.stderr}")
    return program


def service(folder: Path, name: str, **fields: object) -> Path:
    """A folder to deploy: the program as a service that needs a key. `fields` are added to its entry in the file."""
    compiled(folder)
    entry = {
        "source": ".",
        "runtime": "command",
        "command": ["./upstream"],
        "access": "key",
        "data": {"level": "public"},
        "resources": {"cpu": 1, "memory": "64Mi"},
        **fields,
    }
    (folder / "kasbah.yaml").write_text(json.dumps({"services": {name: entry}}))
    return folder


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """The program on a port of its own; the port."""
    port = free_port()
    log = folder / "upstream.log"
    with started([str(compiled(folder))], log=log, env={**os.environ, "PORT": str(port)}):
        until_listening(port, seconds=10, log=log)
        yield port
