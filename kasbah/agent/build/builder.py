"""Builds revisions, and knows which are built.

A build is the folder `builds/REVISION`; its `build.json` is written last, so a folder without one is the remains of a
build that was cut short, and is built anew. The versions resolved for a revision survive there, and serve every build
of the same source. One build of a revision at a time, two builds in all; cancelling a build ends its processes and
removes what it made.

Tools and the commands of a source run in a sandbox (`sandbox.py`), with caches of their own kind: the project's, for
data of the same label. So nobody who may not deploy what is sensitive leaves packages there for what is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar, assert_never
from weakref import WeakValueDictionary

from kasbah.agent.blobs import BlobStore
from kasbah.agent.build import launch as launching
from kasbah.agent.build import node, python
from kasbah.agent.build.buildlog import BuildLog
from kasbah.agent.build.launch import Built, Launch
from kasbah.agent.build.process import end_recorded
from kasbah.agent.build.sandboxes import Sandboxes, sandboxes_of
from kasbah.agent.build.shares import Shares
from kasbah.agent.build.workshop import Workshop
from kasbah.agent.paths import CACHE, CLOSED, Paths
from kasbah.agent.runner.workdir import remove
from kasbah.api.bundle import LARGEST_UNPACKED, unpack
from kasbah.clock import Clock, SystemClock
from kasbah.domain.ids import Digest, RevisionId
from kasbah.domain.revision import BUILDER_VERSION, Revision, Runtime
from kasbah.drivers.process import ProcessDriver
from kasbah.errors import BuildFailed, Invalid, NotFound, TooLarge, Unavailable
from kasbah.settings import Limits

MARKER = "build.json"
LOCKS = (python.LOCK, node.LOCK)
"""What survives of a build that did not finish: the versions it resolved."""
AT_ONCE = 2
NAME = re.compile(r"rv-[0-9a-z]{1,32}")

Result = TypeVar("Result")


class Builder:
    """The builds in `paths.builds`. One agent owns the folder; call `recover` once before the first build."""

    def __init__(
        self,
        paths: Paths,
        limits: Limits,
        blobs: BlobStore,
        *,
        sandboxes: Sandboxes,
        clock: Clock | None = None,
    ) -> None:
        self._paths = paths
        self._shares = Shares(f"{zlib.crc32(bytes(paths.builds)):08x}", limits.build_memory)
        self._sandboxes = sandboxes
        self._limits = limits
        self._blobs = blobs
        self._clock = clock or SystemClock()
        self._places = asyncio.Semaphore(AT_ONCE)
        self._busy: WeakValueDictionary[RevisionId, asyncio.Lock] = WeakValueDictionary()

    def built(self, revision: Revision) -> Built | None:
        """The build of `revision`, if it is complete."""
        folder = self._folder(revision.id)
        try:
            facts = json.loads((folder / MARKER).read_text())
            made_of = (facts.get("source", revision.source), facts.get("runtime", revision.runtime))
            if facts["builder"] != BUILDER_VERSION or made_of != (revision.source, revision.runtime):
                return None  # whoever tells what an id stands for may tell it otherwise
            launch = Launch(
                path=tuple(map(Path, facts["path"])),
                variables=facts["variables"],
                readable=tuple(map(Path, facts["readable"])),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return launching.built(folder / "app", revision.command, launch)

    async def build(self, revision: Revision, *, cache: str, report: Callable[[str], None], log: Path) -> Built:
        """Build `revision`, or answer with the build there is. `cache` names the caches to build with. `report` hears
        each step; `log` gets every line. What may not call just anything reaches package indexes only while it is
        built.

        Raises BuildFailed with the last lines, NotFound where the source has not arrived, Unavailable on a full disk.
        """
        lock = self._busy.setdefault(revision.id, asyncio.Lock())
        async with lock:
            if (done := self.built(revision)) is not None:
                return done
            source = self._blobs.path(revision.source)
            if not source.exists():
                raise NotFound(f"the source of {revision.id} is not here", hint="deploy again to send it")
            async with self._places:
                # Where nothing is run to build it, nothing could call.
                closed = revision.egress is not None and revision.runtime is not Runtime.COMMAND
                sandbox = await self._sandboxes(closed=closed)
                with self._shares.one() as share:
                    folder, kept = self._folder(revision.id), self._cache(cache, closed=closed)
                    with BuildLog(log, self._clock, limit=self._limits.log_file_bytes, report=report) as lines:
                        shop = Workshop(folder=folder, cache=kept, log=lines, sandbox=sandbox, share=share)
                        return await self._build(shop, revision, source)

    async def remove(self, revision: RevisionId) -> None:
        """Remove the build of `revision`, once nobody works on it. Its source stays."""
        lock = self._busy.setdefault(revision, asyncio.Lock())
        async with lock:
            await _in_thread(partial(_remove, self._folder(revision)))

    async def recover(self) -> None:
        """End the processes of builds that an earlier agent was killed in, and remove what they made."""
        for folder in self._paths.builds.iterdir():
            if not (folder / MARKER).exists():
                await _in_thread(partial(_clear, folder))
        self._shares.recover()

    def _folder(self, revision: RevisionId) -> Path:
        if not NAME.fullmatch(revision):
            raise Invalid(f"{revision!r} is no revision's id")
        return self._paths.builds / revision

    def _cache(self, name: str, *, closed: bool) -> Path:
        """Closed builds are another user's, who has caches of his own."""
        if not CACHE.fullmatch(name):
            raise Invalid(f"{name!r} names no cache")
        return self._paths.cache / (f"{name}{CLOSED}" if closed else name)

    async def _build(self, shop: Workshop, revision: Revision, source: Path) -> Built:
        try:
            async with asyncio.timeout(self._limits.build_seconds):
                return await self._work(shop, revision, source)
        except BaseException as error:
            await _in_thread(partial(_clear, shop.folder))
            if isinstance(error, TimeoutError):
                message = f"the build took longer than {self._limits.build_seconds} s and was ended"
                raise shop.failed(message) from error
            if isinstance(error, OSError):
                raise Unavailable(f"the site cannot build: {error}", hint="check its disk") from error
            raise

    async def _work(self, shop: Workshop, revision: Revision, source: Path) -> Built:
        await _in_thread(partial(_prepare, shop))
        await _in_thread(partial(_take_locks, self._paths.builds, shop.folder, revision.source))
        if shop.sandbox.names is not None:
            shop.log.note(f"this build reaches package indexes only: {', '.join(shop.sandbox.names) or 'by address'}")
        shop.log.step("unpacking the source")
        try:
            await _in_thread(partial(unpack, source, shop.app, limit_bytes=LARGEST_UNPACKED, expected=revision.source))
        except (Invalid, TooLarge) as error:
            raise BuildFailed(error.message, hint=error.hint) from error
        await _in_thread(partial(shop.hand_over, shop.app))
        launch = await _by_runtime(shop, revision.runtime)
        await _in_thread(shop.take_back)
        done = launching.built(shop.app, revision.command, launch)
        if (problem := launching.command_error(done, revision.command)) is not None:
            raise BuildFailed(problem, hint="check `command:`, and that the package it comes from is a dependency")
        await _in_thread(partial(_finish, shop, launch, revision))
        return done


async def open_builder(driver: ProcessDriver, paths: Paths, limits: Limits, blobs: BlobStore, clock: Clock) -> Builder:
    """The builder of a site."""
    return Builder(paths, limits, blobs, sandboxes=await sandboxes_of(driver, paths), clock=clock)


async def _by_runtime(shop: Workshop, runtime: Runtime) -> Launch:
    match runtime:
        case Runtime.PYTHON:
            return await python.build_python(shop)
        case Runtime.NODE:
            return await node.build_node(shop)
        case Runtime.COMMAND:
            return Launch()
        case _:
            assert_never(runtime)


def _prepare(shop: Workshop) -> None:
    _clear(shop.folder)
    shop.furnish()


def _take_locks(builds: Path, folder: Path, source: Digest) -> None:
    """Take the versions that another build of the same source resolved: with another environment, say, it is the same
    app. A build that resolved its own already keeps them."""
    for marker in sorted(builds.glob(f"rv-*/{MARKER}"), key=_made_at, reverse=True):
        with contextlib.suppress(OSError, ValueError):
            if json.loads(marker.read_text()).get("source") != source:
                continue
            for name in LOCKS:
                if (marker.parent / name).is_file() and not (folder / name).exists():
                    shutil.copyfile(marker.parent / name, folder / name)
            return


def _made_at(marker: Path) -> float:
    """When a build was done; one that is being removed counts as the oldest."""
    with contextlib.suppress(OSError):
        return marker.stat().st_mtime
    return 0.0


def _finish(shop: Workshop, launch: Launch, revision: Revision) -> None:
    """Mark the build as complete, on the disk before it has its name."""
    remove(shop.work)
    facts = {
        "builder": BUILDER_VERSION,
        "source": revision.source,
        "runtime": revision.runtime,
        "path": [str(one) for one in launch.path],
        "variables": dict(launch.variables),
        "readable": [str(one) for one in launch.readable],
    }
    work = shop.folder / f"{MARKER}.new"
    with work.open("w") as file:
        json.dump(facts, file)
        file.flush()
        os.fsync(file.fileno())
    work.replace(shop.folder / MARKER)


def _clear(folder: Path) -> None:
    """Remove what a build made, but for the versions it resolved."""
    if not folder.is_dir():
        return
    (folder / MARKER).unlink(missing_ok=True)  # first: what follows leaves it incomplete
    end_recorded(folder / "building")
    for path in folder.iterdir():
        if path.name not in LOCKS:
            _delete(path)
    if not any(folder.iterdir()):
        folder.rmdir()


def _remove(folder: Path) -> None:
    if folder.is_dir():
        (folder / MARKER).unlink(missing_ok=True)
        end_recorded(folder / "building")
        _delete(folder)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove(path)
    else:
        path.unlink(missing_ok=True)


async def _in_thread(work: Callable[[], Result]) -> Result:
    """Let a thread do it, and leave only once it has ended: what follows touches the same files."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
