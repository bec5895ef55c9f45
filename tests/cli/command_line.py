"""The command line as people use it, with a context of its own: in this process where many are run, else in one."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from commands import command

from kasbah.cli.main import run

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

    def __call__(self, *arguments: str | Path, code: int = 0) -> Answer:
        """Run a command line in this process."""
        out, err = io.StringIO(), io.StringIO()
        with mock.patch.dict(os.environ, self.env, clear=True), redirect_stdout(out), redirect_stderr(err):
            got = run([str(one) for one in arguments])
        return _checked(Answer(int(got), out.getvalue(), err.getvalue()), code)

    def process(self, *arguments: str | Path, code: int = 0) -> Answer:
        """Run a command line in a process of its own."""
        words = [str(one) for one in arguments]
        found, out, err = command(words, env=self.env, folder=Path.cwd(), seconds=SECONDS)
        assert found is not None, f"it did not end: {out}{err}"
        return _checked(Answer(found, out, err), code)


def _checked(answer: Answer, code: int) -> Answer:
    assert answer.code == code, f"exit code {answer.code}\n{answer.out}\n{answer.err}"
    assert "Traceback" not in answer.err
    return answer


def eventually(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """What `condition` gives once it is true; fails when that takes too long."""
    give_up = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < give_up, "it did not become true in time"
        time.sleep(0.02)
    return found
