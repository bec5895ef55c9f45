"""Watches the fleet as its owner would: knows what was said, asks the oracle, and objects.

Each site is held to two things:
- what it heard: of what its owner said until it last had word, nothing may be there that is not lawful by it, at once.
  Facts, certificates and grants that ended since have ended, and a law that lets data go stale counts from that word;
- what is so: while it is connected, within ten seconds.

The same is asked of what the control plane tells connected sites, whatever they make of it: each of two guards must do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from fleet_callers import let_in
from fleet_calls import Call, Runs, calls
from fleet_draw import TARGETS, File
from fleet_site import FleetSite, ways
from lawful_oracle import (
    Land,
    Leave,
    Mark,
    Statute,
    approved,
    goes_anywhere,
    is_kept,
    mark_now,
    may,
    may_call,
    may_tell,
)

from kasbah.domain.desired import DesiredState
from kasbah.domain.egress import SERVICE
from kasbah.domain.site import CLOSABLE, ENFORCED, OPEN

GRACE = timedelta(seconds=10)
RUNNING = ("place", "build", "log")
FIRST = "local"
RUNS = "where it runs"
"""Whom nobody asks: a site's own packs hold for what runs there, by whoever's word."""


class Seen(AssertionError):
    """Something is where it may not be, or is not where it could."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A service as it was deployed last: its label (`mark`), the most that was ever said of its data, its revision, the
    CPUs of a replica and how many always run, and its place."""

    id: str
    mark: Mark
    most: Mark | None
    revision: str = ""
    room: float = 0.0
    always: int = 0
    sites: int = 1
    only: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Truth:
    """All that was said. Sites by id, services by name, laws by number; `arrived` is the law that holds at a site.
    `outside` are the places that are only called, by id, and `files` what revisions call; `deployed` are those of a
    service, by its id."""

    lands: dict[str, Land] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    services: dict[str, Asked] = field(default_factory=dict)
    leaves: dict[str, Leave] = field(default_factory=dict)
    laws: dict[int, Statute] = field(default_factory=dict)
    arrived: dict[str, int] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    drained: set[str] = field(default_factory=set)
    outside: dict[str, Land] = field(default_factory=dict)
    files: dict[str, File] = field(default_factory=dict)
    deployed: dict[str, set[str]] = field(default_factory=dict)
    room: dict[str, float] = field(default_factory=dict)

    @property
    def home(self) -> str | None:
        first = next(site for site, name in self.names.items() if name == FIRST)
        said = self.lands[first].said.get("country")
        return None if said is None else str(said.value)

    def copied(self) -> Truth:
        return replace(
            self,
            **{
                name: copy(getattr(self, name))
                for name in ("lands", "names", "services", "leaves", "laws", "arrived", "removed", "drained", "outside")
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What is so for one site: all that was said, the law, and the moment."""

    said: Truth
    law: Statute
    now: datetime

    def mark(self, service: Asked) -> Mark:
        return mark_now(service.mark, service.most, service.id, self.said.leaves.values(), self.now)

    def may(self, name: str, site: str, *purposes: str) -> bool:
        """Whether a service may be at a site for these purposes."""
        service, land = self.said.services.get(name), self.said.lands.get(site)
        if service is None or land is None:
            return False
        leave = approved(service.id, site, self.said.leaves.values(), self.now)
        mark = self.mark(service)
        return all(may(self.law, mark, land, self.said.home, one, leave, self.now) for one in purposes)

    def may_call(self, name: str, target: str, listed: tuple[str, ...] | None) -> bool:
        """Whether a service may call a HOST:PORT outside."""
        service = self.said.services[name]
        return may_call(
            self.law,
            self.mark(service),
            target,
            self.said.outside,
            listed,
            self.said.home,
            lambda place: approved(service.id, place, self.said.leaves.values(), self.now),
            self.now,
        )

    def may_tell(self, name: str, other: str, to: str | None) -> bool:
        """Whether a service may call another at a site (None: wherever that is)."""
        service, called = self.said.services[name], self.said.services.get(other)
        if called is None:
            return False
        leave, mark = approved(service.id, "", self.said.leaves.values(), self.now), self.mark(service)
        free = goes_anywhere(self.law, mark, self.said.home, leave, self.now)
        return may_tell(free, mark, self.mark(called)) and (to is None or self.may(name, to, "egress"))

    def is_lawful(self, one: Found, keeps: str) -> bool:
        """Whether this may be so, at a site that keeps replicas from calling what it can."""
        if isinstance(one, Presence):
            return self.may(one.name, one.site, *one.purposes)
        service = self.said.services.get(one.name)
        if service is None:
            return False
        if isinstance(one, Runs):
            return any(self.is_kept(one.name, self.said.files[revision], keeps) for revision in one.revisions)
        file = self.said.files[one.revision]
        if file.listed is None and self.mark(service).level < 3 and _lets_all_pass(keeps, file):
            return True
        if one.target.startswith(SERVICE):
            return self.may_tell(one.name, one.target.removeprefix(SERVICE), one.to)
        return self.may_call(one.name, one.target, file.listed)

    def reaches(self, name: str, file: File) -> bool:
        """Whether something of what a file names may be called: a service that is not there could come to be."""
        return bool(file.calls) or any(self.may_call(name, one, file.listed) for one in TARGETS)

    def is_kept(self, name: str, file: File, keeps: str) -> bool:
        """Whether a site can keep a service from calling what it may not, or need not."""
        closed = keeps == CLOSABLE and not self.reaches(name, file)
        return is_kept(self.mark(self.said.services[name]).level, file.listed, keeps == ENFORCED or closed)


def _lets_all_pass(keeps: str, file: File) -> bool:
    """Whether a site cannot keep anything from being called, for a service that it must run all the same."""
    return keeps == OPEN or (keeps == CLOSABLE and bool(file.calls))


@dataclass(slots=True, kw_only=True)
class Heard:
    """What a site has heard: all that was said then, the law it was given, when, and how far the time that the control
    plane signed is ahead of its even clock."""

    said: Truth
    law: int
    at: datetime
    ahead: timedelta


@dataclass(frozen=True, slots=True, order=True)
class Presence:
    """A service at a site: it runs there, is forwarded, or its source is kept; `by` is where it is, `why` in words."""

    name: str
    site: str
    purposes: tuple[str, ...]
    why: str


def presences(desired: DesiredState, names: Mapping[str, str], site: str) -> Iterator[Presence]:
    """What of services is at a site that acts on this."""
    for service in desired.services:
        yield Presence(service.name, site, RUNNING, "runs")
    for one in desired.forwarded:
        yield Presence(one.name, site, ("forward",), "is forwarded")
    for kept in desired.standby:
        yield Presence(kept.name, site, ("build",), "is kept as a source")
    lanes = {lane.id: lane for lane in desired.lanes}
    for routed in (*desired.services, *desired.forwarded):
        lane = lanes.get(routed.lane)
        for to in lane.to if lane is not None else ():
            yield Presence(routed.name, to, (*RUNNING, "forward"), f"is sent on from {names[site]}")
        for entry in lane.entries if lane is not None else ():
            yield Presence(routed.name, entry, ("forward",), f"is let in at {names[site]}")


def _runs(told: DesiredState, site: str) -> Iterator[Runs]:
    """What a site is told to run now."""
    for service in told.services:
        wanted = {share.revision for share in service.shares} | ({service.trial.revision} if service.trial else set())
        if wanted:
            yield Runs(service.name, site, tuple(sorted(wanted)))


Found = Presence | Call | Runs
"""What there is."""


class Watch:
    """See the module. `lived` is how long the fleet was awake: what passes in a jump of the clock is nobody's delay."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.captured = False
        self.heard: dict[str, Heard] = {}
        self.lived = timedelta()
        self.checked = 0
        self._wrong: dict[tuple[str, Found], timedelta] = {}
        self._connected: dict[str, timedelta] = {}
        self._been: dict[str, set[str]] = {}
        self._kept: dict[str, Heard] = {}
        self._behind: dict[str, timedelta] = {}
        self.grown: set[str] = set()
        self._there: dict[str, set[str]] = {}
        self._keeps: dict[str, str] = {}
        self._pins: dict[str, frozenset[str]] = {}

    def view(self, site: str, now: datetime, by: str = "") -> View:
        """What is so for a site that is connected, and by whoever is asked: a site asks what its own owner pinned, of
        others too, and where something runs it counts whoever is asked."""
        pins = self._pins.get(by, self._pins.get(self.truth.names[site], frozenset()) if by == RUNS else frozenset())
        return View(said=self.truth, law=self.truth.laws[self.truth.arrived[site]].with_pins(pins), now=now)

    def there_for(self, site: str) -> timedelta:
        """For how long a site has been connected."""
        since = self._connected.get(site)
        return timedelta() if since is None else self.lived - since

    def hear(self, site: FleetSite) -> None:
        """A site has had word, and maybe a law."""
        told = site.ledger.told
        assert told is not None
        before, even = self.heard.get(site.id), site.clock.even()
        ahead = told.issued_at - even
        law, site.line.given = site.line.given, 0
        self.heard[site.id] = Heard(
            said=self.truth.copied(),
            law=law if before is None else max(law, before.law),
            at=even,
            ahead=ahead if before is None else max(ahead, before.ahead),
        )

    def restarted(self, site: FleetSite) -> None:
        """All that a site knows of the time then is when its desired state was signed."""
        heard, told = self.heard.get(site.id), site.ledger.told
        if heard is not None and told is not None:
            heard.ahead = told.issued_at - site.clock.even()

    def keep(self, site: str) -> None:
        """A site's disk is copied, and with it what the site has heard."""
        if site in self.heard:
            self._kept[site] = copy(self.heard[site])

    def put_back(self, site: str) -> None:
        """That copy is its disk now."""
        if site in self._kept:
            self.heard[site] = copy(self._kept[site])

    # --- what is looked at after each step ----------------------------------------------------------------------------

    def look(self, sites: list[FleetSite], told: Mapping[str, DesiredState], now: datetime) -> None:
        for site in sites:
            if not site.connected:
                self._connected.pop(site.id, None)
            else:
                self._connected.setdefault(site.id, self.lived)
        self._keeps = {site.id: site.keeps for site in sites}
        self._pins = {site.name: site.pins for site in sites if site.id not in self.truth.removed}
        by_id = {site.id: site for site in sites if site.up}
        for site in by_id.values():
            if (desired := site.desired) is not None and desired.generation:
                self._by_what_it_heard(site, desired, by_id)
        if self.captured:  # it says what it likes: what counts is what sites make of it
            return
        self._laws_came(sites)
        for id, desired in told.items():
            self._newly_there(id, desired)
            self._has_room(id, {one.name for one in desired.services})
        self.grown.clear()
        self._by_what_is_so(set(self._all(sites, told)), now)

    def _all(self, sites: list[FleetSite], told: Mapping[str, DesiredState]) -> Iterator[tuple[str, Found]]:
        """All that is at connected sites, that they are told, and that requests meet there."""
        names = self.truth.names
        connected = {site.id for site in sites if site.connected}
        by_id = {site.id: site for site in sites if site.up}
        for site in sites:
            if site.connected and site.desired is not None:
                yield from ((site.name, one) for one in calls(site, by_id))
                yield from ((site.name, one) for one in presences(site.desired, names, site.id))
                if site.id in told:
                    yield from (("the control plane", one) for one in _runs(told[site.id], site.id))
                    yield from (("the control plane", one) for one in presences(told[site.id], names, site.id))
        yield from (one for one in self._requests(sites) if one[1].site in connected)

    def _by_what_it_heard(self, site: FleetSite, desired: DesiredState, by_id: Mapping[str, FleetSite]) -> None:
        heard = self.heard.get(site.id)
        if heard is None:
            if any(
                self.truth.services[one.name].mark.level for one in desired.services if one.name in self.truth.services
            ):
                raise Seen(f"{site.name} runs what is not public, and has heard nothing")
            return
        now = max(site.clock.now(), site.clock.even() + heard.ahead)
        law = heard.said.laws[heard.law] if heard.law else NO_LAW
        view = View(said=heard.said, law=law.with_pins(site.pins), now=now)
        for peer in desired.peers:
            signed = self.truth.keys.get(peer.site)  # "": the first site's is signed by nobody
            if signed and peer.key != signed:
                raise Seen(f"{site.name} takes whoever has the key {peer.key} for {peer.name}")
        if (why := let_in(desired, lambda name: view.mark(heard.said.services[name]))) is not None:
            raise Seen(f"{site.name} {why}")
        found = presences(desired, heard.said.names, site.id)
        for one in (*found, *calls(site, by_id)):
            self.checked += 1
            if not view.is_lawful(one, site.keeps):
                raise Seen(
                    f"{one.name} {one.why} at {heard.said.names.get(one.site)}, by what {site.name} heard: "
                    f"{self._told(view, one)}"
                )
            service = heard.said.services[one.name]
            limit = view.law.stale_after.get(view.mark(service).level)
            if limit is not None and site.clock.even() - heard.at > limit:
                raise Seen(f"{one.name} {one.why} at {site.name}, which has heard nothing for longer than {limit}")

    def _by_what_is_so(self, seen: set[tuple[str, Found]], now: datetime) -> None:
        """What is wrong now, and since when; what is wrong for longer than it may take is objected to."""
        wrong = {}
        for by, one in seen:
            self.checked += 1
            view = self.view(one.site, now, by) if one.site in self.truth.arrived else None
            if view is None or one.site in self.truth.removed or not view.is_lawful(one, self._keeps[one.site]):
                wrong[by, one] = self._wrong.get((by, one), self.lived)
                late = self.lived - max(wrong[by, one], self._connected.get(one.site, timedelta()))
                if late > GRACE:
                    why = "it is removed" if view is None else self._told(view, one)
                    raise Seen(
                        f"{one.name} {one.why} at {self.truth.names.get(one.site)} by {by}, {late} too long: {why}"
                    )
        self._wrong = wrong

    def _laws_came(self, sites: list[FleetSite]) -> None:
        """Whoever is connected has the law that holds there within ten seconds."""
        for site in sites:
            behind = site.id in self.heard and self.heard[site.id].law < self.truth.arrived[site.id]
            if not (behind and site.connected) or site.id in self.truth.removed:
                self._behind.pop(site.id, None)
            elif self.lived - self._behind.setdefault(site.id, self.lived) > GRACE:
                raise Seen(f"{site.name} has not been given law {self.truth.arrived[site.id]}, which holds there")

    def _newly_there(self, site: str, desired: DesiredState) -> None:
        """What is emptied is not filled with what was never there."""
        there, been = {one.id for one in desired.services}, self._been.setdefault(site, set())
        if site in self.truth.drained and there - been:
            new = sorted(one.name for one in desired.services if one.id not in been)
            raise Seen(f"{', '.join(new)} comes to {self.truth.names[site]}, which is drained")
        been |= there

    def taken(self, names: Iterable[str]) -> float:
        """The CPUs that these services always have at a site."""
        known = (self.truth.services.get(one) for one in names)
        return sum(one.room * one.always for one in known if one is not None)

    def _has_room(self, site: str, there: set[str]) -> None:
        """What comes to a site finds room there that nobody else has. What grew where it is may have too little."""
        before, self._there[site] = self._there.get(site, set()), there
        came = {one for one in there - before if self.taken([one])}
        if not came or self.grown & {site, *there}:
            return
        room = self.truth.room.get(site, self.taken(there))
        if self.taken(there) > room + 1e-6:
            raise Seen(f"{', '.join(sorted(came))} comes to {self.truth.names[site]}, which is full: {sorted(there)}")

    def _requests(self, sites: list[FleetSite]) -> Iterator[tuple[str, Presence]]:
        """A request for each service, from callers of each site, along every way there is."""
        by_id = {site.id: site for site in sites if site.up}
        for entry in by_id.values():
            for name in self.truth.services:
                for *passed, served in ways(entry, name, by_id):
                    yield from (("requests", Presence(name, one.id, ("forward",), "passes")) for one in passed)
                    crossed = ("forward",) if passed else ()
                    yield "requests", Presence(name, served.id, (*RUNNING, *crossed), "is served")
                    yield RUNS, Presence(name, served.id, RUNNING, "is served")

    def _told(self, view: View, one: Found) -> str:
        service, land = view.said.services.get(one.name), view.said.lands.get(one.site)
        mark = None if service is None else view.mark(service)
        home, law = view.law.home or view.said.home, view.law
        if isinstance(one, Call):
            land = f"{view.said.files.get(one.revision)}, {list(view.said.outside.values())}, {land}"  # type: ignore[assignment]
        return f"{mark}, {land}, home {home}, law {law.number} {sorted(law.house)}, {view.now}"


NO_LAW = Statute(number=0, packs=frozenset())
