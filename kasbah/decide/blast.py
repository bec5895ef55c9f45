"""What would another law do to what is there? Old and new are asked about every service at every site, about where its
requests may pass, and about what it calls.

Services of one label at sites of one kind get one answer, remembered by whoever is asked, so that thousands of services
are a few questions. What is told is what will be: a placement is said to end if and only if the new law refuses it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kasbah.decide.egress import Exits
from kasbah.domain.charter import Limit
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.label import Label
from kasbah.domain.law import Admission, Place
from kasbah.domain.site import SiteKind

Asked = Callable[["Resident", SiteId], Admission]
"""A law's answer: may this service be at this site?"""
Calls = Callable[["Resident"], Exits]
"""What a service may call under a law."""
Opens = Callable[["Resident", SiteId], tuple[str, ...]]
"""In words, each single change after which it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a law says: who may be where (`place`), whose requests may pass where (`forward`), and who calls what."""

    place: Asked
    forward: Asked
    calls: Calls


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A service, and the sites that run it now."""

    service: ServiceId
    name: str
    label: Label
    sites: tuple[SiteId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A placement that becomes unlawful: by what, which other sites may have the service, and what would reopen it."""

    service: str
    site: SiteId
    why: Admission
    others: tuple[SiteId, ...]
    reopens: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Something that a service calls and may call no more: the entry of its file ("": anything outside), and why."""

    service: str
    entry: str
    why: Admission


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """What changes for services of one label at sites of one kind in one country: how many of them lose a place where
    they run (`ends`), may go to none of these `sites` where they could (`closes`), or to one where they could not
    (`opens`). Each service counts once in each."""

    label: Label
    kind: SiteKind
    country: str | None
    sites: tuple[SiteId, ...]
    ends: int
    closes: int
    opens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Blast:
    """`ends`: placements that end. `stranded`: services that run and may then be nowhere. `closes`, `opens`: pairs of
    service and site that run nothing now, and may no more, or may then. `cuts`: what is called and may not be then.
    `bars`, `admits`: pairs of service and site where requests of one that runs pass now and may no more, or may then.
    `services` is how many there are; `shifts` tells the first three of them by class, the largest loss first."""

    services: int
    ends: tuple[Ending, ...] = ()
    stranded: tuple[str, ...] = ()
    closes: tuple[tuple[str, SiteId], ...] = ()
    opens: tuple[tuple[str, SiteId], ...] = ()
    cuts: tuple[Cut, ...] = ()
    bars: tuple[tuple[str, SiteId], ...] = ()
    admits: tuple[tuple[str, SiteId], ...] = ()
    shifts: tuple[Shift, ...] = ()

    @property
    def losing(self) -> int:
        """How many services lose a placement, or something that they call."""
        return len({one.service for one in self.ends} | {one.service for one in self.cuts})

    @property
    def loosens(self) -> bool:
        """Whether something opens and nothing ends or closes."""
        opens, shuts = self.opens or self.admits, self.ends or self.closes or self.cuts or self.bars
        return bool(opens) and not shuts


def blast(
    residents: Sequence[Resident], sites: Mapping[SiteId, Place], old: Answers, new: Answers, opens: Opens
) -> Blast:
    """What changes if `new` holds instead of `old`. `opens` is asked about what ends, under the new law."""
    ends: list[Ending] = []
    stranded: list[str] = []
    closes: list[tuple[str, SiteId]] = []
    opened: list[tuple[str, SiteId]] = []
    for one in residents:
        after = {site: new.place(one, site) for site in sites}
        allowed = tuple(site for site, answer in after.items() if answer.allowed)
        for site in sites:
            before = old.place(one, site).allowed
            if site in one.sites and before and not after[site].allowed:
                others = tuple(other for other in allowed if other not in one.sites)
                ends.append(
                    Ending(service=one.name, site=site, why=after[site], others=others, reopens=opens(one, site))
                )
            elif before and not after[site].allowed:
                closes.append((one.name, site))
            elif after[site].allowed and not before:
                opened.append((one.name, site))
        if one.sites and not allowed and any(old.place(one, site).allowed for site in sites):
            stranded.append(one.name)
    running = [one for one in residents if one.sites]
    lost = [(one.service, one.site) for one in ends]
    return Blast(
        services=len(residents),
        ends=tuple(ends),
        stranded=tuple(stranded),
        closes=tuple(closes),
        opens=tuple(opened),
        cuts=tuple(cut for one in running for cut in _cuts(one.name, old.calls(one), new.calls(one))),
        bars=tuple(_differing(running, sites, old.forward, new.forward)),
        admits=tuple(_differing(running, sites, new.forward, old.forward)),
        shifts=_shifts({one.name: one.label for one in residents}, sites, lost, closes, opened),
    )


def _shifts(
    labels: Mapping[str, Label], places: Mapping[SiteId, Place], *changes: Sequence[tuple[str, SiteId]]
) -> tuple[Shift, ...]:
    """The same changes (what ends, closes, opens), by label and kind of site."""
    where: dict[tuple[Label, SiteKind, str | None], set[SiteId]] = defaultdict(set)
    whose: dict[tuple[Label, SiteKind, str | None], tuple[set[str], ...]] = {}
    for number, pairs in enumerate(changes):
        for service, site in pairs:
            group = (labels[service], places[site].kind, places[site].country)
            where[group].add(site)
            whose.setdefault(group, tuple(set() for _ in changes))[number].add(service)
    found = [
        Shift(
            label=label, kind=kind, country=country, sites=tuple(sorted(where[label, kind, country])),
            ends=len(ends), closes=len(closes), opens=len(opens),
        )
        for (label, kind, country), (ends, closes, opens) in whose.items()
    ]  # fmt: skip
    return tuple(sorted(found, key=_weight))


def _weight(one: Shift) -> tuple[object, ...]:
    """The largest loss first, then the highest label; the rest only makes the order certain."""
    label = one.label
    return (
        *(-one.ends, -one.closes, -one.opens, -label.level, label.categories, label.regimes, label.declared),
        *(one.kind, one.country or ""),
    )


def _cuts(service: str, before: Exits, after: Exits) -> Iterator[Cut]:
    """What may be called before and not after."""
    refused = {way.entry: way.admission for way in after.refused}
    yield from (Cut(service=service, entry=entry, why=refused[entry]) for entry in before.allowed if entry in refused)
    if before.anywhere and not after.anywhere:
        yield Cut(service=service, entry="", why=Admission(allowed=False, problem="its data may not be anywhere"))


def _differing(
    residents: Sequence[Resident], sites: Mapping[SiteId, Place], some: Asked, others: Asked
) -> Iterator[tuple[str, SiteId]]:
    """Where some allow what others do not."""
    for one in residents:
        yield from ((one.name, site) for site in sites if some(one, site).allowed and not others(one, site).allowed)


def allowance(limit: Limit, services: int) -> int:
    """How many services may lose a placement without a word: the smaller of what is said, or none."""
    said = [] if limit.services is None else [limit.services]
    said += [] if limit.percent is None else [int(services * limit.percent / 100)]
    return min(said, default=0)
