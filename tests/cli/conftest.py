"""The command line as people use it: a process, with a context of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-P", "-m", "kasbah"]
SECONDS = 100


@dataclass(frozen=True)
class Answer:
    """What a command line printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Cli:
    """Runs command lines for one user, whose files are below `home`."""

    home: Path
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KASBAH", "XDG"))}
        return {**kept, "HOME": str(self.home), "KASBAH_CONTEXT": str(self.home / "context.json"), **self.extra}

    def __call__(self, *arguments: str | Path, code: int = 0, cwd: Path | None = None) -> Answer:
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            env=self.env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return Answer(done.returncode, done.stdout, done.stderr)


def eventually(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """What `condition` gives once it is true; fails when that takes too long."""
    give_up = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < give_up, "it did not become true in time"
        time.sleep(0.02)
    return found


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    home = tmp_path / "home"
    home.mkdir()
    return Cli(home)


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A user of a real control plane that has no site."""
    home = tmp_path_factory.mktemp("control")
    data = home / "data"
    process = subprocess.Popen(
        [*COMMAND, "control", "--data-dir", str(data), "--api", "127.0.0.1:0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        endpoint = eventually(lambda: _endpoint(data / "control" / "endpoint.json"))
        token = (data / "admin.token").read_text().strip()
        yield Cli(home, {"KASBAH_URL": endpoint["api"], "KASBAH_TOKEN": token})
    finally:
        process.terminate()
        process.wait(30)


def _endpoint(file: Path) -> Any:
    return json.loads(file.read_text()) if file.exists() else None
