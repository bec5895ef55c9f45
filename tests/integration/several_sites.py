"""Sites of one installation, each a real Envoy with an identity, told what to do as control planes tell them."""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from certificate_files import Authority
from real_gateway import PROJECT, Site, end, paths_in
from site_runner import DEADLINE

from kasbah.agent.proof import SiteIdentity
from kasbah.decide.crossing import decide, lane
from kasbah.decide.routing import cluster_name, route
from kasbah.domain.crossing import Forwarded, Peer, spiffe_id
from kasbah.domain.desired import DesiredState
from kasbah.domain.gateway import Gateway
from kasbah.domain.ids import Digest, InstallationId, KeyId, RevisionId, ServiceId, SiteId
from kasbah.domain.label import Label, Level
from kasbah.domain.revision import Protocol, Revision, Runtime
from kasbah.domain.service import Access, Key, Service, Share

INSTALLATION = InstallationId("in-1")
REVISION = RevisionId("rv-first")
KEY = "k-caller"
NOW = datetime.now(UTC)  # noqa: TID251  what TLS makes of dates is the machine's clock, and not in question here
LABEL = Label(level=Level.RESTRICTED)


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A service, where it was placed, which of these the law allows, and the sites through which requests may pass."""

    name: str
    at: tuple[str, ...]
    lawful: frozenset[str]
    through: frozenset[str]
    access: Access = Access.PUBLIC


def site_id(name: str) -> SiteId:
    return SiteId(f"st-{name}")


def cluster(name: str) -> str:
    return cluster_name(ServiceId(f"sv-{name}"), REVISION)


@dataclass
class Installation:
    """The sites by name, and what is placed.

    `unknown` are sites that nobody is told of, `undialled` those of which no address is known; in the place of one that
    is `posing` another is dialled. Those in `tunnels` nobody can dial. `pins` are the fingerprints of keys that are
    known. What all replicas speak is `protocol`. `cut` is another once streams that are open are to end.
    """

    sites: dict[str, Site]
    authority: Authority
    placed: dict[str, Placed] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    undialled: frozenset[str] = frozenset()
    posing: dict[str, str] = field(default_factory=dict)
    tunnels: frozenset[str] = frozenset()
    pins: dict[str, str] = field(default_factory=dict)
    protocol: Protocol = Protocol.HTTP1
    cut: str = ""

    def site(self, name: str) -> Site:
        return self.sites[name]

    async def place(
        self, name: str, at: str, *, lawful: str = "abc", through: str = "abc", access: Access = Access.PUBLIC
    ) -> None:
        """Have a service at the sites whose letters are given; requests for it may pass `through` these."""
        self.placed[name] = Placed(
            name=name, at=tuple(at), lawful=frozenset(lawful), through=frozenset(through), access=access
        )
        await self.tell()

    async def tell(self) -> None:
        """Give every site its desired state."""
        for name, site in self.sites.items():
            await site.apply(self.wanted(name))

    async def replicas(self, site: str, name: str, *addresses: str) -> None:
        await self.site(site).endpoints_of(cluster(name), *addresses)

    def bare(self, name: str) -> Gateway:
        """What a site is told that has no services, of its own or others'."""
        return replace(self.wanted(name), hosts=(), clusters=())

    def wanted(self, name: str) -> Gateway:
        controller = self.site(name).controller
        spoken = {REVISION: self.protocol}
        return route(
            self.desired(name), protocols=spoken, lingering=(), listen=controller.listen, crossing=controller.crossing
        )

    def desired(self, name: str) -> DesiredState:
        known = [one for one in self.sites if one not in self.unknown]
        lanes = {}
        for one in self.placed.values():
            decision = decide(
                LABEL,
                [site_id(at) for at in one.at],
                place=[site_id(at) for at in one.lawful],
                forward=[site_id(at) for at in known if at in one.through],
            )
            found = lane(decision, site_id(name), [site_id(at) for at in known if self._reaches(name, at)])
            if found is not None:
                lanes[one.name] = found
        ours = [one for one in self.placed.values() if one.name in lanes]
        return DesiredState(
            installation=INSTALLATION,
            epoch=1,
            generation=1,
            site=site_id(name),
            site_name=name,
            issued_at=NOW,
            base_domain="localhost",
            services=tuple(_service(one, lanes[one.name].id) for one in ours if _here(one, name)),
            forwarded=tuple(_forwarded(one, lanes[one.name].id) for one in ours if not _here(one, name)),
            lanes=tuple({one.id: one for one in lanes.values()}.values()),
            peers=tuple(self.peer(one) for one in known if one != name),
            cut=self.cut,
            keys=(Key(id=KeyId("ky-1"), project=PROJECT, sha256=hashlib.sha256(KEY.encode()).hexdigest()),),
        )

    def _reaches(self, name: str, other: str) -> bool:
        return other not in self.undialled and not (other in self.tunnels and name in self.tunnels)

    def peer(self, name: str) -> Peer:
        crossing = self.site(self.posing.get(name, name)).controller.crossing
        assert crossing is not None
        return Peer(
            site=site_id(name),
            name=name,
            identity=spiffe_id(INSTALLATION, site_id(name)),
            address="" if name in self.undialled else crossing.listen or "",
            tunnel=name in self.tunnels,
            key=self.pins.get(name, ""),
        )

    def peers_port(self, name: str) -> int:
        return int(self.peer(name).address.rpartition(":")[2])

    async def healthy(self, at: str, peer: str) -> bool:
        """Whether one site's gateway takes another's for well."""
        told = await self.site(at).controller.envoy.admin("GET", "/clusters")
        found = re.search(rf"^peer:{site_id(peer)}::\S+::health_flags::(\S+)$", told, re.MULTILINE)
        return found is not None and found[1] == "healthy"

    async def seen(self, at: str, peer: str, *, healthy: bool) -> float:
        """Wait until one site's gateway takes another's for well, or not; when that was, by the loop's time."""
        async with asyncio.timeout(DEADLINE):
            while await self.healthy(at, peer) is not healthy:  # noqa: ASYNC110  it tells nobody
                await asyncio.sleep(0.01)
        return asyncio.get_running_loop().time()

    async def all_met(self) -> None:
        """Wait until every gateway takes every other for well."""
        for at in self.sites:
            for peer in self.sites:
                if peer != at and self._reaches(at, peer):
                    await self.seen(at, peer, healthy=True)

    def context(self, pair: tuple[bytes, bytes] | None, folder: Path) -> ssl.SSLContext:
        """A client's TLS, with this certificate; it trusts any server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        if pair is not None:
            chain, key = folder / "client.crt", folder / "client.key"
            chain.write_bytes(pair[0])
            key.write_bytes(pair[1])
            context.load_cert_chain(chain, key)
        return context


def _here(one: Placed, site: str) -> bool:
    return site in one.at and site in one.lawful


def _service(one: Placed, lane_id: str) -> Service:
    revision = Revision(
        id=REVISION,
        source=Digest("sha256:" + "a" * 64),
        source_size=1,
        runtime=Runtime.COMMAND,
        command=("run",),
    )
    return Service(
        id=ServiceId(f"sv-{one.name}"),
        project=PROJECT,
        name=one.name,
        hosts=(f"{one.name}.localhost",),
        access=one.access,
        label=LABEL,
        revisions=(revision,),
        shares=(Share(revision=REVISION, percent=100),),
        lane=lane_id,
    )


def _forwarded(one: Placed, lane_id: str) -> Forwarded:
    return Forwarded(
        id=ServiceId(f"sv-{one.name}"),
        project=PROJECT,
        name=one.name,
        hosts=(f"{one.name}.localhost",),
        access=one.access,
        revisions=(REVISION,),
        lane=lane_id,
    )


async def joined(site: Site, authority: Authority, identity: str) -> None:
    """Write a site's identity as joining does, and have its gateway take it."""
    folder = site.paths.identity
    chain, key = authority.issue_site(identity)
    for name, contents in (("ca.crt", authority.certificate), ("site.crt", chain), ("site.key", key)):
        (folder / name).write_bytes(contents)
    found = SiteIdentity(folder)
    assert await found.renew(site.controller.identify), found.problem


@asynccontextmanager
async def installation(
    root: Path, descriptors: Path, names: Iterable[str] = "abc", *, tunnels: str = ""
) -> AsyncIterator[Installation]:
    """Sites with these names, that know each other, and nothing placed. Those in `tunnels` nobody can dial."""
    made = Installation({}, Authority(NOW), tunnels=frozenset(tunnels))
    async with AsyncExitStack() as ending:
        for name in names:
            paths = paths_in(root / name, descriptors)
            ending.callback(end, paths)
            dialled = name not in tunnels
            site = made.sites[name] = Site(paths, peers="127.0.0.1:0" if dialled else None, tunnel=not dialled)
            await joined(site, made.authority, spiffe_id(INSTALLATION, site_id(name)))
            site.wanted = made.wanted(name)
            await site.open()  # before the next is made: connections between sites take ports too
            ending.push_async_callback(site.leave)
        await made.tell()
        await made.all_met()
        yield made
