"""An id is what a control plane says it is: what was built under it serves only what is made of the same."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from building import Site, make_site

from kasbah.agent.revisions import Revisions
from kasbah.domain.ids import Digest, ProjectId, RevisionId, ServiceId
from kasbah.domain.revision import Revision, Runtime
from kasbah.domain.service import Service

pytestmark = pytest.mark.real

SERVICE = Service(id=ServiceId("sv-1"), project=ProjectId("pj-1"), name="one", hosts=("one.x",))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "data")


async def revision(site: Site, says: str, name: str) -> Revision:
    return await site.revision({"main.sh": f"echo {says}"}, ("sh", "main.sh"), Runtime.COMMAND, name)


class Built:
    """A site's revisions, each looked at once nothing is being built any more."""

    def __init__(self, site: Site) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self.revisions = Revisions(site.paths, site.builder, site.blobs, self._spawn, lambda: None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._tasks.append(asyncio.create_task(work))
        return self._tasks[-1]

    async def has(self, wanted: Revision) -> bool:
        self.revisions.ensure(SERVICE, wanted, "ro-1")
        await asyncio.gather(*self._tasks)
        return self.revisions.ensure(SERVICE, wanted, "ro-1")

    def starts(self, wanted: Revision) -> str:
        return (self.revisions.prepared(wanted).app / "main.sh").read_text()


async def test_what_was_built_of_another_source_is_not_started(site: Site) -> None:
    evil = await revision(site, "EVIL", "rv-evil")
    good = replace(await revision(site, "GOOD", "rv-good"), id=RevisionId("rv-evil"))
    before = Built(site)
    assert await before.has(evil)
    assert site.builder.built(evil) is not None
    for other in (good, replace(evil, runtime=Runtime.PYTHON)):
        assert site.builder.built(other) is None
        assert not await before.has(other), "it has another's build"
    assert not await before.has(replace(evil, command=("sh", "-c", "send")))
    assert before.starts(evil) == "echo EVIL"


async def test_nor_after_a_restart_where_it_is_built_anew(site: Site) -> None:
    evil = await revision(site, "EVIL", "rv-evil")
    good = replace(await revision(site, "GOOD", "rv-good"), id=RevisionId("rv-evil"))
    await site.build(evil)
    after = Built(site)
    assert await after.has(good)
    assert after.starts(good) == "echo GOOD"


async def test_a_build_of_before_that_names_no_runtime_goes_on(site: Site) -> None:
    made = await revision(site, "GOOD", "rv-good")
    await site.build(made)
    marker = site.folder("rv-good") / "build.json"
    marker.write_text(marker.read_text().replace('"runtime": "command", ', ""))
    assert '"runtime"' not in marker.read_text()
    assert site.builder.built(made) is not None
    assert site.builder.built(replace(made, source=Digest("sha256:" + "0" * 64))) is None
