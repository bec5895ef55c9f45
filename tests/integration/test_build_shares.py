"""A build gives way to what serves: for the processors, and for memory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from building import Site, attack, make_site

from kasbah.agent.runner.cgroups import MEMORY, Groups
from kasbah.errors import BuildFailed
from kasbah.settings import Limits

pytestmark = pytest.mark.real

MEBIBYTE = 2**20
LIMIT = 256 * MEBIBYTE
LOOK = """
    import json, os
    groups = [line.strip().split(":", 2) for line in open("/proc/self/cgroup")]
    adjust = int(open("/proc/self/oom_score_adj").read())
    json.dump([groups, adjust, os.nice(0)], open("said", "w"))
"""
TAKE = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'bytes(1) * {size}'], check=True)"
"""A tool's child takes this much memory: the tool sees that it failed."""


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> bool:
    """Whether control groups can be made here."""
    return MEMORY in Groups(f"trial-{os.getpid()}").available


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path / "data", Limits(build_memory=LIMIT))
    yield made
    assert groups_of(made) == []


def groups_of(site: Site) -> list[Path]:
    """The control groups of this site's builds."""
    return site.builder._shares._groups.leftovers(frozenset())


async def test_its_tools_give_way(site: Site, limited: bool) -> None:
    built = await site.python(attack(LOOK))
    groups, adjust, nice = json.loads((built.app / "said").read_text())
    assert (adjust, nice) == (1000, os.nice(0) + 10)
    named = {name for _, names, path in groups if "/kasbah-builds-" in path for name in names.split(",")}
    assert named == ({"memory", "cpu"} if limited else set()) or named == {""}  # version 2 has no names


async def test_one_that_takes_more_memory_than_it_may_is_told_so(site: Site, limited: bool) -> None:
    if not limited:
        pytest.skip("control groups cannot be made here")
    with pytest.raises(BuildFailed, match="needed more than the 256Mi of memory that a build may have here") as failed:
        await site.python(attack(TAKE.format(size=2 * LIMIT)))
    assert "--build-memory" in failed.value.hint
    built = await site.python(attack(TAKE.format(size=16 * MEBIBYTE)), name="rv-2")
    assert built.app.is_dir()


async def test_what_was_ended_before_is_not_why_a_later_command_fails(site: Site, limited: bool) -> None:
    """The first command has a child that takes too much, and goes on."""
    if not limited:
        pytest.skip("control groups cannot be made here")
    source = attack(TAKE.format(size=2 * LIMIT).replace("check=True", "check=False"))
    source["pyproject.toml"] = "[tool.kasbah]\nbuild = ['python attack.py', 'python -c \"raise SystemExit(3)\"']\n"
    with pytest.raises(BuildFailed, match="ended with status 3") as failed:
        await site.python(source)
    assert "memory" not in str(failed.value)


async def test_one_that_fails_for_another_reason_is_not(site: Site, limited: bool) -> None:
    with pytest.raises(BuildFailed) as failed:
        await site.python(attack("raise SystemExit(3)"))
    assert "memory" not in str(failed.value)
