"""The public API's shapes, `/api/v1`: what users, the CLI and the console send and receive.

Times are ISO 8601 in UTC; durations in answers are milliseconds and say so in their name. Lists are pages:
`{"items": [...], "next": CURSOR or null}`. Errors have one shape, `ErrorBody`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Generic, TypeVar

from pydantic import Field

from kasbah.api.fields import EnvName, EnvValue
from kasbah.api.manifest import (
    DataSection,
    DeadlinesSection,
    ResolvedService,
    ResourcesSection,
    RolloutSection,
    ScalingSection,
    SleepSection,
    VolumeSection,
)
from kasbah.api.rules import RuleView
from kasbah.api.shape import Shape
from kasbah.domain.attestation import Attested
from kasbah.domain.charter import Signed
from kasbah.domain.observed import BuildState, TrialState
from kasbah.domain.placement import Verdict
from kasbah.domain.replica import ReplicaState
from kasbah.domain.rollout import Cause, RolloutState, Strategy
from kasbah.domain.service import Access, ServiceState

Item = TypeVar("Item")
DigestText = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class ErrorDetail(Shape):
    """What is wrong, where, and the next step. `code` is stable; `param` names the field, where one is at fault."""

    message: str
    type: str
    code: str
    param: str | None = None
    hint: str = ""
    request_id: str = ""


class ErrorBody(Shape):
    """An error, in the shape the OpenAI clients read."""

    error: ErrorDetail


class Page(Shape, Generic[Item]):
    """One page of a list; `next` is the cursor of the following one."""

    items: list[Item]
    next: str | None = None


class Door(Shape):
    """Where a site's own door is, and the ticket that opens it: connect to `address`, send `host` and
    `Authorization: Bearer TICKET`, ask for `path`. `standby`: the site is to have it, and nobody waits for it there.
    `installation` and `project` are ids, for who signs that he does what the ticket is for."""

    site: str
    address: str
    host: str
    path: str
    ticket: str
    expires_at: datetime
    standby: bool = False
    installation: str = ""
    project: str = ""


class UploadDoors(Shape):
    """The doors of every site that is to have a source and has not built it yet, the standbys last."""

    doors: list[Door]


class ExecRequest(Shape):
    """The program that is about to be run, for the record; its arguments may hold secrets and stay with the site."""

    program: str = Field(min_length=1, max_length=4096)


class PlacementView(Shape):
    """A service at one site."""

    site: str
    state: ServiceState
    replicas: int
    ready: int
    reason: str = ""


class ServiceSummary(Shape):
    """What every view of a service says. `version` grows with every change to what was asked or seen; send it
    back as `expected_version` to write only if nothing changed."""

    id: str
    name: str
    project: str
    state: ServiceState
    reason: str = ""
    revision: str | None
    ready: int
    url: str
    address: str
    host: str
    domains: list[str]
    access: Access
    data: DataSection
    data_declared: bool
    placements: list[PlacementView]
    site: str | None = Field(description="The site, while there is only one.")
    version: int
    created_at: datetime
    deployed_at: datetime | None = None


class ServiceView(ServiceSummary):
    """A service, as `ps` lists it; `replicas` counts those that exist, frozen ones included."""

    replicas: int


class RevisionView(Shape):
    """A revision and how far it has come. `percent` is null where it has no part in the traffic; with 0 it is at hand.
    `url` is its own, while it has a part."""

    id: str
    created_at: datetime
    runtime: str
    command: list[str]
    source: str
    percent: int | None
    url: str = ""
    host: str = ""
    build: BuildState
    trial: TrialState
    reason: str = ""
    tail: list[str] = Field(default=[])


class ReplicaView(Shape):
    """A replica. `pid` where the driver has one."""

    id: str
    site: str
    revision: str
    state: ReplicaState
    address: str
    since: datetime
    in_flight: int
    pid: int | None = None
    exit: str | None = None
    tail: list[str] = Field(default=[])


class WakeView(Shape):
    """One waking, its phases in milliseconds (see `phases`); `total_ms` from the first caller's arrival to its
    first byte, as far as it is known."""

    id: str
    site: str
    at: datetime
    rung: str
    phases: dict[str, float | None]
    total_ms: float | None
    held: int
    error: str = ""


class RolloutView(Shape):
    """A rollout. `step` is what happens now, in words; `percent` is the traffic that it has moved so far."""

    id: str
    service: str
    revision: str
    previous: str | None
    cause: Cause
    strategy: Strategy
    percent: int
    state: RolloutState
    step: str = ""
    reason: str = ""
    tail: list[str] = Field(default=[])
    started_at: datetime
    changed_at: datetime
    version: int


class ServiceDetail(ServiceSummary):
    """A service with everything known about it."""

    scaling: ScalingSection
    sleep: SleepSection
    rollout_rules: RolloutSection
    resources: ResourcesSection
    volumes: list[VolumeSection]
    deadlines: DeadlinesSection
    revisions: list[RevisionView]
    replicas: list[ReplicaView]
    wakes: list[WakeView]
    rollout: RolloutView | None
    waiting_requests: int
    usage: UsageView


class UsageView(Shape):
    """Usage since the service exists, as far as sites have reported it."""

    requests: int
    failed: int
    bytes_in: int
    bytes_out: int


class ServiceUsageView(UsageView):
    """A service's usage."""

    service: str
    project: str


class UploadRequest(Shape):
    """A source to send: its digest, and its size in bytes as it will be sent."""

    digest: DigestText
    size: Annotated[int, Field(ge=0)]


class SiteVerdictView(Shape):
    """One site: chosen, possible or refused, and why."""

    site: str
    verdict: Verdict
    reason: str
    hint: str = ""
    rank: int | None = Field(default=None, description="Its place among those that may and can, from 1.")
    rules: list[RuleView] = Field(default=[], description="The rules of the law that refuse it.")
    unmet: list[RuleView] = Field(default=[], description="The rules that could allow it, where none does.")
    opens: list[str] = Field(default=[], description="Each single change that would open it, as was tried.")


class AttestationText(Shape):
    """What a deployer signed: the exact text, the signature (base64), and the public key that it was made with."""

    key: Annotated[str, Field(max_length=100)]
    document: Annotated[str, Field(max_length=10_000)]
    signature: Annotated[str, Field(max_length=200)]

    def to_domain(self) -> Attested:
        """As the domain has it."""
        return Attested(key=self.key, signed=Signed(document=self.document, signature=self.signature))


class CallView(Shape):
    """Something that a service's file names, and whether it may be called; or, where the file names nothing, a declared
    place for which the service may call nothing."""

    to: str
    allowed: bool
    places: list[str] = Field(default=[], description="The declared places that it is at.")
    reason: str = ""
    hint: str = ""
    rules: list[RuleView] = Field(default=[], description="The rules of the law that refuse it.")
    unmet: list[RuleView] = Field(default=[], description="The rules that could allow it, where none does.")


class EgressView(Shape):
    """What a service may call."""

    anywhere: bool = Field(description="Whether it may call anything outside; else only what is allowed below.")
    calls: list[CallView]


class DeployRequest(Shape):
    """A service to run: its resolved configuration and the digest of its source, which is sent to the site apart. From
    level 3 on its deployer signs it: `attested`."""

    config: ResolvedService
    source: DigestText
    source_size: Annotated[int, Field(ge=0)]
    attested: AttestationText | None = None
    expected_version: int | None = None


class DeployAnswer(Shape):
    """What a deploy made. `created` is false where this very revision already serves. `uploads` are the doors to
    send the source through, of the sites that are to have it and have not."""

    service: ServiceView
    revision: str
    created: bool
    rollout: RolloutView | None
    uploads: list[Door]


class QuotaRefusal(Shape):
    """A quota that refuses a deploy (services, replicas, cpu, memory or disk), why, and the next step."""

    quota: str
    reason: str
    hint: str


class PlanAnswer(Shape):
    """What a deploy would do; nothing was changed. `refused`: the quotas that do not allow it."""

    service: str
    revision: str
    action: str = Field(description="create, update or none")
    changes: list[str]
    sites: list[SiteVerdictView]
    egress: EgressView
    refused: list[QuotaRefusal] = Field(default=[])


class ExplainAnswer(Shape):
    """Why a service is where it is, and nowhere else."""

    service: str
    data: DataSection
    data_declared: bool
    sites: list[SiteVerdictView]
    egress: EgressView
    deployer: str = Field(default="", description="Who signed the revision, where he is named by the owner now.")
    unsigned: str = Field(default="", description="Why sites that do not run it yet would refuse it for its signature.")


class ScaleRequest(Shape):
    """New bounds; what is missing stays."""

    min: Annotated[int, Field(ge=0, le=100)] | None = None
    max: Annotated[int, Field(ge=1, le=100)] | None = None
    expected_version: int | None = None


class ShareRequest(Shape):
    """A revision (its id, or the beginning of it) and its part of the traffic."""

    revision: Annotated[str, Field(min_length=1, max_length=32)]
    percent: Annotated[int, Field(ge=0, le=100)]


class TrafficRequest(Shape):
    """How a service's traffic is divided: in all 100. A revision with 0 is kept at hand."""

    shares: Annotated[list[ShareRequest], Field(min_length=1, max_length=10)]
    expected_version: int | None = None


class RollbackRequest(Shape):
    """What to return to: the revision `to` (its id, or the beginning of it), or what served before."""

    to: Annotated[str, Field(min_length=1, max_length=32)] | None = None
    expected_version: int | None = None


class EnvRequest(Shape):
    """Variables to set and to remove. With neither, the service gets the newest values of its secrets."""

    set: dict[EnvName, EnvValue] = Field(default_factory=dict, max_length=500)
    unset: list[EnvName] = Field(default_factory=list, max_length=500)
    attested: AttestationText | None = Field(default=None, description="Of the revision with the changes.")
    expected_version: int | None = None


class EnvView(Shape):
    """What a change of the environment starts from: the revision that serves, or is rolled out, as the text that its
    deployer signs, and what he signed of it."""

    revision: str
    contents: str
    attested: AttestationText | None = None


class SleepRequest(Shape):
    """Put to sleep now: `frozen`, or `stopped`."""

    rung: Annotated[str, Field(pattern="^(frozen|stopped)$")] = "frozen"


class InstallationView(Shape):
    """The installation: who answers here."""

    id: str
    version: str
    base_domain: str
    gateway: str
    epoch: int


ServiceDetail.model_rebuild()
