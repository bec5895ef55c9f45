"""What the whole-system tests share: one installation, and the probe app on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import Site, installation, probe


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An installation that every test of this folder shares; each deploys services of its own."""
    with installation(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="session")
def probed(site: Site) -> str:
    """The probe app, as a service that sleeps only when it is told to."""
    folder: Path = probe(site.home / "probe", {"probe": {"sleep": {"freeze_after": "never", "stop_after": "never"}}})
    site.deploy(folder)
    return "probe"
