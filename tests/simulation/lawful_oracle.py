"""What may be where, once more: the law that Kasbah ships, written a second time in plain Python.

It judges the simulated fleet, and so shares no line with what it judges: it imports nothing of Kasbah (a test holds
that). Facts are as their owner said them, with their days; a label is a level (0 to 4), categories and regimes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network

EEA = frozenset({"FR", "DE", "IE", "NO"})
GDPR_ADEQUATE = frozenset({"CH", "GB", "JP"})
SPECIAL = frozenset({"health", "genetic", "biometric", "ethnic", "belief", "political", "union", "judicial"})
MOROCCAN_SPECIAL = frozenset({"health", "genetic", "ethnic", "belief", "political", "union"})
QUALIFIED = frozenset({"SecNumCloud", "DGSSI-L2"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A fact: from the day it is said for, to the last day that it holds (None: for good)."""

    value: object
    since: date
    until: date | None = None

    def holds(self, now: datetime) -> bool:
        return self.since <= now.date() and (self.until is None or now.date() <= self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Land:
    """A site, as its owner declares it; certificates are facts of their own. `hosts`: where a place is called that runs
    nothing of ours."""

    kind: str
    said: Mapping[str, Said] = field(default_factory=dict)
    certificates: tuple[Said, ...] = ()
    hosts: tuple[str, ...] = ()

    def known(self, name: str, now: datetime) -> object:
        """What holds now; None: nothing is known."""
        fact = self.said.get(name)
        return fact.value if fact is not None and fact.holds(now) else None

    def certified(self, now: datetime) -> frozenset[object]:
        return frozenset(one.value for one in self.certificates if one.holds(now))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A label."""

    level: int
    about: frozenset[str] = frozenset()
    under: frozenset[str] = frozenset()

    def and_also(self, other: Mark) -> Mark:
        return Mark(level=max(self.level, other.level), about=self.about | other.about, under=self.under | other.under)

    def says_as_much_as(self, other: Mark) -> bool:
        return self.level >= other.level and self.about >= other.about and self.under >= other.under


UNMARKED = Mark(level=3)
NOWHERE_KNOWN = Land(kind="public")
"""A place of which nothing is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statute:
    """A law: the packs that are in it, which rules the house has besides, the country it calls home (None: that of the
    first site), and for how long each level may be served without a word from the control plane."""

    number: int
    packs: frozenset[str]
    house: frozenset[str] = frozenset()
    home: str | None = None
    stale_after: Mapping[int, timedelta] = field(default_factory=dict)

    def with_pins(self, rules: frozenset[str]) -> Statute:
        """The law as a site asks it whose owner pinned these rules."""
        return replace(self, house=self.house | rules) if rules else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """An approval, or a declassification (`to`), and for whom. No sites named: all of them."""

    id: str
    name: str = ""
    service: str = ""
    sites: frozenset[str] = frozenset()
    to: Mark | None = None
    begins: datetime
    ends: datetime

    def holds(self, now: datetime) -> bool:
        return self.begins <= now < self.ends


def mark_now(asked: Mark, most: Mark | None, service: str, leaves: Iterable[Leave], now: datetime) -> Mark:
    """The label of a service's data: as low as it asks only while a declassification says so."""
    if most is None or asked.says_as_much_as(most):
        return asked
    lowered = any(
        one.to is not None and one.service == service and one.holds(now) and asked.says_as_much_as(one.to)
        for one in leaves
    )
    return asked if lowered else asked.and_also(most)


def approved(service: str, site: str, leaves: Iterable[Leave], now: datetime) -> frozenset[str]:
    return frozenset(
        one.name
        for one in leaves
        if one.to is None and one.service == service and one.holds(now) and (not one.sites or site in one.sites)
    )


def may(
    law: Statute, mark: Mark, land: Land, home: str | None, purpose: str, leave: frozenset[str], now: datetime
) -> bool:
    """Whether data with this mark may be there for this: `place`, `forward`, `build`, `log` or `egress`."""
    if mark.under - law.packs:
        return False  # nobody could say that it is kept
    country = land.known("country", now)
    return (
        _level_goes(mark.level, land, law.home or home, now)
        and all(_keeps(regime, mark, land, country, purpose, leave, now) for regime in mark.under)
        and not any(_house_forbids(rule, mark, land, law.home or home, purpose, leave, now) for rule in law.house)
    )


def _level_goes(level: int, land: Land, home: str | None, now: datetime) -> bool:
    """What may go to a place where more sensitive data may, may go there too."""
    country = land.known("country", now)
    own = land.kind == "on-prem"
    near = country is not None and (country == home or country in EEA or country in GDPR_ADEQUATE)
    ours = own or (near and _only_home_compels(land, now))
    match level:
        case 0 | 1:
            return True
        case 2:
            return own or land.kind == "edge" or near
        case 3:
            return ours
        case _:
            return own or (ours and bool(land.certified(now) & QUALIFIED))


def _only_home_compels(land: Land, now: datetime) -> bool:
    country, compelling = land.known("country", now), land.known("exposure", now)
    return bool(country and compelling) and compelling <= (EEA if country in EEA else {country})  # type: ignore[operator]


def _only_europe_compels(land: Land, now: datetime) -> bool:
    compelling = land.known("exposure", now)
    return bool(compelling) and compelling <= EEA  # type: ignore[operator]


def _sealed(land: Land, now: datetime) -> bool:
    return land.known("customer_keys", now) is True and land.known("confidential", now) is True


def _keeps(
    regime: str, mark: Mark, land: Land, country: object, purpose: str, leave: frozenset[str], now: datetime
) -> bool:
    own, held, level, about = land.kind == "on-prem", land.certified(now), mark.level, mark.about
    in_europe = country in EEA
    match regime:
        case "gdpr":
            stays = in_europe or country in GDPR_ADEQUATE or "gdpr-safeguards" in leave or "personal" not in about
            return stays and (not about & SPECIAL or own or _only_europe_compels(land, now) or _sealed(land, now))
        case "ma-0908":
            stays = country == "MA" or "cndp-f118" in leave or "personal" not in about
            return stays and (country == "MA" or "cndp-sensitive" in leave or not about & MOROCCAN_SPECIAL)
        case "ma-0520":
            here = country == "MA"
            qualified = own or bool(held & {"DGSSI-L1", "DGSSI-L2"})
            run_from = land.known("administered_from", now)
            strictly = own or ("DGSSI-L2" in held and run_from is not None and run_from <= {"MA"})  # type: ignore[operator]
            return (level < 3 or (here and qualified)) and (level < 4 or (here and strictly))
        case "fr-hds":
            return "health" not in about or ("HDS" in held and in_europe)
        case "fr-state":
            return level < 3 or "SecNumCloud" in held or (own and country == "FR")
        case "eu-sovereign":
            return level < 3 or (in_europe and (_only_europe_compels(land, now) or _sealed(land, now)))
        case "agents":
            sends = purpose == "egress" and level >= 1
            return (
                "secret-key" not in about
                and (level < 3 or "agents-level" in leave)
                and (not sends or "agents-egress" in leave)
            )
        case "ma-bank":
            return not about & {"financial", "personal"} or country == "MA" or "bam-notified" in leave
    return True


def _house_forbids(
    rule: str, mark: Mark, land: Land, home: str | None, purpose: str, leave: frozenset[str], now: datetime
) -> bool:
    """The house's own rules, and those that sites pin, by name; their text in Cedar is where fleets are drawn."""
    domestic = land.known("country", now) is not None and land.known("country", now) == home
    match rule:
        case "money-at-home":
            return "financial" in mark.about and not domestic
        case "no-rented-clouds":
            return mark.level >= 1 and land.kind == "public"
        case "board":
            return "house" in mark.under and "board" not in leave
        case "money-enters-at-home":
            return purpose == "forward" and "financial" in mark.about and not domestic
        case "code-is-built-at-home":
            return purpose == "build" and "source-code" in mark.about and not domestic
        case "no-money-here":
            return "financial" in mark.about
        case "nothing-sensitive":
            return mark.level >= 3
        case "nothing-public":
            return mark.level == 0
        case "money-passes-at-home":
            return purpose == "forward" and "financial" in mark.about and not domestic
        case "money-is-sent-home":
            return purpose == "egress" and "financial" in mark.about and not domestic
        case "nothing-at-the-edge":
            return mark.level >= 1 and land.kind == "edge"
        case "errs":
            return "financial" in mark.about and mark.level >= 1  # it refuses level 1, and cannot be asked above that
    return False


def is_about(entry: str, target: str) -> bool:
    """Whether an entry (HOST, HOST:PORT, a network with or without a port) is about a call to this HOST:PORT."""
    (place, _, port), (host, _, called) = entry.partition(":"), target.partition(":")
    if port not in ("", called):
        return False
    if "/" in place and host.replace(".", "").isdigit():
        return IPv4Address(host) in IPv4Network(place)
    return place == host


def goes_anywhere(law: Statute, mark: Mark, home: str | None, leave: frozenset[str], now: datetime) -> bool:
    """Whether data may be sent where nobody knows who is there. `leave` is what is approved for all sites."""
    return mark.level < 2 and may(law, mark, NOWHERE_KNOWN, home, "egress", leave, now)


def may_call(
    law: Statute,
    mark: Mark,
    target: str,
    lands: Mapping[str, Land],
    listed: tuple[str, ...] | None,
    home: str | None,
    leave: Callable[[str], frozenset[str]],
    now: datetime,
) -> bool:
    """Whether a service may call a HOST:PORT outside. `listed` is what its file names (None: the file says nothing of
    it), `lands` the places outside by id, `leave` what is approved for each ("": for all)."""
    if listed is None and not goes_anywhere(law, mark, home, leave(""), now):
        return False
    if listed is not None and not any(is_about(entry, target) for entry in listed):
        return False
    there = [id for id, land in lands.items() if any(is_about(entry, target) for entry in land.hosts)]
    if not there:
        return may(law, mark, NOWHERE_KNOWN, home, "egress", leave(""), now)
    return all(may(law, mark, lands[id], home, "egress", leave(id), now) for id in there)


def may_tell(free: bool, mark: Mark, other: Mark) -> bool:
    """Whether a service may call another, which holds what is sent under its own mark. `free`: it goes anywhere."""
    return free or other.says_as_much_as(mark)


def is_kept(level: int, listed: tuple[str, ...] | None, enforced: bool) -> bool:
    """Whether a site that cannot keep replicas from calling may run a service all the same."""
    return enforced or (level < 3 and listed is None)
