"""What may a service call? Data that is sent somewhere is there: a call is admitted as a forward is.

From level 2 nothing may be called that the service's file does not name, and below it anything only where the law
lets the data be at a place of which nothing is known, and at every place outside that was declared: a law that refuses
some places by name lets the unknown ones pass. What the file names is asked about, each entry on its own:

- A host or a network is at the places that the owner declared with these `hosts`: every one that it meets must be
  lawful, and one of them must hold all of it. What nobody declared is a place of which nothing is known.
- Another service is at the sites that serve it. It must also be labelled as high as the caller, or its data would hold
  the caller's under a lower label; data that may be at a place of which nothing is known needs no label there.

What is refused is closed, with the reason. A site that cannot keep to the answer is no place for sensitive data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from kasbah.domain.charter import Charter
from kasbah.domain.egress import SERVICE, Destination, covers, destination, meets, text_of
from kasbah.domain.ids import SiteId
from kasbah.domain.label import Label, Level, label_text
from kasbah.domain.label import covers as at_least
from kasbah.domain.law import Admission, Place
from kasbah.domain.revision import Revision
from kasbah.domain.site import CLOSABLE, ENFORCED, SiteKind

UNKNOWN = Place(kind=SiteKind.PUBLIC)
"""A place of which nothing is known."""

NO_SITE = SiteId("")
"""Stands for the site of a place that is none of ours: approvals that name sites do not reach it."""

Ask = Callable[[SiteId, Place], Admission]
"""Whether the service's data may be sent to a place: `Purpose.EGRESS`, as the law is for this service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """A place outside that was declared: what it is, and where it is called."""

    site: SiteId
    name: str
    place: Place
    hosts: tuple[Destination, ...]


def outside_of(charter: Charter, place: Place) -> Outside:
    """What was declared, as the law sees it now."""
    hosts = tuple(destination(host) for host in charter.hosts)
    return Outside(site=charter.site, name=charter.name, place=place, hosts=hosts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """Another service: its label, and the sites that serve it."""

    label: Label
    sites: tuple[tuple[SiteId, Place], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One entry of what a file names, whether it may be called, and the places that this was asked about, by name."""

    entry: str
    admission: Admission
    places: tuple[str, ...] = ()


class Reach(StrEnum):
    """How far a service's calls go: anywhere, to what is listed, or nowhere."""

    ANYWHERE = "anywhere"
    LISTED = "listed"
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exits:
    """What a revision may call. `anywhere`: its file names nothing, and need not. `insists`: a site that cannot keep
    to it does not run the service. `barred`: the declared hosts for which a service whose file names nothing may call
    nothing, though its data may be where nothing is known."""

    anywhere: bool
    ways: tuple[Way, ...]
    insists: bool
    barred: tuple[Way, ...] = ()

    @property
    def allowed(self) -> tuple[str, ...]:
        """The entries that may be called."""
        return tuple(way.entry for way in self.ways if way.admission.allowed)

    @property
    def reach(self) -> Reach:
        """How far it goes."""
        if self.anywhere:
            return Reach.ANYWHERE
        return Reach.LISTED if self.allowed else Reach.NOWHERE

    @property
    def refused(self) -> tuple[Way, ...]:
        """Those that may not."""
        return tuple(way for way in self.ways if not way.admission.allowed)


CALLS_NOTHING = Exits(anywhere=False, ways=(), insists=False)


def exits(
    label: Label,
    revision: Revision,
    ask: Ask,
    *,
    outside: Iterable[Outside],
    called: Callable[[str], Called | None],
) -> Exits:
    """What replicas of a revision may call, whose service's data has this label. `called` finds another service of the
    project by its name; what is not there is not called, so it may be."""
    places = tuple(outside)
    free = label.level < Level.RESTRICTED and ask(NO_SITE, UNKNOWN).allowed

    def way(entry: str) -> Way:
        asked = destination(entry)
        if asked.service is None:
            return _to_the_outside(entry, asked, ask, places)
        found = called(asked.service)
        answer = Admission(allowed=True) if found is None else _to_a_service(label, asked.service, found, ask, free)
        return Way(entry=entry, admission=answer)

    barred = tuple(_barred(ask, places)) if revision.egress is None and free else ()
    return Exits(
        anywhere=revision.egress is None and free and not barred,
        barred=barred,
        ways=tuple(way(entry) for entry in named(revision)),
        insists=revision.egress is not None or label.level >= Level.SENSITIVE,
    )


def named(revision: Revision) -> tuple[str, ...]:
    """What a file names: its `egress`, and the services that it `calls`."""
    services = (f"{SERVICE}{name}" for name in revision.calls)
    return tuple(dict.fromkeys((*(revision.egress or ()), *services)))


def kept(egress: str, reach: Reach) -> bool:
    """Whether a site, by what it can keep replicas from calling (`Isolation.egress`), can keep to this."""
    return reach is Reach.ANYWHERE or egress == ENFORCED or (egress == CLOSABLE and reach is Reach.NOWHERE)


def limited(revision: Revision, found: Exits, egress: str) -> Revision:
    """The revision as a site runs it: with what its replicas may call there. Nothing is limited where the site cannot,
    and need not."""
    unlimited = found.anywhere or not (found.insists or kept(egress, found.reach))
    allowed = None if unlimited else found.allowed
    calls = tuple(name for name in revision.calls if f"{SERVICE}{name}" in found.allowed)
    same = (revision.egress, revision.calls) == (allowed, calls)
    return revision if same else replace(revision, egress=allowed, calls=calls)


def _to_the_outside(entry: str, asked: Destination, ask: Ask, places: tuple[Outside, ...]) -> Way:
    there = [one for one in places if any(meets(host, asked) for host in one.hosts)]
    names = tuple(one.name for one in there)
    for one in there:
        if not (answer := ask(one.site, one.place)).allowed:
            return Way(entry=entry, admission=answer, places=names)
    if any(covers(host, asked) for one in there for host in one.hosts):
        return Way(entry=entry, admission=Admission(allowed=True), places=names)
    return Way(entry=entry, admission=ask(NO_SITE, UNKNOWN))


def _barred(ask: Ask, places: tuple[Outside, ...]) -> Iterator[Way]:
    """The hosts of the places that data may not be sent to."""
    for one in places:
        if not (answer := ask(one.site, one.place)).allowed:
            yield from (Way(entry=text_of(host), admission=answer, places=(one.name,)) for host in one.hosts)


def _to_a_service(label: Label, name: str, found: Called, ask: Ask, free: bool) -> Admission:
    if not free and not at_least(found.label, label):
        why = f"{name} is labelled {label_text(found.label)}, and would get data labelled {label_text(label)}"
        return Admission(allowed=False, problem=why)
    answers = (ask(site, place) for site, place in found.sites)
    return next((one for one in answers if not one.allowed), Admission(allowed=True))
