"""What is built calls what it may: of what may not call just anything, package indexes and nothing else.

The outside is a network namespace of the test's own; every address in it answers where nothing is limited.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import outside
import pytest
from building import CACHE
from building import Site as Building
from site_runner import Site, site_in

from kasbah.agent.blobs import BlobStore
from kasbah.agent.build import open_builder
from kasbah.agent.confine import programs
from kasbah.clock import SystemClock
from kasbah.domain.revision import Runtime
from kasbah.domain.site import ENFORCED
from kasbah.errors import BuildFailed

pytestmark = [
    pytest.mark.real,
    pytest.mark.root,
    pytest.mark.skipif(os.getuid() != 0, reason="only root limits what builds call"),
    pytest.mark.skipif(bool(programs.absent()), reason="install iproute2 and nftables"),
]

FIRST, OTHER, OTHER_PORT = outside.FIRST, outside.SECOND, outside.ON_OTHER_PORT

CALLS = """
import json, os, socket
told = {}
for target in os.environ["TARGETS"].split():
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 20).close()
        told[target] = True
    except OSError:
        told[target] = False
json.dump(told, open("told", "w"))
"""


@pytest.fixture(scope="module", autouse=True)
def world() -> Iterator[None]:
    with outside.outside():
        yield


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="kasbah-test-") as root:
        async with AsyncExitStack() as closing:
            site = await closing.enter_async_context(site_in(Path(root)))
            assert (await site.driver.isolation()).egress == ENFORCED
            yield site


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A site whose packages come from one place, which has a name."""
    ask: Callable[..., object] = socket.getaddrinfo

    def answer(host: str, *arguments: object, **options: object) -> object:
        return ask({"index.example.test": outside.ADDRESS}.get(host, host), *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://index.example.test:{outside.PORT}/simple")
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://index.example.test:{outside.PORT}")


async def calls(
    site: Site, egress: tuple[str, ...] | None, *targets: str, name: str = "rv-1", hook: str = ""
) -> dict[str, bool]:
    """Which of these a build command reaches."""
    blobs = BlobStore(site.paths, site.limits)
    builder = await open_builder(site.driver, site.paths, site.limits, blobs, SystemClock())
    building = Building(paths=site.paths, blobs=blobs, builder=builder)
    hook = hook or f"TARGETS='{' '.join(targets)}' python calls.py"
    files: dict[str, str | Path] = {
        "calls.py": CALLS,
        "pyproject.toml": f"[tool.kasbah]\nbuild = {json.dumps(hook)}\n",
        "main.py": "",
    }
    revision = await building.revision(files, ("python", "main.py"), Runtime.PYTHON, name)
    built = await building.build(replace(revision, egress=egress), CACHE)
    found: dict[str, bool] = json.loads((built.app / "told").read_text())
    return found


async def test_what_may_call_anything_is_built_with_everything(site: Site) -> None:
    assert await calls(site, None, FIRST, OTHER, OTHER_PORT) == {FIRST: True, OTHER: True, OTHER_PORT: True}


@pytest.mark.parametrize("egress", [(), (OTHER,)])
async def test_what_may_not_reaches_package_indexes_only(site: Site, egress: tuple[str, ...]) -> None:
    """By the index's name, without a name server; not the machine's own loopback, where others listen, either."""
    named = f"index.example.test:{outside.PORT}"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        here = f"127.0.0.1:{listening.getsockname()[1]}"
        found = await calls(site, egress, named, FIRST, OTHER, OTHER_PORT, here)
    assert found == {named: True, FIRST: True, OTHER: False, OTHER_PORT: False, here: False}


async def test_a_build_that_needs_more_is_told_what_it_reaches(site: Site) -> None:
    fetch = "python -c \"import urllib.request as u; u.urlopen('http://models.example.test/tiny')\""
    with pytest.raises(BuildFailed) as caught:
        await calls(site, (), hook=fetch)
    assert "reaches package indexes only (" in caught.value.hint
    assert "index.example.test" in caught.value.hint
    log = (site.paths.logs / "sv-1" / "build-rv-1.log").read_text()
    assert "-- this build reaches package indexes only: " in log


async def test_an_index_on_this_machine_is_reached(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        here = f"127.0.0.1:{listening.getsockname()[1]}"
        monkeypatch.setenv("PIP_INDEX_URL", f"http://{here}/simple")
        assert await calls(site, (), here, OTHER) == {here: True, OTHER: False}


async def test_who_builds_next_finds_the_rules_that_are_in_force(site: Site) -> None:
    """A runner that was killed takes its table's place with the same users."""
    await calls(site, (), OTHER)
    await site.kill_runner()
    assert await calls(site, ("198.51.100.0/24",), FIRST, OTHER, name="rv-2") == {FIRST: True, OTHER: False}
