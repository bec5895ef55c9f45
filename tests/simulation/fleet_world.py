"""A fleet: the real control plane on a store in memory, and its sites, in time that moves only when told.

Everything that its owner, its deployers and fate may do to it is a method here; what was done is told to the watch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from deployers import signature
from fleet_draw import (
    SHIPPED,
    TARGETS,
    File,
    Theme,
    approvals,
    charter,
    file,
    label,
    lawbook,
    mark_of,
    owner_of,
    request,
    statute,
)
from fleet_quick import seen
from fleet_site import START, FleetSite
from fleet_watch import FIRST, Asked, Seen, Truth, View, Watch
from lawful_oracle import Land, Leave, Mark, Said, Statute, is_about, mark_now

from kasbah.api.agent import DESIRED_STATE
from kasbah.api.attesting import revision_of
from kasbah.api.owner import APPROVAL, CHARTER, DECLASSIFICATION, LAWBOOK, load, sign_document
from kasbah.api.public import AttestationText, DeployRequest, ScaleRequest
from kasbah.clock import ManualClock
from kasbah.control import app
from kasbah.control.changes import MOVES
from kasbah.control.loops.law import Law
from kasbah.control.loops.rollout import Rollouts
from kasbah.control.store.lawbooks import LawbookRecord, LawbookState
from kasbah.control.store.records import DesiredDocument
from kasbah.control.usecases import (
    change_law,
    delete,
    deploy,
    grants,
    retire_site,
    scale,
    send_source,
    work,
)
from kasbah.control.usecases.declare_site import declare_site
from kasbah.domain.desired import DesiredState
from kasbah.domain.grant import Approval, Declassification, GrantKind
from kasbah.domain.ids import Digest, GrantId, InstallationId, ServiceId, SiteId
from kasbah.domain.rollout import RolloutState
from kasbah.domain.service import Access
from kasbah.errors import Conflict, Denied, Invalid, KasbahError, Unavailable
from kasbah.settings import ControlSettings

CPUS = 8.0
"""What each site's machine has."""
TICK = timedelta(seconds=4)
WATCH = timedelta(seconds=10)
"""A site is watched for so long with a new law before the next gets it."""
SETTLING = 12
"""Ticks in which everything that is due is done, a law's way from site to site apart."""


class Chance:
    """What the control plane draws ids from, in the place of the module `secrets`."""

    def __init__(self, draw: Random) -> None:
        self.token_bytes = draw.randbytes


class Heralds:
    """Calls loops when something is announced, as the event loop that they run on would."""

    def __init__(self) -> None:
        self.listeners: dict[str, Callable[[], None]] = {}

    def announce(self, topics: Iterable[str]) -> None:
        for topic in topics:
            self.listeners.get(topic, lambda: None)()


class Fleet:
    """See the module."""

    def __init__(self, folder: Path, draw: Random, theme: Theme, monkeypatch: pytest.MonkeyPatch) -> None:
        self.draw, self.theme = draw, theme
        self.clock = ManualClock(START)
        self.truth = Truth()
        self.watch = Watch(self.truth)
        self.sites: dict[str, FleetSite] = {}
        self.numbers: dict[str, int] = {}
        self.places: dict[str, str] = {}
        self.folder = folder
        monkeypatch.setattr(work, "secrets", Chance(Random(draw.random())))
        self.control = app.build(
            ControlSettings(data_dir=folder / "c", database_url="sqlite://", country="MA"), self.clock
        )
        self.changes = Heralds()
        self.office = replace(self.control.office, changes=self.changes)
        self.owner: Ed25519PrivateKey = load(self.control.folder.owner_key)
        self.deployer = load(self.control.folder.deployer_key)
        with self.office.read() as found:
            installation = found.tx.installations.get()
            assert installation is not None
            self.installation: InstallationId = installation.id
            (local,) = found.tx.sites.all()
        self.told: dict[str, DesiredState] = {}
        self._known: dict[str, tuple[int, int]] = {}
        self._on_its_way: tuple[int, dict[str, datetime]] = (1, {})
        self.restart_control()
        said = Said(value="MA", since=START.date())
        self._begin(local.id, FIRST, Land(kind="on-prem", said={"country": said}), key="")
        self.truth.laws[1] = Statute(number=1, packs=SHIPPED)

    # --- fate -----------------------------------------------------------------------------------------------------

    def restart_control(self) -> None:
        """Its loops begin anew, and remember nothing."""
        self._rollouts, self._law = Rollouts(self.office), Law(self.office)
        self.changes.listeners = {MOVES: self._law.unsettle}
        self.office.marks.clear()

    def _begin(self, id: SiteId, name: str, land: Land, key: str) -> FleetSite:
        dialled = name == FIRST or self.draw.random() < 0.8
        site = FleetSite(
            self.folder / f"{name}-{len(self.sites)}",
            self.office,
            self.clock,
            name=name,
            id=id,
            key=key,
            dialled=dialled,
        )
        self.sites[id] = site
        self.truth.lands[id], self.truth.names[id], self.truth.keys[id] = land, name, key
        site.start()
        return site

    async def tick(self, jump: timedelta = TICK) -> None:
        """Time passes, everybody does what is due, and the watch looks."""
        self.clock.advance(jump)
        self.watch.lived += TICK
        up = [site for site in self.sites.values() if site.up and site.id not in self.truth.removed]
        quiet = {site.id for site in up if site.quiet()}
        with self.office.note() as done:
            seen(done.tx, quiet, done.now)
        for site in up:
            if site.id not in quiet:
                await site.tell()
        self._rollouts._pass()
        self._law._pass()
        await self.deliver()

    async def deliver(self) -> None:
        """Sites get what is new for them, and act on it."""
        with self.office.read() as found:
            documents = {id: found.tx.sites.desired(SiteId(id)) for id in self.sites}
            live = found.tx.lawbooks.live()
        force = max((one.version for one in live if one.state is LawbookState.IN_FORCE), default=0)
        if not self.watch.captured:
            self._one_site_at_a_time(max(live, key=lambda one: one.version), force)
        for id in self.sites:
            told = [one.version for one in live if one.version > force and id in [two.site for two in one.arrivals]]
            self.truth.arrived[id] = max((force, *told))
        for id, site in self.sites.items():
            document = documents[id]
            if document is not None and self._known.get(id) != document.version:
                self._known[id] = document.version
                self.told[id] = DESIRED_STATE.validate_json(document.body)
            if site.up and site.ledger.identity is not None and document is not None:
                await self._fetch(site, document)
            if site.up:
                site.act()
        self.watch.look(list(self.sites.values()), self.told, self.clock.now())

    def _one_site_at_a_time(self, newest: LawbookRecord, force: int) -> None:
        """A law that is on its way comes to a site that is there only once the one before has had ten seconds of it."""
        if newest.version == force and newest.version == self._on_its_way[0]:
            return
        if newest.version != self._on_its_way[0]:
            self._on_its_way = (newest.version, {})
        known, now = self._on_its_way[1], self.clock.now()
        for one in newest.arrivals:
            if one.site in known:
                continue
            watched = [id for id, at in known.items() if self.watch.there_for(id) > TICK and one.at - at < WATCH]
            if watched and self.watch.there_for(one.site) > 2 * TICK and one.at > now - WATCH:
                raise Seen(
                    f"law {newest.version} comes to {self.truth.names[one.site]} while others are watched with it"
                )
            known[one.site] = one.at

    async def _fetch(self, site: FleetSite, document: DesiredDocument) -> None:
        """Have a site fetch what is new; where nothing is, it has word of that."""
        told = site.ledger.told
        owed = told is not None and told.lawbook > site.word.law_version
        news = told is None or told.version != document.version
        came = site.line.left != 0
        if news or owed or site.line.left is not None or site.link.in_vain:
            came = await site.fetch()
        if came and site.ledger.told is not None and site.ledger.told.version == document.version:
            self.watch.hear(site)

    # --- the owner --------------------------------------------------------------------------------------------------

    def declare(self, name: str, land: Land) -> bool:
        """Say something of a site, known or new; whether that was taken."""
        known = next((id for id, one in self.truth.names.items() if one == name and id not in self.truth.removed), None)
        id = SiteId(known or f"st-{self.draw.randbytes(5).hex()}")
        key = self.truth.keys.get(id) or ("" if name == FIRST else self.draw.randbytes(32).hex())
        version = self.numbers[id] = self.numbers.get(id, 1) + 1
        document = charter(self.installation, id, name, version, land, self.draw, key)
        try:
            with self.office.write() as done:
                declare_site(done, name, sign_document(self.owner, CHARTER, document), even_so=True)
        except KasbahError:
            return False
        if known is None:
            self._begin(id, name, land, key)
        said = document.facts.capacity
        self.truth.room[id] = CPUS if said is None else min(CPUS, said.value.cpus or CPUS)
        self.watch.grown.add(id)
        self.truth.lands[id] = land
        return True

    def declare_outside(self, name: str, land: Land) -> None:
        """Say something of a place that is only called."""
        id = SiteId(self.places.setdefault(name, f"st-{self.draw.randbytes(5).hex()}"))
        version = self.numbers[id] = self.numbers.get(id, 1) + 1
        document = charter(self.installation, id, name, version, land, self.draw, "")
        try:
            with self.office.write() as done:
                declare_site(done, name, sign_document(self.owner, CHARTER, document), even_so=True)
        except Invalid:  # of its facts, one has run out already, or they contradict each other
            return
        self.truth.outside[id] = land

    def forget_outside(self, name: str) -> None:
        """Of a place that is only called nothing is said any more."""
        with self.office.write() as done:
            retire_site.remove(done, name, force=True)
        self.truth.outside.pop(self.places.pop(name), None)

    def legislate(self) -> None:
        self.enact(statute(self.draw, max(self.truth.laws) + 1, self.theme))

    def enact(self, law: Statute) -> None:
        signed = sign_document(self.owner, LAWBOOK, lawbook(self.installation, law))
        self.truth.laws[law.number] = law
        with self.office.write() as done:
            based = done.law.newest.lawbook.version
            token = done.tx.tokens.find("admin")
            assert token is not None
            change_law.apply_law(done, token, signed, based_on=based, even_so=True, reason="as drawn")

    @property
    def newest_law(self) -> int:
        """The last that is to reach all sites: where one that loosened went wrong, the one before holds again."""
        with self.office.read() as done:
            found = {number: done.tx.lawbooks.get(number) for number in self.truth.laws}
        return max(number for number, law in found.items() if law is None or law.state != "turned-back")

    def resume(self) -> None:
        """Let a law that halted go on."""
        try:
            with self.office.write() as done:
                change_law.resume_law(done, done.law.newest.lawbook.version)
        except Conflict:
            pass

    def grant(self, name: str, *, to: Mark | None = None, seconds: float) -> None:
        """Lower a service's label, or approve something of it."""
        service = self.truth.services[name]
        begins = self.clock.now()
        ends = begins + timedelta(seconds=seconds)
        sites: tuple[str, ...] = ()
        if to is None:
            approval = self.draw.choice(approvals(self.truth.laws[max(self.truth.laws)], self.theme))
            there = sorted(self.sites.keys() - self.truth.removed)
            sites = tuple(self.draw.sample(there, 1)) if self.draw.random() < 0.4 else ()
            document: Approval | Declassification = Approval(
                installation=self.installation, name=approval, services=(ServiceId(service.id),), projects=(),
                sites=tuple(SiteId(one) for one in sites), evidence="as drawn", issued_at=begins, expires_at=ends,
            )  # fmt: skip
        else:
            document = Declassification(
                installation=self.installation, service=ServiceId(service.id), to=label(to), evidence="as drawn",
                issued_at=begins, expires_at=ends,
            )  # fmt: skip
        kind, context = (GrantKind.APPROVAL, APPROVAL) if to is None else (GrantKind.DECLASSIFICATION, DECLASSIFICATION)
        with self.office.write() as done:
            token = done.tx.tokens.find("admin")
            assert token is not None
            try:
                made = grants.add_grant(done, token, kind, sign_document(self.owner, context, document))
            except Invalid:  # what it would lift is in no law that is in force yet
                return
        said = document.name if isinstance(document, Approval) else ""
        self.truth.leaves[made.record.id] = Leave(
            id=made.record.id, name=said, service=service.id, sites=frozenset(sites), to=to, begins=begins, ends=ends
        )

    def revoke(self, grant: str) -> None:
        with self.office.write() as done:
            grants.revoke_grant(done, GrantId(grant))
        del self.truth.leaves[grant]

    # --- whoever runs it --------------------------------------------------------------------------------------------

    def drain(self, id: str, *, undo: bool) -> None:
        with self.office.write() as done:
            retire_site.drain(done, self.truth.names[id], undo=undo)
        (self.truth.drained.discard if undo else self.truth.drained.add)(id)

    def remove(self, id: str) -> None:
        with self.office.write() as done:
            retire_site.remove(done, self.truth.names[id], force=True)
        self.truth.removed.add(id)

    def deploy(self, name: str, mark: Mark | None, *, plain: bool = False) -> bool:
        """Deploy a service, and send its source through every door that opens; whether that was allowed. `plain`: it
        calls nothing."""
        there = [one for id, one in self.truth.names.items() if id not in self.truth.removed]
        hosts = [host for land in self.truth.outside.values() for host in land.hosts]
        says = file(self.draw, name, self.theme, hosts) if "calls" in self.theme.beside and not plain else File()
        asked, place = request(self.draw, name, mark, there, says, crowded="room" in self.theme.beside)
        asked = self._signed(name, asked)
        known = self.truth.services.get(name)
        wanted = mark_of(mark)
        most = known.most if known is not None else None
        lowered = most is not None and not wanted.says_as_much_as(most)
        allowed = (
            not lowered
            or mark_now(wanted, most, known.id if known else "", self.truth.leaves.values(), self.clock.now()) == wanted
        )
        try:
            with self.office.write() as done:
                made = deploy.deploy(done, "default", name, asked)
                doors = made.uploads
        except Denied as error:
            if error.code == "label_lowered" and not allowed:
                return False
            if error.code == "policy_denied":
                if any(self._not_called(name, wanted, known, says)):
                    return False
                raise Seen(f"{name} is refused, and may call all of {says}: {error.message}") from None
            raise
        if not self.watch.captured and any(self._not_called(name, wanted, known, says)[:1]):
            raise Seen(f"{name} is taken, and may not call all of {says}")
        self.truth.files[made.revision] = says
        self.truth.deployed.setdefault(made.service.id, set()).add(made.revision)
        if not allowed and not self.watch.captured:
            raise Seen(f"the label of {name} falls to {wanted} from {most}, and nobody signed that")
        said = most if mark is None else mark if most is None else most.and_also(mark)
        self.truth.services[name] = Asked(
            id=made.service.id,
            mark=wanted,
            most=said,
            revision=made.revision,
            room=place["room"],
            always=asked.config.scaling.min,
            sites=place["sites"],
            only=tuple(place["only"]),
            avoid=tuple(place["avoid"]),
        )
        self.watch.grown.add(name)
        self._send(doors, asked.source)
        return True

    def _not_called(self, name: str, mark: Mark, known: Asked | None, says: File) -> list[bool]:
        """Whether something of what a file lists may not be called, by the newest law and by those that are at sites
        still."""
        said, service = self.truth, Asked(id=known.id if known else "", mark=mark, most=None)
        as_deployed = replace(said, services={**said.services, name: service})
        with self.office.read() as found:
            placed = {one.name: one.placement.chosen for one in found.tx.services.all() if one.placement is not None}
        laws = range(max(said.laws), min(said.arrived.values(), default=1) - 1, -1)

        def refused(view: View) -> bool:
            lists = [one for one in TARGETS if any(is_about(entry, one) for entry in says.listed or ())]
            if not all(view.may_call(name, one, says.listed) for one in lists):
                return True
            others = [one for one in says.calls if one in said.services]
            return not all(view.may_tell(name, one, to) for one in others for to in placed.get(one) or (None,))

        return [refused(View(said=as_deployed, law=said.laws[number], now=self.clock.now())) for number in laws]

    def _signed(self, name: str, asked: DeployRequest) -> DeployRequest:
        """The deploy with its deployer's signature."""
        with self.office.read() as found:
            (project,) = found.tx.installations.projects()
        signed = signature(
            self.deployer,
            revision_of(asked.config, asked.source, asked.source_size),
            installation=self.installation,
            project=project.id,
            service=name,
            at=self.clock.now(),
            label=asked.config.label,
            public=asked.config.access is Access.PUBLIC,
        )
        return asked.model_copy(update={"attested": AttestationText.model_validate(signed)})

    def failed(self) -> tuple[str, ...]:
        """The services whose last rollout failed: their deployers are told to deploy them again."""
        with self.office.read() as found:
            last = {one.name: found.tx.rollouts.last((one.id,)) for one in found.tx.services.all()}
        return tuple(name for name, one in sorted(last.items()) if one and one[0].state is RolloutState.FAILED)

    def placements(self) -> dict[str, tuple[set[str], set[str]]]:
        """Of each service that serves, by the control plane's own word: the sites that were chosen, and those that have
        built what it serves."""
        with self.office.read() as found:
            services = [one for one in found.tx.services.all() if one.serving is not None and one.placement is not None]
            built = {
                one.name: {
                    str(report.site)
                    for report in found.tx.reports.of((one.id,))
                    if any(of.revision == one.serving and of.build == "built" for of in report.status.revisions)
                }
                for one in services
            }
        return {one.name: (set(one.placement.chosen), built[one.name]) for one in services if one.placement}

    def send(self, name: str) -> None:
        """Send a service's sources again, wherever a door opens."""
        with self.office.read() as found:
            service = next((one for one in found.tx.services.all() if one.name == name), None)
            kept = found.tx.revisions.of(service.id) if service is not None else ()
            used = {one.contents.source for one in kept if service is not None and one.id in service.in_use}
        for digest in sorted(used):
            try:
                with self.office.read() as found:
                    doors = send_source.send_source(found, "default", name, digest, 1_000)
            except Unavailable:
                continue
            self._send(doors, digest)

    def _send(self, doors: Any, digest: str) -> None:
        for door in doors:
            id = next(id for id, name in self.truth.names.items() if name == door.site and id not in self.truth.removed)
            view = self.watch.view(id, self.clock.now())
            if not self.watch.captured and not view.may(owner_of(digest), id, "build"):
                raise Seen(f"the source of {owner_of(digest)} is sent to {door.site}")
            if self.sites[id].up:
                self.sites[id].sources.add(Digest(digest))

    def delete(self, name: str) -> None:
        with self.office.write() as done:
            delete.delete(done, "default", name, None)
        del self.truth.services[name]

    def burst(self, name: str, always: int) -> None:
        """So many replicas of a service run all the time now."""
        with self.office.write() as done:
            scale.scale(done, "default", name, ScaleRequest(min=always))
        self.truth.services[name] = replace(self.truth.services[name], always=always)
        self.watch.grown.add(name)

    def order(self, name: str, what: Callable[[Any], object]) -> None:
        try:
            with self.office.write() as done:
                what(done)
        except Conflict:
            pass
