"""The tests of policies: tables that say what data may be at which site, written by whoever writes rules.

    - name: personal data in France with the CNDP's authorisation
      data: {level: restricted, categories: [personal], regimes: [ma-0908]}
      site: {kind: sovereign, country: FR}
      approvals: [cndp-f118]
      expect: allowed
    - name: vital data needs a qualification besides
      data: {level: vital}
      site: {kind: sovereign, country: FR, exposure: [FR]}
      expect: refused
      unmet: [base.vital]

A refusal that is expected names its rules, all of them: one that comes about for another reason proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, RootModel, model_validator

from kasbah.api.manifest import DataSection
from kasbah.decide.admission import admit
from kasbah.decide.policies import Law
from kasbah.domain.label import LevelName
from kasbah.domain.law import Admission, Data, DataKind, Place, Purpose, Risk
from kasbah.domain.site import SiteKind
from kasbah.packs import Strict, parse

Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]


class DataColumn(DataSection):
    """The data, as a service's file has it under `data`, and what files cannot say yet."""

    level: LevelName = LevelName.SENSITIVE
    kind: DataKind = DataKind.SERVICE
    risk: Risk | None = None

    @property
    def asked(self) -> Data:
        """As it is asked about."""
        return Data(label=self.to_domain(), kind=self.kind, risk=self.risk)


class SiteColumn(Strict):
    """The facts about a site. What is left out is not known."""

    kind: SiteKind
    active: bool = True
    country: Country | None = None
    domestic: bool | None = None
    operator_home: Country | None = None
    exposure: frozenset[Country] | None = None
    administered_from: frozenset[Country] | None = None
    certificates: frozenset[str] = frozenset()
    customer_keys: bool | None = None
    confidential: bool | None = None
    durable_logs: bool | None = None

    def to_domain(self) -> Place:
        """As it is asked about."""
        return Place(**{name: getattr(self, name) for name in SiteColumn.model_fields})


class Case(Strict):
    """One line of a table."""

    name: str = Field(min_length=1, max_length=300)
    data: DataColumn
    site: SiteColumn
    purpose: Purpose = Purpose.PLACE
    approvals: frozenset[str] = frozenset()
    expect: Literal["allowed", "refused"]
    by: frozenset[str] = frozenset()
    unmet: frozenset[str] = frozenset()

    @model_validator(mode="after")
    def _says_why(self) -> Case:
        if self.expect == "allowed" and (self.by or self.unmet):
            raise ValueError("what is allowed is refused by nothing: leave `by` and `unmet` out")
        if self.expect == "refused" and not (self.by or self.unmet):
            raise ValueError("say which rules refuse it: `by: [ID ...]`, or `unmet: [ID ...]` where no permit holds")
        return self


class Table(RootModel[tuple[Case, ...]]):
    """`tests.yaml`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a case; `problem` is empty where it holds."""

    case: Case
    problem: str


def cases(path: Traversable | Path) -> tuple[Case, ...]:
    """The cases of a table. Raises Invalid; a table without any is no table."""
    return parse(path, Table).root


def run(law: Law, table: tuple[Case, ...]) -> tuple[Outcome, ...]:
    """What becomes of every case under a law."""
    return tuple(Outcome(case=one, problem=_problem(one, _asked(law, one))) for one in table)


def _asked(law: Law, case: Case) -> Admission:
    return admit(law, case.data.asked, case.site.to_domain(), case.purpose, approvals=case.approvals)


def _problem(case: Case, found: Admission) -> str:
    """How an answer differs from what was expected."""
    if found.problem:
        return found.problem
    if found.allowed:
        return "" if case.expect == "allowed" else "it is allowed"
    by, unmet = frozenset(one.id for one in found.rules), frozenset(one.id for one in found.unmet)
    if case.expect == "refused" and (by, unmet) == (case.by, case.unmet):
        return ""
    said = f"by {', '.join(sorted(by))}" if by else f"because no permit holds: {', '.join(sorted(unmet))}"
    return f"it is refused {said}"
