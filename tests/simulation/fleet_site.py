"""One site of the simulated fleet: the agent's own ledger, last word, link and routing, with nothing that runs.

What an accepted desired state asks for is taken to be there: the services that it names run, once their source has
arrived. The line to the control plane can be cut, between two calls too; the site can lose its power, be restarted,
have its clock set, and have its disk put back to what it was.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from fleet_draw import pinned

from kasbah.agent.gateway import across, names
from kasbah.agent.last_word import LastWord
from kasbah.agent.ledger import Ledger
from kasbah.agent.link import SIGNED, Link
from kasbah.agent.site_clock import SiteClock
from kasbah.api.agent import IDENTITY, SIGNATURE_HEADER, SITE_STATUS, STATUS_HEADER
from kasbah.clock import ManualClock
from kasbah.control.usecases.change_law import lawbook_numbered
from kasbah.control.usecases.fetch_desired import fetch_desired, identify
from kasbah.control.usecases.report_status import report_status, still_so
from kasbah.control.usecases.work import Office
from kasbah.decide.routing import route
from kasbah.domain.desired import DesiredState
from kasbah.domain.gateway import Crossing, Gateway, VirtualHost
from kasbah.domain.ids import Digest, RevisionId, SiteId
from kasbah.domain.observed import BuildState, RevisionStatus, ServiceStatus, SiteStatus, TrialState
from kasbah.domain.service import Service, ServiceState
from kasbah.domain.site import ENFORCED, Isolation, SiteState
from kasbah.errors import KasbahError

NETWORK = "10.77.0.0/16"
"""That of replicas, where each has an address of its own."""
START = datetime(2026, 3, 1, 23, 55, tzinfo=UTC)


class WrongClock:
    """The site's own clock: it may be wrong by `wrong`."""

    def __init__(self, world: ManualClock) -> None:
        self.wrong = timedelta()
        self._world = world

    def now(self) -> datetime:
        return self._world.now() + self.wrong

    def even(self) -> datetime:
        return self._world.even()

    def steady(self) -> float:
        return self._world.steady()


class Line(httpx.AsyncBaseTransport):
    """The control plane as this site reaches it: its use cases, behind the calls that an agent makes. After `left` more
    calls it is cut; None: it is not. `given` is the latest law that it carried."""

    def __init__(self, office: Office, site: SiteId) -> None:
        self.office = office
        self.left: int | None = None
        self.given = 0
        self._site = site

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.left is not None:
            if self.left <= 0:
                raise httpx.ConnectError("the line is cut")
            self.left -= 1
        try:
            return self._answer(request)
        except KasbahError as error:
            return httpx.Response(error.status)

    def asked_for(self, lawbook: int) -> int:
        """The lawbook that is given where this one is asked for."""
        return lawbook

    def _answer(self, request: httpx.Request) -> httpx.Response:
        what, query = request.url.path.removeprefix("/agent/v1/"), request.url.params
        with self.office.read() as work:
            record = work.tx.sites.get(self._site)
            assert record is not None
            if record.state is SiteState.REMOVED and what != "desired":
                return httpx.Response(401)
            if what == "identity":
                return httpx.Response(200, content=IDENTITY.dump_json(identify(work, record)))
            if what == "desired":
                document = fetch_desired(work, record, (int(query["epoch"]), int(query["generation"])))
                if document is None:
                    return httpx.Response(204)
                return httpx.Response(200, content=document.body, headers={SIGNATURE_HEADER: document.signature})
            if what.startswith("lawbooks/"):
                number = self.asked_for(int(what.removeprefix("lawbooks/")))
                signed = lawbook_numbered(work, number).signed
                self.given = max(self.given, number)
                return httpx.Response(200, content=SIGNED.dump_json(signed))
        mark = request.headers.get(STATUS_HEADER, "")
        if what == "still":
            still_so(self.office, record, mark)
        else:
            assert what == "status", what
            report_status(self.office, record, SITE_STATUS.validate_json(request.content), mark=mark)
        return httpx.Response(204)


class FleetSite:
    """See the module. `key` is its gateway's own, in the charter that its owner signed; `dialled`: other sites have an
    address to dial, otherwise it holds tunnels to those that have one. `keeps`: what it can keep replicas from
    calling; `pins` the rules that its own owner pins."""

    def __init__(
        self, folder: Path, office: Office, world: ManualClock, *, name: str, id: SiteId, key: str, dialled: bool
    ) -> None:
        self.name, self.id, self.key = name, id, key
        self.clock = WrongClock(world)
        self.line = Line(office, id)
        self.up = False
        self.keeps = ENFORCED
        self.pins: frozenset[str] = frozenset()
        self.sources: set[Digest] = set()
        self._built: set[RevisionId] = set()
        self._folder = folder
        self.address = "" if not dialled else f"{name}.example:9443"
        self._routed: tuple[DesiredState, Gateway] | None = None
        folder.mkdir(parents=True)

    @property
    def connected(self) -> bool:
        return self.up and self.line.left is None

    @property
    def desired(self) -> DesiredState | None:
        """What it acts on; None while it is off, or knows nothing."""
        return self.ledger.desired if self.up else None

    # --- its life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The agent begins, with what is on its disk."""
        self.time = SiteClock(self._folder / "time.json", self.clock)
        self.word = LastWord(self._folder / "word.json", self.time, pinned(self.pins))
        self.ledger = Ledger(self._folder, self.word.judge)
        self.link = Link("http://control", None, self.ledger, None, lambda: None, self.line, word=self.word)  # type: ignore[arg-type]
        self.word.keeps(self.keeps)
        self.up = True
        self._news: SiteStatus | None = None

    async def stop(self) -> None:
        self.up = False
        await self.link.close()

    def keep_disk(self, aside: Path) -> None:
        shutil.copytree(self._folder, aside, dirs_exist_ok=True)

    def restore_disk(self, kept: Path) -> None:
        shutil.rmtree(self._folder)
        shutil.copytree(kept, self._folder)

    def quiet(self) -> bool:
        """Whether all that it would say is that nothing changed; then saying so is not simulated call by call."""
        news = replace(self._status(), observed_at=START) if self.connected and self.ledger.identity else None
        was, self._news = self._news, news
        if news is None or news != was:
            return False
        self.time.heard()
        return True

    async def tell(self) -> None:
        """Say what it sees, as far as the line carries it."""
        try:
            if self.ledger.identity is None:
                await self.link.introduce() if self.connected else None
            if self.ledger.identity is not None:
                await self.link.tell(self._status())
        except KasbahError:
            pass

    async def fetch(self) -> bool:
        """Ask for a newer desired state; whether all of it came."""
        try:
            await self.link.fetch(wait=0)
        except KasbahError:
            return False
        return True

    def act(self) -> None:
        """A pass of its reconciler: what it acts on is asked about again; what is not wanted any more goes."""
        self.ledger.rejudge()
        self.time.keep()
        desired = self.ledger.desired
        services = desired.services if desired is not None else ()
        revisions = [one for service in services for one in service.revisions]
        self._built = {one.id for one in revisions if one.id in self._built or one.source in self.sources}
        if desired is not None:
            self.sources &= {*(one.source for one in revisions), *(one.source for one in desired.standby)}

    # --- what it says -----------------------------------------------------------------------------------------------

    def _status(self) -> SiteStatus:
        desired = self.ledger.desired
        return SiteStatus(
            site=self.id,
            observed_at=self.clock.now(),
            applied=desired.version if desired else (0, 0),
            gateway_address=f"{self.name}.example:8080",
            peers_address=self.address,
            tunnel=not self.address,
            isolation=Isolation(mechanisms=(), egress=self.keeps),
            cpus=8.0,
            memory=2**36,
            runtimes=("python", "command"),
            services=tuple(self._service(one) for one in (desired.services if desired else ())),
            turned_away=self.word.turned_away,
        )

    def _service(self, service: Service) -> ServiceStatus:
        asleep = service.order is not None and service.order.command != "wake"
        state = ServiceState.STOPPED if asleep else ServiceState.RUNNING if service.shares else ServiceState.WAITING
        trial = service.trial
        found = tuple(
            RevisionStatus(
                revision=one.id,
                rollout=trial.rollout if trial is not None and trial.revision == one.id else None,
                build=BuildState.BUILT if one.id in self._built else BuildState.ABSENT,
                trial=TrialState.PROVEN if one.id in self._built else TrialState.UNTRIED,
                ready=int(one.id in self._built),
            )
            for one in service.revisions
        )
        return ServiceStatus(service=service.id, state=state, revisions=found)

    # --- its gateway ------------------------------------------------------------------------------------------------

    @property
    def gateway(self) -> Gateway | None:
        """How it routes what it acts on, by the agent's own decisions."""
        desired = self.desired
        if desired is None:
            return None
        if self._routed is None or self._routed[0] is not desired:
            crossing = Crossing(listen=self.address or None, tunnel=not self.address)
            inside = NETWORK if self.keeps == ENFORCED else ""
            made = route(desired, protocols={}, lingering=(), listen="0.0.0.0:80", crossing=crossing, inside=inside)
            self._routed = (desired, made)
        return self._routed[1]

    def host(self, name: str) -> VirtualHost | None:
        """The virtual host that answers for a service."""
        hosts = self.gateway.hosts if self.gateway is not None else ()
        return next((one for one in hosts if f"{name}.localhost" in one.hosts), None)

    def sends(self, host: VirtualHost) -> Iterator[SiteId]:
        """The other sites that it tries for it."""
        if host.elsewhere is not None:
            for way in across.ways(host):
                if way != names.HERE_LISTENER:
                    yield SiteId(way.removeprefix(names.PEER))

    def meets(self, other: FleetSite) -> bool:
        """Whether it takes the other for the site that it is: by the name and the key in its certificate."""
        assert self.gateway is not None
        known = next((one for one in self.gateway.peers if one.site == other.id), None)
        return known is not None and known.key in ("", other.key)

    def takes(self, host: VirtualHost, sender: FleetSite) -> bool:
        """Whether what this site sends for the service is let in: as the filter in its virtual host says."""
        assert self.gateway is not None
        identities = {peer.site: peer.identity for peer in self.gateway.peers}
        senders = tuple(identities[site] for site in host.entries if site in identities)
        if not (host.here and senders and sender.id in identities):
            return False
        rules: dict[str, Any] = json.loads(json.dumps(across.entry_host(host, senders)))["typed_per_filter_config"]
        named = rules[names.ENTRIES_FILTER]["rbac"]["rules"]["policies"]["entries"]["principals"]
        return identities[sender.id] in [one["authenticated"]["principal_name"]["exact"] for one in named]


def ways(entry: FleetSite, name: str, by_id: Mapping[str, FleetSite]) -> Iterator[tuple[FleetSite, ...]]:
    """Every way that a request from a caller of this site goes, as the gateways on it are configured: the sites that
    it passes, the one that serves it last."""
    host = entry.host(name)
    if host is None:
        return
    if host.here and host.clusters:
        yield (entry,)
    for to in entry.sends(host):
        other = by_id.get(to)
        if other is None or not (entry.meets(other) and other.meets(entry)):
            continue
        there = other.host(name)
        if there is not None and other.takes(there, entry) and there.clusters:
            yield (entry, other)
