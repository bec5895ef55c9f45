"""Runs an example as its own file says, alone: its environment built with uv or npm, its command, a port of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from ruamel.yaml import YAML

from kasbah.api.manifest import File, ServiceSection

EXAMPLES = Path(__file__).parents[2] / "examples"
UV = Path(sys.executable).with_name("uv")
BUILD_SECONDS, START_SECONDS, STOP_SECONDS = 300, 30, 15
OUTPUTS = shutil.ignore_patterns("node_modules", ".venv", "server", "__pycache__", "uv.lock")


@dataclass(frozen=True, slots=True)
class App:
    """A running example."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)


def section(name: str) -> ServiceSection:
    text = (EXAMPLES / name / "kasbah.yaml").read_text()
    return File.model_validate(YAML(typ="safe").load(text)).services[name]


def build(name: str, into: Path) -> Path:
    """A built copy of the example."""
    folder = into / name
    shutil.copytree(EXAMPLES / name, folder, ignore=OUTPUTS)
    if (folder / "pyproject.toml").exists():
        _run([str(UV), "sync", "--quiet", "--python", sys.executable], folder)
        project = tomllib.loads((folder / "pyproject.toml").read_text())
        for command in project.get("tool", {}).get("kasbah", {}).get("build", []):
            _run(["/bin/sh", "-c", command], folder)
    if (folder / "package.json").exists():
        _needs("npm")
        _run(["npm", "ci", "--no-audit", "--no-fund"], folder)
    if (folder / "Makefile").exists():
        _needs("cc", "make")
        _run(["make"], folder)
    return folder


@contextmanager
def running(name: str, folder: Path) -> Iterator[App]:
    """The built example, started by the command in its file, until the block ends."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    command = section(name).command
    assert command is not None
    argv = ["/bin/sh", "-c", f"exec {command}"] if isinstance(command, str) else list(command)
    with (folder / "output.log").open("wb") as output:
        process = subprocess.Popen(argv, cwd=folder, env=_environment(folder, port), stdout=output, stderr=output)
    try:
        app = App(f"http://127.0.0.1:{port}", folder, process)
        _answers(app)
        yield app
    finally:
        process.kill()
        process.wait()


def _needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}, which this machine lacks")


def _run(argv: list[str], folder: Path) -> None:
    env = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    env["PATH"] = f"{folder / '.venv' / 'bin'}:{env['PATH']}"
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=BUILD_SECONDS)
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}\n{done.stderr}"


def _environment(folder: Path, port: int) -> dict[str, str]:
    return {"PATH": f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}", "PORT": str(port), "HOME": str(folder)}


def _answers(app: App) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and app.process.poll() is None:
        try:
            httpx.get(app.url, timeout=START_SECONDS)
            return
        except httpx.ConnectError:
            time.sleep(0.02)
    pytest.fail(f"the app does not answer:\n{(app.folder / 'output.log').read_text()}")
