"""What takes space at this site, and removing what is not needed: builds, sources, logs, the package managers' caches.

What goes is `decide/keeping.py`'s to say; this counts, asks and removes. Each kind has a cap of its own
(`settings.Limits`). A pass looks, decides on what is wanted, and asks again what is wanted now, without a pause before
the mark that keeps a build or a cache from being used: nothing is removed under whoever begins to need it.

A file with several names (builds of before share some with uv's cache) counts for each in part, so the kinds add up
to what is used; it is freed with its last name, and counted as freed only then.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from kasbah.agent.blobs import digest_of, stored
from kasbah.agent.paths import CACHE, CLOSED, Paths
from kasbah.agent.revisions import Revisions
from kasbah.agent.runner import journal
from kasbah.agent.runner.workdir import remove
from kasbah.clock import Clock
from kasbah.decide.keeping import (
    AtWork,
    Kept,
    Log,
    Wants,
    Worth,
    surplus,
    wants,
    worth_of_build,
    worth_of_cache,
    worth_of_logs,
    worth_of_source,
)
from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import Digest, RevisionId, ServiceId
from kasbah.settings import Limits

CACHES_OF_BEFORE = ("uv", "npm")
"""One for all projects and levels: no build uses it any more."""

GONE = ".gone-"
"""What lies here has such a name from the moment it is given up until it is removed."""

FRESH = timedelta(hours=1)
"""Sources that arrived so recently are kept though no desired state wants them yet."""


class Kind(StrEnum):
    """What takes space."""

    BUILDS = "builds"
    SOURCES = "sources"
    LOGS = "logs"
    CACHES = "caches"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Something that can be removed whole: its files or folders, the bytes they take, and when it was last of use."""

    name: str
    paths: tuple[Path, ...]
    size: int
    used: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What is kept of one kind, and what was removed, or would be."""

    kind: Kind
    count: int
    size: int
    freed: int
    freed_size: int


Found = Mapping[Kind, Sequence[Item]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Going:
    """What goes; and the builds and sources that are needed now."""

    items: Found
    needed: Sequence[Item]


class Housekeeper:
    """See the module. `desired` and `at_work` say what is wanted at the moment they are asked."""

    def __init__(
        self,
        paths: Paths,
        limits: Limits,
        revisions: Revisions,
        clock: Clock,
        desired: Callable[[], DesiredState | None],
        at_work: Callable[[], AtWork],
    ) -> None:
        self._paths = paths
        self._limits = limits
        self._revisions = revisions
        self._clock = clock
        self._desired = desired
        self._at_work = at_work
        self._sizes: dict[str, tuple[int, int]] = {}
        self._turn = asyncio.Lock()
        self._last_wanted: dict[Digest, float] = {}

    def unwanted(self, sources: Iterable[Digest]) -> None:
        """These were wanted until now: nobody waits for them as for what has just come."""
        self._last_wanted |= dict.fromkeys(sources, self._now())

    async def look(self, *, everything: bool = False) -> tuple[Space, ...]:
        """What is kept, and what would go. With `everything`, so would what can be made again and nothing runs on."""
        async with self._turn:
            self._sizes.clear()
            found = await asyncio.to_thread(self._survey)
            _, told = await self._decide(found, everything=everything)
            return told

    async def tidy(self, *, everything: bool = False, anew: bool = True) -> tuple[Space, ...]:
        """Remove what goes; what is kept then. Builds are measured once only, unless `anew`."""
        async with self._turn:
            if anew:
                self._sizes.clear()
            found, now = await asyncio.to_thread(self._survey), self._now()
            decided, told = await self._decide(found, everything=everything)
            gone = _but_for(decided, self._wanted())
            removing = self._revisions.remove(RevisionId(item.name) for item in gone.items[Kind.BUILDS])
            caches = [] if self._revisions.building else [_set_aside(item) for item in gone.items[Kind.CACHES]]
            await removing
            await asyncio.to_thread(_remove, gone, [one for one in caches if one], now)
            return told

    async def _decide(self, found: Found, *, everything: bool) -> tuple[Going, tuple[Space, ...]]:
        """What goes, and what to tell of it. In a thread: there may be thousands of each kind."""
        wanted, building = self._wanted(), bool(self._revisions.building)

        def decide() -> tuple[Going, tuple[Space, ...]]:
            gone = self._going(found, wanted, building=building, everything=everything)
            return gone, _told(found, gone.items)

        return await asyncio.to_thread(decide)

    def _wanted(self) -> Wants | None:
        """What is wanted at this moment."""
        desired = self._desired()
        if desired is None:
            return None
        wanted = wants(desired, self._at_work())
        seen = {source: at for source, at in self._last_wanted.items() if at > self._now() - FRESH.total_seconds()}
        self._last_wanted = seen | dict.fromkeys(wanted.sources, self._now())
        return wanted

    def _now(self) -> float:
        """The second that has begun: what is noted as of use now is no later than it is noted that it was wanted."""
        return float(int(self._clock.now().timestamp()))

    def _survey(self) -> Found:
        return {
            Kind.BUILDS: [self._build(folder) for folder in folders_in(self._paths.builds)],
            Kind.SOURCES: [_file(path) for path in stored(self._paths.blobs)],
            Kind.LOGS: [_log(path) for folder in folders_in(self._paths.logs) for path in sorted(folder.glob("*.log"))],
            Kind.CACHES: [_cache(path) for path in folders_in(self._paths.cache) if _is_cache(path.name)],
        }

    def _build(self, folder: Path) -> Item:
        """A build never changes: it is measured once."""
        with suppress(OSError):
            made = (folder / "build.json").stat().st_mtime_ns
            if folder.name not in self._sizes or self._sizes[folder.name][0] != made:
                self._sizes[folder.name] = (made, size_of([folder]))
            return Item(
                name=folder.name, paths=(folder,), size=self._sizes[folder.name][1], used=folder.stat().st_mtime
            )
        return Item(name=folder.name, paths=(folder,), size=size_of([folder]), used=_mtime(folder))

    def _going(self, found: Found, wanted: Wants | None, *, building: bool, everything: bool) -> Going:
        """What goes. Without a desired state nothing is known to be stale, and nothing goes."""
        if wanted is None:
            return Going(items={kind: [] for kind in Kind}, needed=[])
        caps = self._caps(everything=everything)
        gone: dict[Kind, list[Item]] = {}
        needed: list[Item] = []
        for kind in Kind:
            worths = self._worths(kind, found[kind], wanted, building=building)
            kept = [
                Kept(name=str(place), size=item.size, used=item.used, worth=worth)
                for place, (item, worth) in enumerate(zip(found[kind], worths, strict=True))
            ]
            gone[kind] = [found[kind][int(one.name)] for one in surplus(kept, cap=caps[kind])]
            if kind is Kind.BUILDS:
                needed += [item for item, worth in zip(found[kind], worths, strict=True) if worth is Worth.NEEDED]
            if kind is Kind.SOURCES:  # what is only fresh must not be kept fresh by that
                needed += [item for item in found[kind] if digest_of(item.paths[0]) in wanted.sources_running]
        return Going(items=gone, needed=needed)

    def _fresh(self, source: Item) -> bool:
        """Whether it has come lately, and since it was wanted last: what was wanted and is no more is waited for by
        nobody."""
        since = self._now() - FRESH.total_seconds()
        return source.used > max(since, self._last_wanted.get(digest_of(source.paths[0]), since))

    def _caps(self, *, everything: bool) -> dict[Kind, int]:
        limits = self._limits
        return {
            Kind.BUILDS: 0 if everything else limits.builds_bytes,
            Kind.SOURCES: limits.blobs_bytes,
            Kind.LOGS: limits.logs_bytes,
            Kind.CACHES: 0 if everything else limits.cache_bytes,
        }

    def _worths(self, kind: Kind, items: Sequence[Item], wanted: Wants, *, building: bool) -> list[Worth]:
        match kind:
            case Kind.BUILDS:
                return [worth_of_build(RevisionId(item.name), wanted) for item in items]
            case Kind.SOURCES:
                return [worth_of_source(digest_of(one.paths[0]), wanted, fresh=self._fresh(one)) for one in items]
            case Kind.LOGS:
                logs = [_as_log(item) for item in items]
                worths = worth_of_logs(logs, wanted, ended=self._limits.ended_replicas)
                return [worths[log] for log in logs]
            case Kind.CACHES:
                return [_worth_of_cache(item, wanted, building=building) for item in items]


def _but_for(gone: Going, wanted: Wants | None) -> Going:
    """What goes, but for what has come to be needed."""
    if wanted is None:
        return Going(items={kind: [] for kind in Kind}, needed=gone.needed)
    builds = [item for item in gone.items[Kind.BUILDS] if item.name not in wanted.running]
    sources = [item for item in gone.items[Kind.SOURCES] if digest_of(item.paths[0]) not in wanted.sources_running]
    return replace(gone, items={**gone.items, Kind.BUILDS: builds, Kind.SOURCES: sources})


# --- looking --------------------------------------------------------------------------------------------------------


def size_of(paths: Iterable[Path]) -> int:
    """The bytes these files and folders take; of a file with several names, this name's part."""
    return sum(taken if names == 1 else taken // names for taken, names, _ in _files(paths))


def freed_by(paths: Iterable[Path], gone: Counter[tuple[int, int]]) -> int:
    """The bytes that are free once these are gone too. `gone` counts the names that go, of files with several."""
    freed = 0
    for taken, names, identity in _files(paths):
        gone[identity] += names > 1
        if names == 1 or gone[identity] == names:
            freed += taken
    return freed


def _files(paths: Iterable[Path]) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Everything at and below `paths`: the bytes each takes, how many names it has, its identity. What vanishes
    meanwhile is left out."""
    todo = [os.fspath(path) for path in paths]
    while todo:
        path = todo.pop()
        with suppress(OSError):
            facts = os.lstat(path)
            folder = (facts.st_mode & 0o170000) == 0o040000
            yield facts.st_blocks * 512, 1 if folder else facts.st_nlink, (facts.st_dev, facts.st_ino)
            if folder:
                with os.scandir(path) as entries:
                    todo += [entry.path for entry in entries]


def folders_in(parent: Path) -> list[Path]:
    """The folders in one, by name; links are none."""
    with suppress(OSError):
        return sorted(one for one in parent.iterdir() if one.is_dir() and not one.is_symlink())
    return []


def _mtime(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _file(path: Path) -> Item:
    return Item(name=path.name, paths=(path,), size=size_of([path]), used=_mtime(path))


def _log(path: Path) -> Item:
    files = tuple(journal.chain(path))
    return Item(name=path.stem, paths=(path, *files[:-1]), size=size_of(files), used=_mtime(path))


def _as_log(item: Item) -> Log:
    return Log(service=ServiceId(item.paths[0].parent.name), name=item.name, used=item.used)


def _is_cache(name: str) -> bool:
    return CACHE.fullmatch(name) is not None or name in CACHES_OF_BEFORE or name.startswith(GONE)


def _cache(path: Path) -> Item:
    return Item(name=path.name, paths=(path,), size=size_of([path]), used=_mtime(path))


def _worth_of_cache(item: Item, wanted: Wants, *, building: bool) -> Worth:
    """A build at work reads and writes the caches; what was given up is only still there."""
    if item.name.startswith(GONE) or item.name in CACHES_OF_BEFORE:
        return Worth.STALE
    return worth_of_cache(item.name.removesuffix(CLOSED), wanted, building=building)


def _told(found: Found, gone: Found) -> tuple[Space, ...]:
    names: Counter[tuple[int, int]] = Counter()
    told = []
    for kind in Kind:
        going = gone[kind]
        freed = freed_by([path for item in going for path in item.paths], names)
        told.append(
            Space(
                kind=kind,
                count=len(found[kind]) - len(going),
                size=sum(item.size for item in found[kind]) - sum(item.size for item in going),
                freed=len(going),
                freed_size=freed,
            )
        )
    return tuple(told)


# --- removing -------------------------------------------------------------------------------------------------------


def _set_aside(item: Item) -> Path | None:
    """Take a cache out of use, at once; the next build makes a new one."""
    path = item.paths[0]
    if path.name.startswith(GONE):
        return path
    aside = path.with_name(f"{GONE}{path.name}-{os.urandom(4).hex()}")
    with suppress(OSError):
        path.rename(aside)
        return aside
    return None


def _remove(gone: Going, folders: Iterable[Path], now: float) -> None:
    """Remove what no mark guards; and note that what is needed is of use now, so that it goes last once it is not."""
    for item in gone.needed:
        with suppress(OSError):
            os.utime(item.paths[0], times=(now, now))
    for source in gone.items[Kind.SOURCES]:
        if _mtime(source.paths[0]) <= source.used:  # else somebody has just relied on it
            source.paths[0].unlink(missing_ok=True)
    for log in gone.items[Kind.LOGS]:
        for path in log.paths:
            path.unlink(missing_ok=True)
        with suppress(OSError):  # the service's other logs are kept
            log.paths[0].parent.rmdir()
    for folder in folders:
        remove(folder)
