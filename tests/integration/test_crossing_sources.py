"""Sources that go from site to site, each with a real Envoy: to those who prove who they are and may have them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
from several_sites import LABEL, NOW, REVISION, Installation, installation, site_id
from site_runner import until

from kasbah.agent import sources
from kasbah.agent.audit.log import SiteLog
from kasbah.agent.blobs import BlobStore
from kasbah.agent.serving import serve_unix
from kasbah.agent.sources import SourceExchange
from kasbah.api.bundle import pack
from kasbah.domain.audit import decode
from kasbah.domain.crossing import Forwarded
from kasbah.domain.desired import DesiredState, Standby
from kasbah.domain.ids import Digest, SiteId
from kasbah.domain.observed import RevisionStatus
from kasbah.domain.revision import Revision, Runtime
from kasbah.domain.service import Service, Share
from kasbah.settings import Limits

pytestmark = pytest.mark.real


@dataclass
class Side:
    """A site's agent as far as sources go. It is told to run what is made of `runs` and to keep `keeps`, and hands
    nothing to the sites in `refused`."""

    made: Installation
    name: str
    runs: list[Digest] = field(default_factory=list)
    keeps: list[Digest] = field(default_factory=list)
    refused: dict[SiteId, str] = field(default_factory=dict)
    came: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        paths = self.made.site(self.name).paths
        self.blobs = BlobStore(paths, Limits())
        self.audit = SiteLog(paths.audit, "in-1", site_id(self.name), lambda: NOW)
        self.exchange = SourceExchange(
            paths,
            self.blobs,
            Limits(),
            self,
            self,
            audit=self.audit,
            build=lambda revision: RevisionStatus(revision=revision),
            stored=lambda: self.came.append(self.name),
        )

    @property
    def desired(self) -> DesiredState:
        desired = self.made.desired(self.name)
        waiting = [
            Standby(id=one.id, project=one.project, name=one.name, source=source, label=LABEL)
            for one in desired.forwarded
            for source in self.keeps
        ]
        here = [service_of(one, source) for one in desired.forwarded for source in self.runs]
        return replace(desired, standby=tuple(waiting), services=tuple(here))

    def rejudge(self) -> bool:
        return False

    def refuses_to_hand(self, source: Digest, to: SiteId) -> str | None:
        return self.refused.get(to)

    def said(self) -> list[tuple[str, str]]:
        """The acts in its audit log, each with the other site."""
        lines = (self.made.site(self.name).paths.audit / "entries").read_bytes().splitlines()
        return [(one.act, dict(one.details).get("to") or dict(one.details)["from"]) for one in map(decode, lines)]


@dataclass
class Sites:
    """The sites a, b and c, of which nobody can dial c; a service runs at a, whose agent has its source."""

    made: Installation
    sides: dict[str, Side]
    source: Digest
    packed: bytes

    def site(self, name: str) -> Side:
        return self.sides[name]

    async def give(self, name: str, content: bytes | None = None) -> None:
        async def whole() -> AsyncIterator[bytes]:
            yield self.packed if content is None else content

        await self.site(name).blobs.put(self.source, whole(), limit=2**30)


@pytest.fixture
async def sites(tmp_path: Path, descriptors: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sites]:
    monkeypatch.setattr(sources, "GRACE", 0.0)
    monkeypatch.setattr(sources, "TOLD_AFTER", 1)
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "app.py").write_bytes(b"# " + bytes(range(32, 127)) * 20_000)
    bundle = pack(tmp_path / "app")
    packed = bundle.path.read_bytes()
    bundle.path.unlink()
    async with installation(tmp_path, descriptors, tunnels="c") as made, AsyncExitStack() as ending:
        await made.place("notes", at="a")
        sides = {name: Side(made, name) for name in made.sites}
        for side in sides.values():
            paths = made.site(side.name).paths
            serving = asyncio.create_task(serve_unix(side.exchange.app(), paths.handing_socket))
            await until(paths.handing_socket.exists)
            ending.push_async_callback(side.exchange.close)
            ending.callback(serving.cancel)
            ending.callback(side.audit.close)
        found = Sites(made, sides, bundle.digest, packed)
        await found.give("a")
        yield found


@pytest.mark.parametrize("at", ["b", "c"])
async def test_what_a_site_lacks_comes_from_one_that_has_it(sites: Sites, at: str) -> None:
    """From c, which nobody can dial, too: it dials itself."""
    side = sites.site(at)
    side.keeps.append(sites.source)
    await side.exchange.seek()
    assert side.blobs.path(sites.source).read_bytes() == sites.packed
    assert (side.came, side.exchange.notes) == ([at], ())
    assert side.said() == [("take_source", site_id("a"))]
    assert sites.site("a").said() == [("hand_source", site_id(at))]
    await side.exchange.seek()
    assert side.came == [at]


async def test_a_source_comes_through_a_tunnel(sites: Sites) -> None:
    await sites.give("c")
    await sites.made.place("notes", at="c")
    side = sites.site("b")
    side.keeps.append(sites.source)
    sites.site("a").refused[site_id("b")] = "not in this test"
    await side.exchange.seek()
    assert side.said() == [("take_source", site_id("c"))]


async def test_who_may_not_have_it_is_refused_and_says_so(sites: Sites) -> None:
    side = sites.site("b")
    side.runs.append(sites.source)
    sites.site("a").refused[site_id("b")] = "gdpr.transfer"
    await side.exchange.seek()
    assert not side.blobs.has(sites.source)
    (note,) = side.exchange.notes
    assert note.startswith("notes: no source here, and a may not give it to this site")
    assert sites.site("a").said() == []


async def test_once_somebody_has_it_it_comes(sites: Sites) -> None:
    sites.site("a").blobs.path(sites.source).unlink()
    side = sites.site("b")
    side.runs.append(sites.source)
    await side.exchange.seek()
    assert "a has not got it" in side.exchange.notes[0]
    await sites.give("a")
    await until_came(side)
    assert side.exchange.notes == ()


async def test_a_site_that_gives_something_else_is_not_believed(sites: Sites) -> None:
    sites.site("a").blobs.path(sites.source).write_bytes(b"something else")
    side = sites.site("b")
    side.runs.append(sites.source)
    await side.exchange.seek()
    assert not side.blobs.has(sites.source)
    assert "gave something else" in side.exchange.notes[0]


async def test_callers_reach_none_of_it(sites: Sites) -> None:
    """Nor can they pass for a site by what they write."""
    url = f"http://127.0.0.1:{sites.made.site('a').port}/v1/sources/{sites.source}"
    async with httpx.AsyncClient(trust_env=False) as client:
        for host in ("sources", "st-a", "handing"):
            answer = await client.get(url, headers={"host": host, "x-kasbah-entry": "spiffe://in-1/site/st-b"})
            assert answer.status_code == 404, host


async def test_who_is_no_peer_any_more_is_refused_by_the_gateway(sites: Sites) -> None:
    sites.made.unknown = frozenset("b")
    await sites.made.site("a").apply(sites.made.wanted("a"))
    side = sites.site("b")
    side.keeps.append(sites.source)
    await side.exchange.seek()
    assert not side.blobs.has(sites.source)
    assert sites.site("a").said() == []


async def until_came(side: Side) -> None:
    while not side.came:
        await side.exchange.seek()
        await asyncio.sleep(0.05)


def service_of(told: Forwarded, source: Digest) -> Service:
    """What runs elsewhere, as it would be here."""
    revision = Revision(id=REVISION, source=source, source_size=1, runtime=Runtime.COMMAND, command=("run",))
    return Service(
        id=told.id,
        project=told.project,
        name=told.name,
        hosts=told.hosts,
        label=LABEL,
        lane=told.lane,
        revisions=(revision,),
        shares=(Share(revision=REVISION, percent=100),),
    )
