"""Users of the command line: one with nothing, one with a real control plane that has no site."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import COMMAND, Cli, eventually


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
        key = str(data / "deployer.key")
        yield Cli(home, {"KASBAH_URL": endpoint["api"], "KASBAH_TOKEN": token, "KASBAH_DEPLOYER_KEY": key})
    finally:
        process.terminate()
        process.wait(30)


def _endpoint(file: Path) -> Any:
    return json.loads(file.read_text()) if file.exists() else None
