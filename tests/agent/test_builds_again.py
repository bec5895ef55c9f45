"""Which builds that failed are tried again: what the machine or its network failed, a few times; never what is wrong
with the source, until a rollout asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from kasbah.agent import revisions as module
from kasbah.agent.build import Built
from kasbah.agent.paths import Paths
from kasbah.agent.revisions import MOST_TRIES, Revisions
from kasbah.domain.ids import Digest, ProjectId, RevisionId, ServiceId
from kasbah.domain.observed import BuildState
from kasbah.domain.revision import Revision, Runtime
from kasbah.domain.service import Service
from kasbah.errors import BuildFailed, Unavailable

REVISION = Revision(
    id=RevisionId("rv-1"), source=Digest("sha256:1"), source_size=1, runtime=Runtime.COMMAND, command=("true",)
)
SERVICE = Service(id=ServiceId("sv-1"), project=ProjectId("pr-1"), name="web", hosts=(), revisions=(REVISION,))


class Builds:
    """Builds that fail so, one after the other, and then do not."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.begun = 0

    def built(self, revision: Revision) -> Built | None:
        return None

    async def build(self, revision: Revision, *, cache: str, report: Callable[[str], None], log: Path) -> Built:
        self.begun += 1
        if self.failures:
            raise self.failures.pop(0)
        return Built(app=Path("/app"), argv=("true",), env={}, readable=())

    async def remove(self, revision: RevisionId) -> None: ...


class Here:
    """Every source is here."""

    def has(self, digest: Digest) -> bool:
        return True


class Tried:
    """A site's revisions, asked for again and again as an agent does."""

    def __init__(self, folder: Path, *failures: Exception) -> None:
        self.builds = Builds(*failures)
        self._tasks: list[asyncio.Task[None]] = []
        self.revisions = Revisions(Paths(folder), self.builds, Here(), self._spawn, lambda: None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._tasks.append(asyncio.create_task(work))
        return self._tasks[-1]

    async def asked(self, times: int, rollout: str = "") -> int:
        """How many builds were begun; without a rollout, of what has traffic already."""
        before = self.builds.begun
        for _ in range(times):
            self.revisions.ensure(SERVICE, REVISION, rollout)
            await asyncio.gather(*self._tasks)
        return self.builds.begun - before


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.0)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("error", [Unavailable("no disk"), BuildFailed("no network", passing=True)])
async def test_what_the_machine_failed_is_tried_again(tmp_path: Path, error: Exception) -> None:
    tried = Tried(tmp_path, error, error)
    assert await tried.asked(1) == 1
    status = tried.revisions.status(REVISION.id)
    assert (status.build, status.reason) == (BuildState.FAILED, f"{error}; it is tried again in 0 s")
    assert await tried.asked(5) == 2
    assert tried.revisions.status(REVISION.id).build is BuildState.BUILT


async def test_but_not_at_once(tmp_path: Path) -> None:
    tried = Tried(tmp_path, Unavailable("no disk"))
    assert await tried.asked(3) == 1
    assert "it is tried again in 30 s" in tried.revisions.status(REVISION.id).reason
    assert await tried.asked(1, "ro-2") == 1, "a rollout asks for it"


async def test_a_rollout_whose_build_failed_promises_nothing(tmp_path: Path) -> None:
    """It has failed then, and nobody asks for that build any more."""
    tried = Tried(tmp_path, Unavailable("no disk"))
    assert await tried.asked(2, "ro-1") == 1
    assert tried.revisions.status(REVISION.id).reason == "no disk"


@pytest.mark.usefixtures("at_once")
async def test_what_the_source_failed_is_not(tmp_path: Path) -> None:
    tried = Tried(tmp_path, BuildFailed("no such package"))
    assert await tried.asked(5) == 1
    assert tried.revisions.status(REVISION.id).reason == "no such package"
    assert await tried.asked(1, "ro-2") == 1


@pytest.mark.usefixtures("at_once")
async def test_what_fails_each_time_is_given_up(tmp_path: Path) -> None:
    tried = Tried(tmp_path, *[Unavailable("no disk")] * (MOST_TRIES + 1))
    assert await tried.asked(2 * MOST_TRIES) == MOST_TRIES
    assert tried.revisions.status(REVISION.id).reason == "no disk"
