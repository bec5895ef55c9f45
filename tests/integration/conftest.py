"""A site's gateway with a real Envoy, for every test that asks for one; it ends with the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from real_gateway import Site, end, paths_in

from kasbah.agent.gateway import protos
from kasbah.agent.paths import Paths


@pytest.fixture(scope="session")
def descriptors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Envoy's message descriptors, extracted once."""
    folder = tmp_path_factory.mktemp("descriptors")
    protos.load(folder)
    return folder


@pytest.fixture
def site_paths(tmp_path: Path, descriptors: Path) -> Iterator[Paths]:
    paths = paths_in(tmp_path, descriptors)
    yield paths
    end(paths)


@pytest.fixture
async def gateway(site_paths: Paths) -> AsyncIterator[Site]:
    site = Site(site_paths)
    await site.open()
    yield site
    await site.leave()
