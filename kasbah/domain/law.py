"""What policy speaks of: data, the places it may be at, for what purpose, and the rules that say so.

Facts about a place are declared by its owner; one that is not known is None, and no rule may take it for good.
Conclusions (in the EEA, exposed to nobody abroad) are drawn from facts and dated lists and declared by nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from kasbah.domain.label import Label
from kasbah.domain.site import SiteKind


class Purpose(StrEnum):
    """What data would be at a place for."""

    PLACE = "place"
    FORWARD = "forward"
    BUILD = "build"
    LOG = "log"
    BACKUP = "backup"
    EGRESS = "egress"


class DataKind(StrEnum):
    """What carries the data."""

    SERVICE = "service"
    JOB = "job"
    DATASET = "dataset"
    REQUEST = "request"


class Risk(StrEnum):
    """What the AI Act calls the system that works on the data."""

    PROHIBITED = "prohibited"
    HIGH = "high"
    LIMITED = "limited"
    MINIMAL = "minimal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What is to be somewhere: all of it with one label."""

    label: Label
    kind: DataKind = DataKind.SERVICE
    risk: Risk | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A site as policy sees it: the facts in force. Countries and jurisdictions are ISO 3166-1 alpha-2.

    `exposure`: the jurisdictions able to compel the operator. `domestic`: it stands in the installation's own country.
    `customer_keys`: the keys to what is stored are held outside the operator. `confidential`: memory is encrypted, and
    proved to be. `durable_logs`: logs are kept for as long as the law asks.
    """

    kind: SiteKind
    active: bool = True
    country: str | None = None
    domestic: bool | None = None
    operator_home: str | None = None
    exposure: frozenset[str] | None = None
    administered_from: frozenset[str] | None = None
    certificates: frozenset[str] = frozenset()
    customer_keys: bool | None = None
    confidential: bool | None = None
    durable_logs: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Geography:
    """Which countries belong where. `adequate`: by regime, those that its list names."""

    eea: frozenset[str] = frozenset()
    adequate: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is said of one policy: for people who ask why, and for auditors.

    `verified` is when it was last held against its source, or that it never was. `needs` are the facts without which
    it refuses; `approval` is the one that lifts it. A permit says in `unmet` what it asks for, and in `level` the
    highest that it can allow.
    """

    id: str
    pack: str
    title: str
    advice: str
    citation: str
    verified: str
    needs: tuple[str, ...] = ()
    approval: str = ""
    unmet: str = ""
    level: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """A named, versioned set of policies in Cedar's language. A draft binds nobody until somebody turns it on."""

    name: str
    title: str
    version: int
    policies: str
    draft: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Whether data may be at a place for a purpose. Where it may not: by which rules, and what was unmet where no rule
    allows it. `missing` are facts that these ask for and nobody declared. `problem` says what was wrong with the
    question itself; it refuses like any rule."""

    allowed: bool
    rules: tuple[Rule, ...] = ()
    unmet: tuple[Rule, ...] = ()
    missing: tuple[str, ...] = ()
    problem: str = ""


NOBODY_SAID = Admission(allowed=False, problem="nobody asked whether it may be there")
"""No answer is a no."""
