"""The public API's shapes for the law: lawbooks, what one would change, and what the owner granted.

What is signed travels as the exact text that was signed, and its signature beside it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from kasbah.api.manifest import DataSection
from kasbah.api.rules import RuleView
from kasbah.api.shape import Shape
from kasbah.domain.grant import GrantKind
from kasbah.domain.label import LevelName
from kasbah.domain.site import SiteKind

DocumentText = Annotated[str, Field(min_length=2, max_length=2**20)]
SignatureText = Annotated[str, Field(min_length=1, max_length=200)]


class PackInForce(Shape):
    """A pack of the law in force. `two_person`: nobody changes it alone."""

    name: str
    title: str
    version: int
    two_person: bool


class Arrived(Shape):
    """A site that has a lawbook, and since when."""

    site: str
    since: datetime


class LawbookView(Shape):
    """A lawbook and what became of it: `proposed`, `rolling`, `halted`, `in-force`, `replaced`, `turned-back` or
    `withdrawn`; `note` says why."""

    version: int
    state: str
    note: str
    based_on: int | None
    author: str
    approved_by: str
    at: datetime
    changed_at: datetime
    reason: str
    even_so: bool
    loosens: bool
    arrived: list[Arrived]


class LawbookDocument(Shape):
    """A lawbook as it was signed."""

    lawbook: LawbookView
    document: str
    signature: str


class LawStatus(Shape):
    """The law: the newest lawbook (in force, or on its way), the one in force where that is another, what is proposed,
    and what the owner's key is known by. `next_version` is the number that the next lawbook must have."""

    installation: str
    owner_key: str
    newest: LawbookView
    in_force: LawbookView
    proposed: LawbookView | None
    home: str | None
    packs: list[PackInForce]
    stale_after_seconds: dict[int, float]
    limit_services: int | None
    limit_percent: float | None
    next_version: int


class LawPlanRequest(Shape):
    """A lawbook to plan: its text, signed or not."""

    document: DocumentText


class EndingView(Shape):
    """A placement that would end: by which rules, where the service may then be, and each single change that would
    reopen the site."""

    service: str
    site: str
    reason: str
    rules: list[RuleView]
    others: list[str]
    reopens: list[str]


class PairView(Shape):
    """A service, and a site where it does not run."""

    service: str
    site: str


class CutView(Shape):
    """Something that a service calls and could call no more."""

    service: str
    to: str = Field(description="What its file names; empty: anything outside, where it names nothing.")
    reason: str
    rules: list[RuleView]


class ShiftView(Shape):
    """What would change for services of one label at sites of one kind in one country (empty: not declared). Each
    service counts once in `ends`, `closes` and `opens`."""

    data: DataSection
    data_declared: bool
    kind: SiteKind
    country: str
    sites: list[str]
    ends: int
    closes: int
    opens: int


class ForeseenView(Shape):
    """What a change would do. `classes`: how many services of which label, at which kind of site, lose a place where
    they run, could go to none or then to one; the rest tells it one by one. `stranded`: services that run and could
    then be nowhere; `closes` and `opens`: where services do not run, and no more may, or then may; `bars` and `admits`:
    where requests of those that run may pass no more, or then may. `allowed` is how many services the limit lets lose a
    placement or something that they call; beyond it, `too_far`, it must be applied with `even_so`."""

    services: int
    losing: int
    classes: list[ShiftView]
    ends: list[EndingView]
    stranded: list[str]
    closes: list[PairView]
    opens: list[PairView]
    cuts: list[CutView]
    bars: list[PairView]
    admits: list[PairView]
    allowed: int
    too_far: bool


class LawPlan(ForeseenView):
    """What a lawbook would do, against the version `based_on`."""

    based_on: int
    next_version: int
    loosens: bool
    two_person: list[str] = Field(description="Packs that are changed, and that nobody changes alone.")


class LawRequest(Shape):
    """A signed lawbook to apply. `based_on`: the version that it was planned against."""

    document: DocumentText
    signature: SignatureText
    based_on: Annotated[int, Field(ge=1, lt=2**31)]
    even_so: bool = False
    reason: Annotated[str, Field(max_length=1_000)] = ""


class GrantRequest(Shape):
    """What the owner grants, signed: an approval, or a declassification."""

    kind: GrantKind
    document: DocumentText
    signature: SignatureText


class GrantView(Shape):
    """What the owner granted. An approval is known by its `name`, and lifts the rules that ask for it, for `services`,
    or all of `projects`, at `sites` (none: anywhere); a declassification lets a service's label be as low as `to`;
    a deployer signs with `key` what is deployed in `projects` (none: in all), for data of `max_level` at most."""

    id: str
    kind: GrantKind
    name: str
    services: list[str]
    projects: list[str]
    sites: list[str]
    to: DataSection | None
    key: str = ""
    max_level: LevelName | None = None
    evidence: str
    issued_at: datetime
    expires_at: datetime
    author: str
    in_force: bool
    revoked_at: datetime | None


class StricterView(Shape):
    """A service that is kept stricter than its label needs. Costs are for an hour of one replica at the cheapest site
    of each, None where nobody declared a price."""

    service: str
    project: str
    why: list[str]
    runs_at: list[str]
    could_run_at: list[str]
    costs: float | None
    could_cost: float | None


class CoverageView(Shape):
    """Every service that is kept stricter than its label needs, of all that serve."""

    asked: int = Field(description="How many services serve.")
    stricter: list[StricterView]
