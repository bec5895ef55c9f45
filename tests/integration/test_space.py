"""What a site keeps, with real files: what is not needed goes, what is needed stays whatever the cap, and what counts
as freed was freed."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from no_sandbox import no_sandbox

from kasbah.agent.blobs import BlobStore
from kasbah.agent.build import Builder
from kasbah.agent.paths import Paths
from kasbah.agent.revisions import Revisions
from kasbah.agent.space import Housekeeper, Kind, Space
from kasbah.clock import ManualClock
from kasbah.decide.keeping import AtWork, cache_of
from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import Digest, InstallationId, ProjectId, ReplicaId, RevisionId, ServiceId, SiteId
from kasbah.domain.revision import BUILDER_VERSION, Revision, Runtime
from kasbah.domain.service import Service, Share
from kasbah.settings import Limits

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SERVICE = ServiceId("sv-0000000000000001")
CACHE = cache_of(Service(id=SERVICE, project=ProjectId("pr-1"), name="web", hosts=()))
BLOCK = 64 * 1024
HUGE = Limits()


def revision(name: str) -> Revision:
    return Revision(
        id=RevisionId(f"rv-{name}"),
        source=Digest("sha256:" + f"{sum(name.encode()):064x}"),
        source_size=1,
        runtime=Runtime.COMMAND,
        command=("true",),
    )


@dataclass
class Site:
    """A site's folders, and what is wanted there."""

    paths: Paths
    limits: Limits = HUGE
    desired: DesiredState | None = None
    at_work: AtWork = AtWork()
    kept: tuple[str, ...] = ()
    age: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.paths.make()
        self.blobs = BlobStore(self.paths, self.limits)
        self.builder = Builder(self.paths, self.limits, self.blobs, sandboxes=no_sandbox)
        self.revisions = Revisions(self.paths, self.builder, self.blobs, self._spawn, lambda: None)
        self.keeper = self.with_limits(self.limits)

    def with_limits(self, limits: Limits) -> Housekeeper:
        return Housekeeper(
            self.paths, limits, self.revisions, ManualClock(NOW), lambda: self.desired, lambda: self.at_work
        )

    def want(self, *names: str, serving: tuple[str, ...] = ()) -> Service:
        shares = tuple(Share(revision=RevisionId(f"rv-{name}"), percent=0) for name in serving)
        revisions = tuple(revision(name) for name in names)
        one = Service(
            id=SERVICE, project=ProjectId("pr-1"), name="web", hosts=("web.x",), revisions=revisions, shares=shares
        )
        self.desired = DesiredState(
            installation=InstallationId("in-1"),
            epoch=1,
            generation=1,
            site=SiteId("st-1"),
            issued_at=NOW,
            base_domain="x",
            services=(one,),
        )
        return one

    def build(self, name: str, *, shared: Path | None = None) -> Path:
        """A finished build with a file of its own; `shared` is linked into it, as uv does."""
        folder = self.paths.builds / f"rv-{name}"
        (folder / "app").mkdir(parents=True)
        (folder / "app" / "own").write_bytes(os.urandom(BLOCK))
        if shared is not None:
            os.link(shared, folder / "app" / "shared")
        facts = {"builder": BUILDER_VERSION, "path": [], "variables": {}, "readable": []}
        (folder / "build.json").write_text(json.dumps(facts))
        self._older(folder)
        return folder

    def source(self, name: str) -> Path:
        path = self.blobs.path(revision(name).source)
        path.write_bytes(os.urandom(BLOCK))
        self._older(path)
        return path

    def log(self, name: str, service: str = SERVICE, *, files: int = 1) -> Path:
        path = self.paths.logs / service / f"{name}.log"
        path.parent.mkdir(exist_ok=True)
        for number in range(1, files):
            path.with_name(f"{path.name}.{number}").write_bytes(b"x" * BLOCK)
        path.write_bytes(b"x" * BLOCK)
        self._older(path)
        return path

    def cached(self, kind: str = CACHE) -> Path:
        file = self.paths.cache / kind / "wheel"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(os.urandom(4 * BLOCK))
        self._older(file.parent)
        return file

    def _older(self, path: Path) -> None:
        """Each thing that is made was used a day after the one before, long ago."""
        self.age += 1
        moment = (NOW - timedelta(days=100) + timedelta(days=self.age)).timestamp()
        os.utime(path, (moment, moment))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        return task

    def used(self) -> int:
        """The bytes below the agent's folder, each file once."""
        files = {}
        for parent, folders, names in os.walk(self.paths.root):
            for name in [*folders, *names]:
                facts = os.lstat(os.path.join(parent, name))
                files[facts.st_ino] = facts.st_blocks * 512
        return sum(files.values())


@pytest.fixture
async def site(tmp_path: Path) -> Site:
    return Site(Paths(tmp_path))


def of(told: tuple[Space, ...], kind: Kind) -> Space:
    return next(one for one in told if one.kind is kind)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_what_nobody_refers_to_goes(site: Site) -> None:
    site.want("a", "b", serving=("a",))
    stays = [site.build("a"), site.build("b"), site.source("a"), site.source("b"), site.log("build-rv-a")]
    goes = [
        site.build("x"),
        site.source("x"),
        site.log("build-rv-x"),
        site.log("rp-0000000000000001", "sv-gone", files=3).parent,
    ]
    looked = await site.keeper.look()
    assert all(path.exists() for path in (*stays, *goes)), "looking removes nothing"
    before, folder = site.used(), goes[-1].stat().st_blocks * 512
    told = await site.keeper.tidy()
    assert told == looked
    assert all(path.exists() for path in stays)
    assert not any(path.exists() for path in goes)
    assert [(one.count, one.freed) for one in told] == [(2, 1), (2, 1), (1, 2), (0, 0)]
    assert sum(one.freed_size for one in told) == before - site.used() - folder, "all but the folder itself"
    assert (await site.keeper.tidy())[0].freed == 0


async def test_past_the_cap_the_longest_unused_goes_and_what_serves_never(site: Site) -> None:
    site.want("old", "b", "c", "d", serving=("old",))
    for name in ("old", "b", "c", "d"):
        site.build(name)
    one = (await site.keeper.look())[0].size // 4
    told = await site.with_limits(replace(HUGE, builds_bytes=2 * one + one // 2)).tidy()
    assert names(site.paths.builds) == ["rv-d", "rv-old"]
    assert of(told, Kind.BUILDS).freed == 2
    await site.with_limits(replace(HUGE, builds_bytes=0, blobs_bytes=0, logs_bytes=0, cache_bytes=0)).tidy()
    assert names(site.paths.builds) == ["rv-old"]


async def test_what_was_needed_until_now_goes_last(site: Site) -> None:
    site.want("a", "b", "c", serving=("a",))
    for name in ("a", "b", "c"):
        site.build(name)
    await site.keeper.tidy()
    site.want("a", "b", "c", serving=("c",))
    one = (await site.keeper.look())[0].size // 3
    await site.with_limits(replace(HUGE, builds_bytes=2 * one + one // 2)).tidy()
    assert names(site.paths.builds) == ["rv-a", "rv-c"]


async def test_what_a_replica_runs_on_stays_though_nobody_wants_it(site: Site) -> None:
    site.want("a")
    running, log = site.build("x"), site.log("rp-0000000000000007", "sv-0000000000000009")
    site.at_work = AtWork(
        services=frozenset({ServiceId("sv-0000000000000009")}),
        revisions=frozenset({RevisionId("rv-x")}),
        replicas=frozenset({ReplicaId("rp-0000000000000007")}),
    )
    await site.with_limits(replace(HUGE, builds_bytes=0, logs_bytes=0, ended_replicas=0)).tidy(everything=True)
    assert running.exists()
    assert log.exists()


async def test_a_build_that_is_removed_is_built_again_when_it_is_wanted(site: Site) -> None:
    service = site.want("a")
    site.build("a")
    assert site.revisions.ensure(service, revision("a"), "ro-1")
    await site.keeper.tidy(everything=True)
    assert not site.revisions.ensure(service, revision("a"), "ro-1")
    assert names(site.paths.builds) == []


async def test_a_build_being_removed_is_not_there(site: Site) -> None:
    service = site.want("a")
    site.build("a")
    assert site.revisions.ensure(service, revision("a"), "ro-1")
    removing = site.revisions.remove([RevisionId("rv-a")])
    assert not site.revisions.ensure(service, revision("a"), "ro-1"), "its files are about to go"
    await removing
    assert names(site.paths.builds) == []


async def test_logs_of_replicas_that_ended(site: Site) -> None:
    site.want("a", serving=("a",))
    replicas = [f"rp-000000000000000{number}" for number in range(5)]
    for name in replicas:
        site.log(name, files=2)
    site.at_work = AtWork(replicas=frozenset({ReplicaId(replicas[0])}))
    await site.with_limits(replace(HUGE, ended_replicas=3)).tidy()
    left = {path.name.partition(".")[0] for path in (site.paths.logs / SERVICE).iterdir()}
    assert left == {replicas[0], *replicas[2:]}
    await site.with_limits(replace(HUGE, logs_bytes=4 * BLOCK)).tidy()
    left = {path.name.partition(".")[0] for path in (site.paths.logs / SERVICE).iterdir()}
    assert left == {replicas[0], replicas[4]}


async def test_files_that_builds_share_with_the_cache_are_freed_with_their_last_name(site: Site) -> None:
    site.want("a", "b", serving=("a",))
    wheel = site.cached()
    site.build("a", shared=wheel)
    site.build("b", shared=wheel)
    before, looked = site.used(), await site.keeper.look()
    assert sum(one.size for one in looked) == pytest.approx(before, rel=0.2)
    assert of(looked, Kind.CACHES).freed == 0
    told = await site.keeper.tidy(everything=True)
    assert of(told, Kind.BUILDS).freed == 1
    assert of(told, Kind.CACHES).freed == 1
    assert sum(one.freed_size for one in told) == before - site.used()
    assert (site.paths.builds / "rv-a" / "app" / "shared").stat().st_nlink == 1
    assert names(site.paths.cache) == []


async def test_a_cache_past_its_cap_goes_whole_but_not_while_something_is_built(site: Site) -> None:
    site.want("a", serving=("a",))
    site.source("a")
    old, new = site.cached(f"{CACHE}.closed"), site.cached()
    (site.paths.cache / "envoy-1.desc").write_bytes(b"not a package manager's")
    keeper = site.with_limits(replace(HUGE, cache_bytes=6 * BLOCK))
    goes_on, build = asyncio.Event(), site.builder.build

    async def waits(*arguments: Any, **more: Any) -> Any:
        await goes_on.wait()
        return await build(*arguments, **more)

    site.builder.build = waits  # type: ignore[method-assign]
    assert not site.revisions.ensure(site.want("a", serving=("a",)), revision("a"), "ro-1")
    assert site.revisions.building
    await keeper.tidy()
    assert old.exists()
    goes_on.set()
    await asyncio.gather(*site.tasks, return_exceptions=True)
    await keeper.tidy()
    assert not old.exists()
    assert new.exists()
    assert names(site.paths.cache) == ["envoy-1.desc", CACHE]


async def test_a_cache_of_before_goes(site: Site) -> None:
    """It was one for all projects and labels, and nothing is built with it."""
    site.want("a")
    of_before, of_now = site.cached("uv"), site.cached()
    await site.keeper.tidy()
    assert not of_before.exists()
    assert of_now.exists()


async def test_a_cache_that_no_service_here_could_use_goes(site: Site) -> None:
    """What the law took from the site may have left parts of its source there."""
    site.want("a")
    kept, closed = site.cached(), site.cached(f"{CACHE}.closed")
    others = [site.cached(f"{project}.{level}.00000000") for project, level in (("pr-1", 2), ("pr-2", 3))]
    await site.keeper.tidy()
    assert kept.exists()
    assert closed.exists()
    assert not any(other.exists() for other in others)


async def test_a_source_somebody_relies_on_just_now_stays(site: Site) -> None:
    site.want("a")
    path = site.source("x")
    os.utime(path, (NOW.timestamp(), NOW.timestamp()))
    await site.with_limits(replace(HUGE, blobs_bytes=0)).tidy()
    assert path.exists()


async def test_without_a_desired_state_nothing_goes(site: Site) -> None:
    paths = [site.build("a"), site.source("a"), site.log("build-rv-a"), site.cached()]
    await site.with_limits(replace(HUGE, builds_bytes=0, cache_bytes=0)).tidy(everything=True)
    assert all(path.exists() for path in paths)


async def test_what_comes_to_be_needed_between_the_decision_and_its_end_stays(site: Site) -> None:
    site.want("a", "b")
    stays, source = site.build("a"), site.source("a")
    goes = site.build("b")
    decided = iter([site.desired])

    def desired() -> DesiredState | None:
        """What is desired when it is decided, and from then on with traffic on `a`."""
        if (first := next(decided, None)) is not None:
            return first
        site.want("a", "b", serving=("a",))
        return site.desired

    limits = replace(HUGE, builds_bytes=0, blobs_bytes=0)
    keeper = Housekeeper(site.paths, limits, site.revisions, ManualClock(NOW), desired, lambda: site.at_work)
    await keeper.tidy()
    assert stays.exists()
    assert source.exists()
    assert not goes.exists()


async def test_a_source_that_nobody_comes_to_want_goes_after_an_hour(site: Site) -> None:
    """However often the house is kept meanwhile."""
    clock = ManualClock(NOW)
    keeper = Housekeeper(site.paths, HUGE, site.revisions, clock, lambda: site.desired, lambda: site.at_work)
    site.want()
    file = site.source("early")
    os.utime(file, times=(NOW.timestamp(),) * 2)
    for _ in range(5):
        clock.advance(timedelta(minutes=11))
        await keeper.tidy()
        assert file.exists()
    clock.advance(timedelta(minutes=11))
    await keeper.tidy()
    assert not file.exists()


async def test_a_source_that_was_wanted_and_is_no_more_is_not_waited_for(site: Site) -> None:
    """It came lately; but nobody sent it ahead of what wants it."""
    clock = ManualClock(NOW)
    keeper = Housekeeper(site.paths, HUGE, site.revisions, clock, lambda: site.desired, lambda: site.at_work)
    file, early = site.source("wanted"), site.source("early")
    for path in (file, early):
        os.utime(path, times=((NOW - timedelta(minutes=1)).timestamp(),) * 2)
    site.want("wanted", serving=("wanted",))
    await keeper.tidy()
    assert file.exists()
    never = site.source("never seen wanted")
    os.utime(never, times=((NOW - timedelta(minutes=1)).timestamp(),) * 2)
    assert site.desired is not None
    site.desired = replace(site.desired, services=())
    keeper.unwanted([revision("never seen wanted").source])
    await keeper.tidy()
    assert (file.exists(), never.exists(), early.exists()) == (False, False, True)
    clock.advance(timedelta(minutes=1))
    again = site.source("wanted")
    os.utime(again, times=(clock.now().timestamp(),) * 2)
    await keeper.tidy()
    assert again.exists(), "it was sent again: somebody is about to want it"
