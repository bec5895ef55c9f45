"""The rows of `bench.scaling`: the scaling rule on recorded traces. It runs as a process of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from bench.errors import Unmeasured
from bench.rows import Row, from_json

NAME = "bench.scaling"


def measure(folder: Path, *, quick: bool, seconds: float) -> tuple[Row, ...]:
    """The rows of this group; none where that part is not there."""
    if importlib.util.find_spec(NAME) is None:
        return ()
    file = folder / "scaling.json"
    command = [sys.executable, "-m", NAME, "--json", str(file), *(["--quick"] if quick else [])]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise Unmeasured(f"{NAME} did not end within {seconds:.0f} s") from None
    if not file.exists():
        raise Unmeasured(f"{NAME} ended with {ran.returncode} and wrote nothing: {(ran.stdout + ran.stderr)[-300:]}")
    return from_json(file.read_text())
