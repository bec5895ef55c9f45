"""Lives through random steps of a fleet, and sees in the end that what may be somewhere, and fits, is there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from fleet_calls import calls
from fleet_draw import ANYTHING, NAMES, OUTSIDE, PLACES, TARGETS, File, Theme, facts, outside
from fleet_site import FleetSite, ways
from fleet_watch import FIRST, RUNNING, Asked, Seen, View
from fleet_world import CPUS, SETTLING, TICK, Fleet
from lawful_oracle import is_about

from kasbah.control.usecases import sleep_wake
from kasbah.domain.site import CLOSABLE, ENFORCED, OPEN

HOUR = timedelta(hours=1)
FAILOVER = 14
"""Ticks in which a site is known to be lost, and others have taken over what it ran."""


class Life:
    """A fleet, and what befalls it. What a step does is drawn anew each time; what cannot be done now is not."""

    def __init__(self, folder: Path, seed: int, theme: Theme, monkeypatch: pytest.MonkeyPatch) -> None:
        self.draw, self.theme = Random(seed), theme
        self.folder = folder
        self.fleet = Fleet(folder, self.draw, theme, monkeypatch)
        self.acts: list[tuple[int, Callable[[], None] | Callable[[], Awaitable[None]]]] = [
            (10, self.deploy),
            (5, self.redeclare),
            (3, self.legislate),
            (3, self.lower),
            (3, self.approve),
            (1, self.revoke),
            (2, self.drain),
            (1, self.remove),
            (2, self.join),
            (4, self.cut),
            (5, self.mend),
            (2, self.lose),
            (3, self.power),
            (2, self.restart),
            (2, self.set_clock),
            (2, self.disk),
            (4, self.send),
            (1, self.delete),
            (2, self.sleep),
            (1, self.forget),
            *self._beside(),
        ]

    def _beside(self) -> list[tuple[int, Callable[[], None] | Callable[[], Awaitable[None]]]]:
        """What befalls only what there is besides: see `fleet_draw.BESIDE`."""
        acts: dict[str, list[tuple[int, Callable[[], None] | Callable[[], Awaitable[None]]]]] = {
            "room": [(4, self.burst)],
            "pins": [(2, self.pin)],
            "calls": [(4, self.move_outside), (1, self.forget_outside), (2, self.refit)],
        }
        return [act for name, found in acts.items() if name in self.theme.beside for act in found]

    async def begin(self) -> None:
        """A few sites, a few services."""
        for name in PLACES[: self.draw.randrange(2, self.theme.most_sites)]:
            self.fleet.declare(name, facts(self.draw, self.today))
        if self.theme.house or self.theme.stale_after:
            self.fleet.legislate()
        await self.fleet.tick()
        await self.fleet.tick()
        if "calls" in self.theme.beside:
            for name in OUTSIDE[:2]:
                self.fleet.declare_outside(name, outside(self.draw, self.theme, self.today))
        for name in NAMES[: self.draw.randrange(2, len(NAMES))]:
            self.fleet.deploy(name, self.draw.choice(self.theme.marks))
        await self.fleet.tick()

    async def step(self) -> None:
        weights, acts = zip(*self.acts, strict=True)
        often = [weight + self.theme.often.get(act.__name__, 0) for weight, act in zip(weights, acts, strict=True)]
        done = self.draw.choices(acts, often)[0]()
        if done is not None:
            await done
        if self.draw.random() < 0.2:
            await self.fleet.deliver()
        if self.draw.random() < 0.4:
            return  # and at the same moment something else
        if self.draw.random() < self.theme.jumps:
            await self.fleet.tick(self._jump())
        for _ in range(self.draw.choice((1, 1, 1, 2, 3))):
            await self.fleet.tick()

    def _jump(self) -> timedelta:
        """Hours pass, or all but the last moment of a day."""
        now = self.now
        midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), tzinfo=now.tzinfo)
        return self.draw.choice((HOUR, 5 * HOUR, max(midnight - now - timedelta(seconds=2), TICK)))

    @property
    def now(self) -> datetime:
        return self.fleet.clock.now()

    @property
    def today(self):
        return self.now.date()

    # --- what befalls it ----------------------------------------------------------------------------------------------

    def deploy(self) -> None:
        self.fleet.deploy(self.draw.choice(NAMES), self.draw.choice(self.theme.marks))

    def redeclare(self) -> None:
        there = [one for id, one in self.fleet.truth.names.items() if id not in self.fleet.truth.removed]
        self.fleet.declare(self.draw.choice(there), facts(self.draw, self.today))

    def legislate(self) -> None:
        self.fleet.legislate()

    def lower(self) -> None:
        if (name := self._service()) is not None:
            to = self.draw.choice([one for one in self.theme.marks if one is not None])
            self.fleet.grant(name, to=to, seconds=self.draw.choice((15, 60, 4_000, 90_000)))
            if self.draw.random() < 0.8:
                self.fleet.deploy(name, to)

    def approve(self) -> None:
        if (name := self._service()) is not None:
            self.fleet.grant(name, seconds=self.draw.choice((15, 60, 4_000, 90_000)))

    def revoke(self) -> None:
        if self.fleet.truth.leaves:
            self.fleet.revoke(self.draw.choice(sorted(self.fleet.truth.leaves)))

    def drain(self) -> None:
        id = self.draw.choice(self._there())
        self.fleet.drain(id, undo=id in self.fleet.truth.drained)

    def remove(self) -> None:
        others = [id for id in self._there() if self.fleet.truth.names[id] != FIRST]
        if len(others) > 2:
            self.fleet.remove(self.draw.choice(others))

    def join(self) -> None:
        names = {self.fleet.truth.names[id] for id in self._there()}
        new = [one for one in PLACES if one not in names]
        if new and len(names) < self.theme.most_sites:
            self.fleet.declare(new[0], facts(self.draw, self.today))

    def cut(self) -> None:
        site = self._site()
        if site is not None:
            site.line.left = self.draw.choice((0, 0, 1, 2, 3))

    def mend(self) -> None:
        cut = [one for one in self.fleet.sites.values() if one.line.left is not None]
        if cut:
            self.draw.choice(cut).line.left = None

    async def lose(self) -> None:
        site = self._site()
        if site is not None:
            await site.stop()

    async def power(self) -> None:
        off = [one for one in self.fleet.sites.values() if not one.up]
        if off:
            self._start(self.draw.choice(off))

    async def restart(self) -> None:
        site = self._site()
        if site is not None:
            await site.stop()
            self._start(site)

    def _start(self, site: FleetSite) -> None:
        site.start()
        self.fleet.watch.restarted(site)

    def set_clock(self) -> None:
        site = self._site()
        if site is not None:
            site.clock.wrong = timedelta(seconds=self.draw.choice((0, 0, 3, -3, -600, -100_000, 100_000)))

    async def disk(self) -> None:
        """A copy of a site's disk is kept; later it is put back."""
        site = self._site()
        if site is None or site.ledger.told is None:
            return
        aside = self.folder / f"kept-{site.id}"
        if not aside.exists():
            site.keep_disk(aside)
            self.fleet.watch.keep(site.id)
            return
        await site.stop()
        site.restore_disk(aside)
        self.fleet.watch.put_back(site.id)
        self._start(site)

    def send(self) -> None:
        if (name := self._service()) is not None:
            self.fleet.send(name)

    def delete(self) -> None:
        if (name := self._service()) is not None:
            self.fleet.delete(name)

    def sleep(self) -> None:
        if (name := self._service()) is not None:
            what = self.draw.choice(
                (
                    lambda work: sleep_wake.sleep(work, "default", name, "frozen"),
                    lambda work: sleep_wake.wake(work, "default", name),
                )
            )
            self.fleet.order(name, what)

    def forget(self) -> None:
        self.fleet.restart_control()

    def move_outside(self) -> None:
        """A place outside is declared, or something else is said of it."""
        self.fleet.declare_outside(self.draw.choice(OUTSIDE), outside(self.draw, self.theme, self.today))

    def forget_outside(self) -> None:
        if self.fleet.places:
            self.fleet.forget_outside(self.draw.choice(sorted(self.fleet.places)))

    async def refit(self) -> None:
        """A site comes to keep replicas from calling more, or less."""
        site = self._site()
        if site is not None:
            await site.stop()
            site.keeps = self.draw.choice((ENFORCED, ENFORCED, CLOSABLE, OPEN))
            self._start(site)

    def burst(self) -> None:
        """More of a service runs all the time, or less."""
        if (name := self._service()) is not None:
            self.fleet.burst(name, self.draw.choice((0, 1, 2, 4)))

    async def pin(self) -> None:
        """A site's own owner pins other rules there."""
        site = self._site()
        if site is not None:
            await site.stop()
            rules = self.theme.pins
            site.pins = frozenset(self.draw.sample(rules, self.draw.choice((0, 0, 1, 1, min(2, len(rules))))))
            self._start(site)

    def _there(self) -> list[str]:
        return sorted(self.fleet.sites.keys() - self.fleet.truth.removed)

    def _site(self) -> FleetSite | None:
        up = [self.fleet.sites[id] for id in self._there() if self.fleet.sites[id].up]
        return self.draw.choice(up) if up else None

    def _service(self) -> str | None:
        return self.draw.choice(sorted(self.fleet.truth.services)) if self.fleet.truth.services else None

    # --- in the end ---------------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """First nothing is mended, and what serves goes on wherever else it may. Then everything is; then the law goes
        everywhere, and what may be somewhere and fits is there."""
        fleet = self.fleet
        for site in fleet.sites.values():
            if site.up and site.line.left is not None:
                site.line.left = 0
        for count in range(FAILOVER):
            for name in sorted(fleet.truth.services) if count % 4 == 0 else ():
                fleet.send(name)
            await fleet.tick()
        self._what_serves_goes_on()
        for site in fleet.sites.values():
            site.line.left, site.clock.wrong = None, timedelta()
            if not site.up:
                self._start(site)
        for id in sorted(fleet.truth.drained - fleet.truth.removed):
            if self.draw.random() < 0.5:
                fleet.drain(id, undo=True)
        for count in range(4 * len(fleet.sites) + SETTLING):
            if count % 4 == 0:
                fleet.resume()
                for name in fleet.failed():
                    fleet.deploy(
                        name,
                        View(said=fleet.truth, law=fleet.truth.laws[1], now=self.now).mark(fleet.truth.services[name]),
                        plain=True,
                    )
                for name in sorted(fleet.truth.services):
                    fleet.send(name)
            await fleet.tick()
            if count >= SETTLING and {fleet.truth.arrived[id] for id in self._there()} == {fleet.newest_law}:
                break
        self._all_that_may_is_there()

    def _what_serves_goes_on(self) -> None:
        """Where a site that is there may and can run what a lost one ran, it does, and once it serves the lost one has
        it no more."""
        truth = self.fleet.truth
        laws = [
            View(said=truth, law=truth.laws[number], now=self.now)
            for number in {*truth.arrived.values(), max(truth.laws)}
        ]
        gone = {id for id in self._there() if not self.fleet.sites[id].connected}
        for name, (chosen, ready) in self.fleet.placements().items():
            asked = truth.services[name]
            fits = [id for id in self._fits(laws, name, asked) if id not in gone]
            told = f"{name} is at {self._names(chosen)}, fits at {self._names(fits)}, lost are {self._names(gone)}"
            if fits and not chosen - gone:
                raise Seen(told)
            if ready - gone - truth.drained and chosen & gone and (chosen & ready) - gone:
                raise Seen(f"{told}: a lost site keeps it though another serves")

    def _fits(self, views: Sequence[View], name: str, asked: Asked, count: Callable[..., bool] = all) -> list[str]:
        """The sites where it may be by all these, is asked to be, and could be: with each of its revisions, or (`any`)
        with one. A site refuses a service of which it cannot limit some revision, and until a rollout is done that
        serves whose calls were limited before."""
        names = self.fleet.truth.names
        files = [self.fleet.truth.files[one] for one in self.fleet.truth.deployed[asked.id]]
        return [
            id
            for id in self._there()
            if all(self._with_pins(view, id).may(name, id, *RUNNING) for view in views)
            and id not in self.fleet.truth.drained
            and (not asked.only or names[id] in asked.only)
            and names[id] not in asked.avoid
            and (count is any or self._has_room(name, asked, id))
            and count(self._is_kept(view, name, file, id) for view in views for file in files)
        ]

    def _has_room(self, name: str, asked: Asked, id: str) -> bool:
        """Whether it is there, or there is room for it."""
        told = self.fleet.told.get(id)
        there = [one.name for one in told.services] if told is not None else []
        needs, room = asked.room * asked.always, self.fleet.truth.room.get(id, CPUS)
        return not needs or name in there or self.fleet.watch.taken(there) + needs <= room

    def _with_pins(self, view: View, id: str) -> View:
        """As the site's own owner has it asked there."""
        return replace(view, law=view.law.with_pins(self.fleet.sites[id].pins))

    def _is_kept(self, view: View, name: str, file: File, id: str) -> bool:
        return view.is_kept(name, file, self.fleet.sites[id].keeps)

    def _all_that_may_is_there(self) -> None:
        truth, now = self.fleet.truth, self.now
        newest = self.fleet.newest_law
        late = {
            truth.names[id]: number
            for id, number in truth.arrived.items()
            if number != newest and id not in truth.removed
        }
        if late:
            raise Seen(f"law {newest} does not reach {late}")
        view = View(said=truth, law=truth.laws[newest], now=now)
        for name, asked in truth.services.items():
            self._is_where_it_may(view, name, asked)

    def _is_where_it_may(self, view: View, name: str, asked: Asked) -> None:
        sites = {id: self.fleet.sites[id] for id in self._there()}
        lawful = [id for id in sites if self._with_pins(view, id).may(name, id, *RUNNING)]
        fits = self._fits([view], name, asked)
        runs = [
            id for id, site in sites.items() if (host := site.host(name)) is not None and host.here and host.clusters
        ]
        where = f"{name} runs at {self._names(runs)}, may at {self._names(lawful)}, fits at {self._names(fits)}"
        told = f"{where}: {view.mark(asked)}, {asked}"
        could = self._fits([view], name, asked, any)
        if asked.room * asked.always:  # a second site is looked for when its room is given back, and that may take
            fits = fits[:1]
        few, many = min(len(fits), asked.sites), min(len(could), asked.sites)
        if not few <= len(runs) <= many and not (not could and set(runs) <= set(lawful)):
            raise Seen(told)
        if could and not set(runs) <= set(could):
            raise Seen(told)
        by_id = {site.id: site for site in sites.values()}
        for id in runs:
            self._can_call_what_it_may(self._with_pins(view, id), name, asked, sites[id], by_id)
        for id, site in sites.items():
            served = {passed[-1].id for passed in ways(site, name, by_id)}
            wanted = {
                to
                for to in runs
                if to == id
                or (
                    self._with_pins(view, id).may(name, id, "forward")
                    and self._with_pins(view, id).may(name, to, *RUNNING, "forward")
                    and self._with_pins(view, to).may(name, id, "forward")
                    and self._with_pins(view, to).may(name, to, "forward")
                    and self._reach(site, sites[to])
                )
            }
            if served != wanted:
                raise Seen(f"{told}; at {site.name} {self._names(served)} serve it, and not {self._names(wanted)}")

    def _can_call_what_it_may(
        self, view: View, name: str, asked: Asked, site: FleetSite, by_id: dict[str, FleetSite]
    ) -> None:
        """What its file lists is open to it, as far as all of an entry may be called; so is all where it lists nothing
        and all may be."""
        file, could = (
            self.fleet.truth.files[asked.revision],
            {one.target for one in calls(site, by_id) if one.name == name},
        )
        if file.listed is None and view.mark(asked).level >= 2:
            return
        entries = (
            [TARGETS]
            if file.listed is None
            else [[one for one in TARGETS if is_about(entry, one)] for entry in file.listed]
        )
        for targets in entries:
            if all(view.may_call(name, one, file.listed) for one in targets) and not could.issuperset(targets):
                raise Seen(f"{name} cannot call {targets} from {site.name}, though it may: {view.mark(asked)}, {file}")

    def _names(self, sites: Iterable[str]) -> list[str]:
        return sorted(self.fleet.truth.names[id] for id in sites)

    def _reach(self, one: FleetSite, other: FleetSite) -> bool:
        """Of two sites, one has an address to dial."""
        return bool(other.address or one.address)


async def live(
    folder: Path,
    seed: int,
    steps: int,
    monkeypatch: pytest.MonkeyPatch,
    *,
    theme: Theme = ANYTHING,
    captured: bool = False,
) -> Life:
    """A life from its beginning to its end; `captured`: under a control plane that nobody expects anything of."""
    life = Life(folder, seed, theme, monkeypatch)
    life.fleet.watch.captured = captured
    try:
        await life.begin()
        for _ in range(steps):
            await life.step()
        if not captured:
            await life.settle()
    finally:
        life.fleet.control.close()
    return life
