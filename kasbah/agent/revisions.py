"""The revisions this site can start: builds what is wanted, and remembers what was built or why it was not.

A build that failed is not tried again until a new rollout asks for it; one that the machine or its network failed is, a
few times, ever later: a site that is to take over when another is lost gets there by itself. One whose source has not
arrived waits for it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from kasbah.agent.build import Built
from kasbah.agent.paths import Paths
from kasbah.agent.ports import Builds, Sources
from kasbah.agent.starting import Prepared
from kasbah.decide.keeping import cache_of
from kasbah.domain.ids import Digest, RevisionId, ServiceId
from kasbah.domain.observed import BuildState, RevisionStatus
from kasbah.domain.revision import Revision, Runtime
from kasbah.domain.service import Service
from kasbah.errors import BuildFailed, KasbahError

log = structlog.get_logger()

TAIL = 30
FIRST_PAUSE, LONGEST_PAUSE = 30.0, 600.0
MOST_TRIES = 8
"""Within about 45 minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A build that failed for a rollout, `tries` times in a row; when it is tried again, by the event loop's clock."""

    rollout: str
    tries: int
    again_at: float


def _made_of(revision: Revision) -> tuple[Digest, Runtime, tuple[str, ...]]:
    return (revision.source, revision.runtime, revision.command)


class Revisions:
    """See the module. `changed` is called whenever a build moves on."""

    def __init__(
        self,
        paths: Paths,
        builder: Builds,
        blobs: Sources,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        changed: Callable[[], None],
    ) -> None:
        self._paths = paths
        self._builder = builder
        self._blobs = blobs
        self._spawn = spawn
        self._changed = changed
        self._built: dict[RevisionId, Built] = {}
        self._made_of: dict[RevisionId, tuple[Digest, Runtime, tuple[str, ...]]] = {}
        self._status: dict[RevisionId, RevisionStatus] = {}
        self._failed: dict[RevisionId, Failure] = {}
        self._building: dict[RevisionId, asyncio.Task[None]] = {}
        self._removing: set[RevisionId] = set()

    def status(self, revision: RevisionId) -> RevisionStatus:
        """How far the build of a revision is."""
        return self._status.get(revision, RevisionStatus(revision=revision))

    def prepared(self, revision: Revision) -> Prepared:
        """What is needed to start a built revision."""
        built = self._built[revision.id]
        return Prepared(argv=built.argv, env=tuple(built.env.items()), app=built.app, readable=built.readable)

    def ensure(self, service: Service, revision: Revision, rollout: str) -> bool:
        """Whether the revision is built; a build is begun where one is missing and its source is here."""
        made_of = _made_of(revision)
        if self._made_of.get(revision.id, made_of) != made_of:
            return False  # one id for two: what is here is the other
        if revision.id in self._built:
            return True
        if revision.id in self._building or revision.id in self._removing:
            return False
        if (built := self._builder.built(revision)) is not None:
            self._built[revision.id], self._made_of[revision.id] = built, made_of
            self._status[revision.id] = RevisionStatus(revision=revision.id, build=BuildState.BUILT)
            return True
        if self._rests(revision.id, rollout) or not self._blobs.has(revision.source):
            return False
        self._made_of[revision.id] = made_of
        self._note(revision.id, BuildState.BUILDING, step="waiting for its turn")
        self._building[revision.id] = self._spawn(self._build(service, revision, rollout))
        return False

    def _rests(self, revision: RevisionId, rollout: str) -> bool:
        """Whether its build failed for this rollout, and is not to be tried again yet."""
        failed = self._failed.get(revision)
        if failed is None or failed.rollout != rollout:
            return False
        return asyncio.get_running_loop().time() < failed.again_at

    @property
    def building(self) -> frozenset[RevisionId]:
        """The revisions being built."""
        return frozenset(self._building)

    def remove(self, revisions: Iterable[RevisionId]) -> Awaitable[None]:
        """Remove builds that nothing runs on. From now on they are not there; awaited, their files are gone too."""
        going = frozenset(revisions) - self._building.keys()
        self._removing |= going
        for revision in going:
            self._built.pop(revision, None)
            self._made_of.pop(revision, None)
            self._status.pop(revision, None)
            self._failed.pop(revision, None)
        return self._remove(going)

    async def _remove(self, going: frozenset[RevisionId]) -> None:
        try:
            for revision in sorted(going):
                await self._builder.remove(revision)
        finally:
            self._removing -= going
            if going:
                self._changed()

    def log_file(self, service: ServiceId, revision: RevisionId) -> Path:
        """Where the build of a revision writes."""
        return self._paths.logs / service / f"build-{revision}.log"

    async def _build(self, service: Service, revision: Revision, rollout: str) -> None:
        log_file = self.log_file(service.id, revision.id)
        log_file.parent.mkdir(parents=True, exist_ok=True)

        def step(words: str) -> None:
            self._note(revision.id, BuildState.BUILDING, step=words)

        try:
            cache = cache_of(service)
            self._built[revision.id] = await self._builder.build(revision, cache=cache, report=step, log=log_file)
            self._failed.pop(revision.id, None)
            self._note(revision.id, BuildState.BUILT)
        except KasbahError as error:
            again = self._note_failure(revision.id, rollout, error)
            tail = error.tail if isinstance(error, BuildFailed) else ()
            reason = (f"{error} ({error.hint})" if error.hint else f"{error}") + again
            log.warning("build failed", revision=revision.id, reason=reason)
            status = RevisionStatus(revision=revision.id, build=BuildState.FAILED, reason=reason, tail=tail[-TAIL:])
            self._status[revision.id] = status
        finally:
            self._building.pop(revision.id, None)
            self._changed()

    def _note_failure(self, revision: RevisionId, rollout: str, error: KasbahError) -> str:
        """Decide when a build is tried again; how that is told. Of a rollout's own it is not: that has failed, and so
        nobody asks for it any more."""
        before = self._failed.get(revision)
        tries = before.tries + 1 if before is not None and before.rollout == rollout else 1
        passing = error.passing if isinstance(error, BuildFailed) else True
        pause = min(FIRST_PAUSE * 2 ** (tries - 1), LONGEST_PAUSE) if passing and tries < MOST_TRIES else math.inf
        at = asyncio.get_running_loop().time() + pause
        self._failed[revision] = Failure(rollout=rollout, tries=tries, again_at=at)
        return "" if rollout or math.isinf(pause) else f"; it is tried again in {pause:g} s"

    def _note(self, revision: RevisionId, state: BuildState, *, step: str = "") -> None:
        known = self.status(revision)
        self._status[revision] = replace(known, build=state, step=step, reason="", tail=())
        self._changed()
