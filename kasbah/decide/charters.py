"""Can what is declared of a site be true? What contradicts itself is refused before anybody relies on it.

Only what no legal opinion could make true is refused here. Whether a site is lawful for something is policy's business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date

from kasbah.domain.charter import Charter, Facts, value_of
from kasbah.domain.egress import destination
from kasbah.domain.site import FIRST_SITE

MAJORITY = 50.0
WHOLE = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that cannot be: the fact, and why."""

    fact: str
    why: str


def faults(charter: Charter, today: date, certificates: Iterable[str]) -> tuple[Fault, ...]:
    """Everything about a charter that cannot be, or holds no more. `certificates` are those that policies speak of."""
    facts = charter.facts
    return (
        *_days(facts, today),
        *_owners(facts),
        *_reach(facts),
        *_names(facts, tuple(certificates)),
        *_hosts(charter),
    )


def _days(facts: Facts, today: date) -> Iterator[Fault]:
    for name, fact in facts.said():
        what = f"certificate {fact.value}" if name == "certificates" else name
        if fact.until is None:
            continue
        if fact.until < fact.since and fact.since != today:  # today is what stands where nobody named a day
            yield Fault(fact=name, why=f"{what} ends on {fact.until}, before it begins on {fact.since}")
        elif fact.until < today:
            yield Fault(fact=name, why=f"{what} ran out on {fact.until}: renew it, or leave it out")


def _owners(facts: Facts) -> Iterator[Fault]:
    if facts.owners is None:
        return
    owners = facts.owners.value
    total = sum(one.percent for one in owners)
    if total > WHOLE + 1e-6:
        yield Fault(fact="owners", why=f"the parts add up to {total:g} percent")
    home = value_of(facts.operator_home)
    for one in owners:
        if one.percent > MAJORITY and home is not None and home != one.country:
            why = f"{one.name} ({one.country}) owns {one.percent:g} percent, but operator_home says {home}"
            yield Fault(fact="operator_home", why=why)


def _reach(facts: Facts) -> Iterator[Fault]:
    """Who stands in a country, or has its home there, can be compelled by it."""
    exposure = value_of(facts.exposure)
    if exposure is None:
        return
    for name, word in (("country", "it stands in"), ("operator_home", "its operator's home is")):
        found = value_of(getattr(facts, name))
        if found is not None and found not in exposure:
            yield Fault(fact="exposure", why=f"{word} {found}, which can compel it, and exposure leaves that out")


def _names(facts: Facts, known: tuple[str, ...]) -> Iterator[Fault]:
    counted = Counter(one.value for one in facts.certificates)
    for name, times in counted.items():
        if times > 1:
            yield Fault(fact="certificates", why=f"{name} is there {times} times")
        for one in known:
            if name != one and _plain(name) == _plain(one):
                yield Fault(fact="certificates", why=f"policies write {one}, not {name}")


def _hosts(charter: Charter) -> Iterator[Fault]:
    for entry in charter.hosts:
        try:
            known = destination(entry)
        except ValueError as error:
            yield Fault(fact="hosts", why=str(error))
            continue
        if known.service is not None:
            yield Fault(fact="hosts", why=f"{entry!r} is a service of ours, and no place outside")
    if charter.hosts and charter.gateway_key:
        yield Fault(fact="hosts", why="an agent has joined as it, so it is no place that is only called")
    if charter.hosts and charter.name == FIRST_SITE:
        yield Fault(fact="hosts", why=f"{FIRST_SITE} is the control plane's own machine")


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
