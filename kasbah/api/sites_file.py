"""`sites.yaml`: what the owner of an installation declares of each site. See docs/how-to/sites.md.

Who says a fact, since when and until when stands once for the whole site (`source`, `since`, `until`), and under
`evidence` for a fact that has its own. Nothing is a conclusion: there is no key for "sovereign enough".
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from kasbah.api.fields import Egress, Size
from kasbah.domain import charter
from kasbah.domain.charter import Fact, Facts
from kasbah.domain.country import country_error
from kasbah.domain.egress import destination
from kasbah.domain.service import name_error
from kasbah.domain.site import SiteKind


def _country(text: str) -> str:
    problem = country_error(text)
    if problem is not None:
        raise ValueError(problem)
    return text


def _as_written(value: object) -> object:
    """YAML 1.1 readers make `false` of Norway; ours does not, but a person may have quoted around it."""
    return value.strip() if isinstance(value, str) else value


def _name(text: str) -> str:
    problem = name_error(text)
    if problem is not None:
        raise ValueError(problem)
    return text


def _host(entry: str) -> str:
    if destination(entry).service is not None:
        raise ValueError(f"{entry!r} is a service of ours; write where a place outside is called")
    return entry


NOTHING_SAID = Facts()
Country = Annotated[str, BeforeValidator(_as_written), AfterValidator(_country)]
SiteName = Annotated[str, AfterValidator(_name)]
Host = Annotated[Egress, AfterValidator(_host)]
Text = Annotated[str, Field(min_length=1, max_length=500)]
Money = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class Section(BaseModel):
    """A part of the file: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EvidenceSection(Section):
    """Who says a fact, since when, and the last day it holds. What is left out is the site's own."""

    source: Text | None = None
    since: date | None = None
    until: date | None = None


class OwnerSection(Section):
    """One who owns a part of the operator."""

    name: Text
    country: Country
    percent: float = Field(gt=0, le=100)


class CertificateSection(EvidenceSection):
    """A certificate, and the last day it is valid."""

    name: str = Field(min_length=1, max_length=60)
    until: date


class CapacitySection(Section):
    """The most that replicas may have there together."""

    cpus: float | None = Field(default=None, gt=0, le=1e6)
    memory: Size | None = None


class PricesSection(Section):
    """What an hour costs, per CPU and per GiB of memory; the same currency for all sites."""

    cpu_hour: Money = 0.0
    gib_hour: Money = 0.0


class SiteSection(Section):
    """A site. What is left out is not known, and a rule that needs it refuses."""

    kind: SiteKind
    """on-prem, private, sovereign, public or edge."""
    source: Text = "declared by the installation's owner"
    """Who says what stands here."""
    since: date | None = None
    """The first day it holds; today where it is left out."""
    until: date | None = None
    """The last day it holds; nothing more is known of the site after it."""
    country: Country | None = None
    """Where it stands."""
    operator: Text | None = None
    """Who runs it."""
    operator_home: Country | None = None
    """The home of the operator's ultimate owner."""
    owners: tuple[OwnerSection, ...] | None = Field(default=None, min_length=1, max_length=100)
    """Who owns the operator, in percent."""
    exposure: frozenset[Country] | None = Field(default=None, min_length=1)
    """The jurisdictions able to compel the operator, its own included."""
    administered_from: frozenset[Country] | None = Field(default=None, min_length=1)
    """The countries that it is administered from."""
    certificates: tuple[CertificateSection, ...] = Field(default=(), max_length=50)
    """The certificates it holds, each with its last day."""
    customer_keys: bool | None = None
    """Whether the keys to what is stored are held outside the operator."""
    confidential: bool | None = None
    """Whether memory is encrypted, and proved to be."""
    durable_logs: bool | None = None
    """Whether logs are kept for as long as the law asks."""
    hosts: tuple[Host, ...] = Field(default=(), max_length=200)
    """Where it is called, for a place that runs nothing of ours, such as a supplier's API or a database: HOST,
    HOST:PORT, or a network like 10.0.0.0/8."""
    capacity: CapacitySection | None = None
    prices: PricesSection | None = None
    energy_price: Money | None = None
    """What a kWh costs."""
    carbon: Annotated[float, Field(ge=0, le=5_000, allow_inf_nan=False)] | None = None
    """Grams of CO2 per kWh."""
    evidence: dict[str, EvidenceSection] = {}
    """By fact, who says it where that is not `source`."""

    @model_validator(mode="after")
    def _evidence_of_something(self) -> SiteSection:
        for name in self.evidence:
            if name not in DECLARED:
                raise ValueError(f"evidence: {name!r} is no fact; there are {', '.join(DECLARED)}")
            if getattr(self, name) is None:
                raise ValueError(f"evidence: {name} is not declared, so nobody can say it")
        return self

    def facts(self, today: date, before: Facts = NOTHING_SAID) -> Facts:
        """What is declared, as the domain has it. What begins on no certain day begins today, or when the same was said
        `before`."""
        said = {
            name: self._fact(value, self.evidence.get(name, EvidenceSection()), today, getattr(before, name))
            for name, value in self._values().items()
            if value is not None
        }
        held = {one.value: one for one in before.certificates}
        certificates = (self._fact(one.name, one, today, held.get(one.name)) for one in self.certificates)
        return Facts(**said, certificates=tuple(certificates))

    def _values(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in DECLARED}
        if self.owners is not None:
            values["owners"] = tuple(charter.Owner(**dict(one)) for one in self.owners)
        if self.capacity is not None:
            values["capacity"] = charter.Capacity(**dict(self.capacity))
        if self.prices is not None:
            values["prices"] = charter.Prices(**dict(self.prices))
        return values

    def _fact(self, value: Any, evidence: EvidenceSection, today: date, before: Fact[Any] | None) -> Fact[Any]:
        since = evidence.since or self.since
        said = Fact(
            value=value,
            source=evidence.source or self.source,
            since=since or today,
            until=evidence.until or self.until,
        )
        return before if before is not None and since is None and replace(said, since=before.since) == before else said


DECLARED = tuple(
    name
    for name in SiteSection.model_fields
    if name not in {"kind", "source", "since", "until", "certificates", "evidence", "hosts"}
)
"""The keys that are facts."""


class SitesFile(Section):
    """`sites.yaml`."""

    sites: dict[SiteName, SiteSection] = Field(min_length=1, max_length=1_000)
    """The sites, by name."""
