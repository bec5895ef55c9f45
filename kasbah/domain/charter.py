"""What the owner of an installation says and signs: the facts about each site, and the law that holds.

A fact is said by somebody, on a day, and may hold until another; one that has run out is not known any more. Nothing
here is a conclusion: that a site is sovereign follows from facts (`decide/conclusions.py`) and is written by nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, time, timedelta
from typing import Generic, TypeVar

from kasbah.domain.ids import InstallationId, SiteId
from kasbah.domain.law import Pack
from kasbah.domain.site import SiteKind

Value = TypeVar("Value")


def end_of(day: date) -> datetime:
    """The moment at which a day has passed, in UTC: what holds until a day holds all of it."""
    return datetime.combine(day + timedelta(days=1), time(), tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact(Generic[Value]):
    """A value, who says so, since when, and the last day it holds (None: until somebody says otherwise)."""

    value: Value
    source: str
    since: date
    until: date | None = None


def value_of(fact: Fact[Value] | None) -> Value | None:
    """What was said; None where nobody said anything."""
    return None if fact is None else fact.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """One who owns a part of the operator: its name, its home (ISO 3166-1 alpha-2) and its part in percent."""

    name: str
    country: str
    percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What an hour costs, per CPU and per GiB of memory, in the installation's one currency."""

    cpu_hour: float = 0.0
    gib_hour: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The most that replicas may have at a site together; None: as much as the machine has. Memory is in bytes."""

    cpus: float | None = None
    memory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is declared of a site. None: nobody said.

    `exposure`: the jurisdictions able to compel the operator. `customer_keys`: the keys to what is stored are held
    outside the operator. `confidential`: memory is encrypted, and proved to be. `durable_logs`: logs are kept for as
    long as the law asks. `energy_price` is per kWh, in the installation's currency; `carbon` in grams of CO2 per kWh.
    Each certificate is a fact of its own: its value is the certificate's name, its last day is the certificate's.
    """

    country: Fact[str] | None = None
    operator: Fact[str] | None = None
    operator_home: Fact[str] | None = None
    owners: Fact[tuple[Owner, ...]] | None = None
    exposure: Fact[frozenset[str]] | None = None
    administered_from: Fact[frozenset[str]] | None = None
    certificates: tuple[Fact[str], ...] = ()
    customer_keys: Fact[bool] | None = None
    confidential: Fact[bool] | None = None
    durable_logs: Fact[bool] | None = None
    capacity: Fact[Capacity] | None = None
    prices: Fact[Prices] | None = None
    energy_price: Fact[float] | None = None
    carbon: Fact[float] | None = None

    def said(self) -> Iterator[tuple[str, Fact[object]]]:
        """Every fact that was declared, by name; certificates one by one."""
        for one in fields(self):
            value = getattr(self, one.name)
            for fact in value if isinstance(value, tuple) else (value,):
                if fact is not None:
                    yield one.name, fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Charter:
    """What its owner says of one site. A later version replaces an earlier one and never the other way round.

    `gateway_key` is the fingerprint of the key with which its gateway proves itself to others, "" until it has joined.

    `hosts` are where a place is called that runs nothing of ours: a supplier's API, a database. Each is a name, a
    name with a port, or a network (`domain/egress.py`). A site that runs services has none.
    """

    installation: InstallationId
    site: SiteId
    name: str
    version: int
    kind: SiteKind
    facts: Facts = Facts()
    gateway_key: str = ""
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How many services a change of the law may take from a site before it must be told to: a number of them, a part
    of all in percent, or both (the smaller holds). None of both: not one."""

    services: int | None = None
    percent: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lawbook:
    """The law as its owner signed it: the packs in force with all their text, and for how long a site that is cut off
    may go on by it.

    `home` is the installation's own country. `stale_after` gives, by level, how long after the last word from the
    control plane data of that level is still served; a level it does not name has no limit. `two_person` names the
    packs that nobody changes alone, `limit` is how much the next change may end without being told to.
    """

    installation: InstallationId
    version: int
    home: str | None
    packs: tuple[Pack, ...]
    stale_after: dict[int, timedelta] = field(default_factory=dict)
    two_person: tuple[str, ...] = ()
    limit: Limit = Limit()


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A document as it was signed: the exact bytes, as text, and the owner's signature of them, in base64."""

    document: str
    signature: str
