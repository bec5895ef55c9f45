"""What the command line itself prints as JSON, beyond the shapes of the API: for the documentation and the tests.

`OUTPUTS` says which command prints what.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from kasbah.api.audit import AuditEntryDetail, AuditEntryView, AuditLogView, LogBreakView
from kasbah.api.credentials import KeyMade, KeyView, SecretView, TokenMade, TokenView
from kasbah.api.joining import JoinTokenMade
from kasbah.api.policy import CoverageView, ForeseenView, GrantView, LawbookView, LawPlan, LawStatus
from kasbah.api.projects import ProjectView, SpaceView
from kasbah.api.public import (
    ErrorBody,
    ExplainAnswer,
    PlanAnswer,
    RolloutView,
    ServiceDetail,
    ServiceView,
)
from kasbah.api.rules import RuleView
from kasbah.api.shape import Shape
from kasbah.api.sites import SiteView
from kasbah.api.volumes import VolumeView
from kasbah.api.where import WhereAnswer


class Up(Shape):
    """Where Kasbah answers, as URLs, and the token that the API takes."""

    api: str
    gateway: str
    data_dir: str
    token: str


class PackView(Shape):
    """A pack of policies that comes with Kasbah, and the version of it that is in force (null: none is). A draft binds
    nobody until somebody turns it on."""

    name: str
    title: str
    version: int
    draft: bool
    in_force: int | None
    rules: list[RuleView]


class TestedTable(Shape):
    """What became of a table of cases: how many there are, and for each that does not hold, by its name, why."""

    __test__ = False
    table: str
    cases: int
    failed: dict[str, str]


class AppliedSite(Shape):
    """What became of what a file says of a site."""

    site: str
    outcome: Literal["created", "changed", "unchanged"]
    version: int


class Down(Shape):
    """What was stopped; empty where nothing was running."""

    data_dir: str
    stopped: list[str]


class DeployerKey(Shape):
    """Your own deployer's key: its public half, the file that holds the other, and whether it was made just now."""

    key: str
    path: str
    made: bool


class BackedUp(Shape):
    """The backup that was written. `keys` are the files it needs to be restored, and does not hold."""

    file: str
    installation: str
    created_at: str
    keys: list[str]


class Restored(Shape):
    """The backup that was restored, and the epoch that sites follow from now on."""

    installation: str
    created_at: str
    epoch: int


class AuditFinding(Shape):
    """What is not as it was signed: where in an export, and what."""

    where: str
    problem: str


class AuditVerified(Shape):
    """What became of verifying a log; it is sound where there is no finding. `cosigned` entries are vouched for.
    `breaks` are those of a site's log that somebody accepted."""

    log: str
    origin: str
    entries: int
    cosigned: int
    cosigned_by: list[str]
    findings: list[AuditFinding]
    breaks: list[LogBreakView]


class LoggedRequest(Shape):
    """A request of an entry in a site's audit log: its line of the gateway's log, whose fields a tab parts."""

    index: int
    line: str


class ProvedRequest(Shape):
    """A request in a site's audit log: its line, the salt of its commitment, and the hashes up to the entry's root."""

    entry: int
    root: str
    line: str
    salt: str
    index: int
    size: int
    proof: list[str]


class AuditExported(Shape):
    """The export that was written, and the key that verifies it."""

    file: str
    entries: int
    key: str


class Deployed(Shape):
    """What a deploy did. `rollout` is null where this very revision already served."""

    service: ServiceView
    revision: str
    created: bool
    rollout: RolloutView | None


class Part(Shape):
    """A revision's part of the traffic, in percent, and where it alone answers."""

    id: str
    percent: int
    url: str
    host: str


class Finding(Shape):
    """One finding of `doctor`, and the next step."""

    name: str
    state: Annotated[str, Field(pattern="^(ok|warn|fail)$")]
    found: str
    next: str = ""


class Kept(SpaceView):
    """What is kept at one place (`control`, or a site's name) of one kind, and what `gc` freed, or would."""

    where: str


class Volume(VolumeView):
    """A volume at a site."""

    site: str


class Versions(Shape):
    """The client's version, and the installation's, null where none is reachable."""

    client: str
    installation: str | None


class Line(Shape):
    """A line that a replica or a build wrote; `logs` prints one object a line."""

    at: str
    replica: str
    stream: str
    text: str


OUTPUTS: dict[str, Any] = {
    "up": Up,
    "down": Down,
    "backup": BackedUp,
    "restore": Restored,
    "doctor": list[Finding],
    "deploy": list[Deployed],
    "deploy --dry-run": list[PlanAnswer],
    "plan": list[PlanAnswer],
    "rollback": RolloutView,
    "traffic": list[Part],
    "rollouts": list[RolloutView],
    "ps": list[ServiceView],
    "describe": ServiceDetail,
    "logs": Line,
    "scale": ServiceView,
    "sleep": ServiceView,
    "wake": ServiceView,
    "keys create": KeyMade,
    "keys list": list[KeyView],
    "env set": RolloutView | None,
    "secrets set": SecretView,
    "secrets label": SecretView,
    "secrets list": list[SecretView],
    "tokens create": TokenMade,
    "tokens list": list[TokenView],
    "projects list": list[ProjectView],
    "projects create": ProjectView,
    "projects quota": ProjectView,
    "sites list": list[SiteView],
    "sites describe": SiteView,
    "sites plan": ForeseenView,
    "sites apply": list[AppliedSite],
    "sites drain": SiteView,
    "sites token": JoinTokenMade,
    "sites approve": SiteView,
    "volumes list": list[Volume],
    "explain": ExplainAnswer,
    "where": WhereAnswer,
    "policy list": list[PackView],
    "policy show": PackView,
    "policy test": list[TestedTable],
    "policy plan": LawPlan,
    "policy apply": LawbookView,
    "policy status": LawStatus,
    "policy history": list[LawbookView],
    "policy rollback": LawbookView,
    "policy approve": LawbookView,
    "policy resume": LawbookView,
    "policy coverage": CoverageView,
    "policy approvals": list[GrantView],
    "policy approval add": GrantView,
    "deployers list": list[GrantView],
    "deployers key": DeployerKey,
    "deployers add": GrantView,
    "declassify": GrantView,
    "audit log": list[AuditEntryView],
    "audit show": AuditEntryDetail,
    "audit verify": list[AuditVerified],
    "audit export": AuditExported,
    "audit accept": AuditLogView,
    "audit prove": ProvedRequest | list[LoggedRequest],
    "gc": list[Kept],
    "version": Versions,
    "any error, on standard error": ErrorBody,
}
"""What each command prints with `-o json`."""


def schema() -> dict[str, Any]:
    """One JSON Schema for all of it: a definition for each shape."""
    found, rest = TypeAdapter.json_schemas(
        [(name, "serialization", TypeAdapter(shape)) for name, shape in OUTPUTS.items()]
    )
    outputs = {name: shape for (name, _), shape in found.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What kasbah prints with -o json, by command",
        "properties": outputs,
        **rest,
    }
