"""The file, `kasbah.yaml`: its fields, their defaults and what they mean. Its JSON Schema is made from these models.

What can be missing in the file and found out from the folder (`runtime`, `command`) is optional here;
`resolve` joins a service of the file with what was found and gives what is deployed. Reading YAML, with lines and
suggestions, is the CLI's (`cli/manifest.py`).
"""

from __future__ import annotations

import difflib
import re
from datetime import timedelta
from itertools import combinations
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from kasbah.api.fields import (
    Argument,
    Domain,
    Duration,
    DurationOrNever,
    Egress,
    EnvName,
    EnvValue,
    FolderBelow,
    Path,
    SecretName,
    ServiceName,
    Size,
    VolumeName,
    Word,
)
from kasbah.domain import revision as domain
from kasbah.domain.label import CATEGORIES, UNLABELLED, Label, LevelName
from kasbah.domain.placement import Constraints, Objective
from kasbah.domain.rollout import RolloutRules, Strategy
from kasbah.domain.secret import Delivery
from kasbah.domain.service import Access, Scaling, Sleep

RESERVED_ENV = re.compile(r"PORT|KASBAH_.*")
"""Names of the environment that Kasbah sets itself."""


class Section(BaseModel):
    """A part of the file: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)


class ProbeSection(Section):
    """How a replica is asked whether it is well: a path that answers 2xx or 3xx; without one, a TCP connection."""

    path: Path | None = None
    """The path to ask, such as /health; without one, a TCP connection is enough."""
    period: Duration = timedelta(seconds=5)
    """How often it is asked."""
    timeout: Duration = timedelta(seconds=2)
    """How long an answer may take."""
    failures: int = Field(default=3, ge=1, le=100)
    """So many failures in a row mean no."""

    def to_domain(self) -> domain.Probe:
        """The probe as the domain has it."""
        return domain.Probe(path=self.path, period=self.period, timeout=self.timeout, failures=self.failures)


class HealthSection(Section):
    """`startup` gates the first request, `readiness` takes a replica out of traffic, `liveness` restarts it."""

    startup: ProbeSection = ProbeSection()
    """Asked until the first yes: only then requests come."""
    readiness: ProbeSection | None = None
    """A no takes the replica out of traffic until the next yes."""
    liveness: ProbeSection | None = None
    """A no restarts the replica."""


class ScalingSection(Section):
    """How many replicas. `concurrency` is a soft target per replica, `max_concurrency` a hard one."""

    min: int = Field(default=0, ge=0, le=100)
    """The least replicas; 0 lets the service sleep."""
    max: int = Field(default=1, ge=1, le=100)
    """The most replicas."""
    concurrency: int = Field(default=50, ge=1, le=100_000)
    """Requests in flight that one replica should have: above it, more replicas are started, up to max."""
    max_concurrency: int | None = Field(default=None, ge=1, le=100_000)
    """Requests in flight that no replica is ever given more of; beyond it callers get 429."""

    @model_validator(mode="after")
    def _ordered(self) -> ScalingSection:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is above max ({self.max})")
        hard = self.max_concurrency
        if hard is not None and "concurrency" in self.model_fields_set and self.concurrency > hard:
            raise ValueError(f"concurrency ({self.concurrency}) is above max_concurrency ({hard})")
        return self

    def to_domain(self) -> Scaling:
        """The scaling as the domain has it; the soft target is never above the hard one."""
        soft = self.concurrency if self.max_concurrency is None else min(self.concurrency, self.max_concurrency)
        return Scaling(min=self.min, max=self.max, concurrency=soft, max_concurrency=self.max_concurrency)


class SleepSection(Section):
    """When an unused service descends: running, frozen, stopped. Both count from the last use."""

    freeze_after: DurationOrNever = timedelta(minutes=1)
    """Unused for so long, its replicas keep their memory and get no CPU; waking takes milliseconds."""
    stop_after: DurationOrNever = timedelta(minutes=30)
    """Unused for so long, its replicas are ended; waking takes the app's own start."""
    ignore: tuple[Path, ...] = Field(default=(), max_length=50)
    """Paths of a public service, and what is below them, that wake nothing: the gateway answers 404 itself."""

    def to_domain(self) -> Sleep:
        """The sleep as the domain has it."""
        return Sleep(freeze_after=self.freeze_after, stop_after=self.stop_after, ignore=self.ignore)


class ResourcesSection(Section):
    """Limits per replica."""

    cpu: float | None = Field(default=None, gt=0, le=1_024)
    """CPUs, such as 0.5 or 2."""
    memory: Size | None = Field(default=None, ge=2**20)
    """Memory, such as 512Mi."""


class SecretSection(Section):
    """A secret that a variable brings: its value, or as a file."""

    name: SecretName
    """The secret, as `kasbah secrets` lists it."""
    deliver: Delivery = Delivery.ENV
    """env: the variable holds the value; file: it holds the path of a file with the value."""


class VolumeSection(Section):
    """A folder that outlives replicas and revisions."""

    name: VolumeName
    """What it is called, at this service."""
    path: FolderBelow
    """Where the app finds it, in its own folder, such as data; KASBAH_VOLUME_<NAME> holds the whole path."""
    size: Size = Field(ge=2**20)
    """How much it is meant to hold, such as 1Gi: counted against the project's disk, not enforced."""

    def to_domain(self) -> domain.Volume:
        """The volume as the domain has it."""
        return domain.Volume(name=self.name, path=self.path, size=self.size)


class DeadlinesSection(Section):
    """How long each thing may take; `request: never` puts no limit on a whole exchange (streams)."""

    startup: Duration = timedelta(seconds=60)
    """How long a replica may take to start, and a caller is held while it does."""
    request: DurationOrNever = None
    """How long a whole exchange may take."""
    idle: Duration = timedelta(minutes=5)
    """How long an exchange may go without a byte from either side."""
    drain: Duration = timedelta(seconds=30)
    """How long a replica may finish what it has, once told to end."""

    @model_validator(mode="after")
    def _positive(self) -> DeadlinesSection:
        for name in ("startup", "request", "idle"):
            value = getattr(self, name)
            if value is not None and value <= timedelta(0):
                raise ValueError(f"{name} must be longer than nothing")
        return self


class RolloutSection(Section):
    """How traffic moves to a new revision, once it has shown that it starts."""

    strategy: Strategy = Strategy.ROLLING
    """rolling: replica by replica; blue-green: all at once, when as many replicas are ready as served before;
    canary: by steps, with a pause at each; manual: only when you say so, with kasbah traffic."""
    steps: tuple[Annotated[int, Field(ge=1, le=99)], ...] = Field(
        default=RolloutRules().steps, min_length=1, max_length=20
    )
    """The percentages at which a canary pauses; after the last comes all of it."""
    pause: Duration = timedelta(minutes=2)
    """How long a canary pauses at each step."""
    watch: Duration = timedelta(minutes=1)
    """How long what served before is kept at hand after all traffic has moved, so that it can turn back."""
    tolerance: int = Field(default=5, ge=0, le=100)
    """While it is paused or watched, traffic turns back when more requests fail than before, by so many percent."""

    @model_validator(mode="after")
    def _climbs(self) -> RolloutSection:
        if list(self.steps) != sorted(set(self.steps)):
            raise ValueError(f"steps must climb: {', '.join(map(str, self.steps))} does not")
        if self.steps != RolloutRules().steps and self.strategy is not Strategy.CANARY:
            raise ValueError(f"steps are a canary's, and strategy is {self.strategy}: write strategy: canary")
        return self

    def to_domain(self) -> RolloutRules:
        """The rules as the domain has them."""
        return RolloutRules(
            strategy=self.strategy, steps=self.steps, pause=self.pause, watch=self.watch, tolerance=self.tolerance
        )


class PlacementSection(Section):
    """What is asked of its place, beyond the law, which comes first."""

    sites: int = Field(default=1, ge=1, le=20)
    """At how many sites it runs, as different as can be had."""
    objective: Objective | dict[Objective, Annotated[float, Field(gt=0, le=1e6)]] | None = None
    """What lawful sites are ranked by: price, energy, carbon or latency, or several with a weight each."""
    only: tuple[ServiceName, ...] = Field(default=(), max_length=100)
    """The only sites that it may be at, by name."""
    avoid: tuple[ServiceName, ...] = Field(default=(), max_length=100)
    """Sites that it is not to be at, by name."""
    callers: tuple[ServiceName, ...] = Field(default=(), max_length=100)
    """For latency: at which sites its callers are, by name; without it, where requests came in over the last day."""

    @model_validator(mode="after")
    def _callers_count(self) -> PlacementSection:
        if self.callers and Objective.LATENCY not in self._weights:
            raise ValueError("callers count for latency alone: write objective: latency")
        return self

    @property
    def _weights(self) -> dict[Objective, float]:
        return {self.objective: 1.0} if isinstance(self.objective, Objective) else self.objective or {}

    def to_domain(self) -> Constraints:
        """As the domain has them."""
        return Constraints(
            sites=self.sites,
            weights=tuple(self._weights.items()),
            only=self.only,
            avoid=self.avoid,
            callers=self.callers,
        )


class DataSection(Section):
    """The label on the data a service handles. A service without one counts as sensitive."""

    level: LevelName
    """How sensitive the data is."""
    categories: tuple[Word, ...] = Field(default=(), max_length=50)
    """What it is about, such as personal, financial, health."""
    regimes: tuple[Word, ...] = Field(default=(), max_length=50)
    """The laws it is under, such as gdpr, ma-0908."""

    @field_validator("categories")
    @classmethod
    def _known(cls, categories: tuple[str, ...]) -> tuple[str, ...]:
        for one in categories:
            if one not in CATEGORIES:
                meant = difflib.get_close_matches(one, CATEGORIES, n=1)
                likely = f"did you mean {meant[0]}? " if meant else ""
                raise ValueError(f"{one!r} is no category that policies know: {likely}{', '.join(sorted(CATEGORIES))}")
        return categories

    def to_domain(self) -> Label:
        """The label as the domain has it."""
        return Label(
            level=self.level.level,
            categories=tuple(sorted(set(self.categories))),
            regimes=tuple(sorted(set(self.regimes))),
        )


class ServiceSection(Section):
    """A service: its source, how it starts, who may call it, how it scales and sleeps."""

    source: str | None = Field(default=None, description="The folder to build, relative to the file.", min_length=1)
    image: str | None = Field(default=None, description="A container image; needs a site with a container driver.")
    runtime: Literal["python", "node", "command"] | None = Field(
        default=None, description="What builds the source; found out from the folder where it is missing."
    )
    command: Argument | Annotated[tuple[Argument, ...], Field(min_length=1, max_length=1_000)] | None = Field(
        default=None, description="How a replica starts: an argument list, or one line for the shell."
    )
    env: dict[EnvName, EnvValue] = Field(default_factory=dict, max_length=500)
    """Environment variables."""
    secrets: dict[EnvName, SecretName | SecretSection] = Field(default_factory=dict, max_length=100)
    """Secrets, by the variable that brings each: its name, or {name: NAME, deliver: file}."""
    port: int | None = Field(
        default=None, ge=1, le=65_535, description="The port the app insists on; without it, the app listens on PORT."
    )
    protocol: domain.Protocol = domain.Protocol.AUTO
    """What the app speaks: http1 (WebSocket included), h2c (HTTP/2 without TLS, as gRPC wants); auto asks it."""
    access: Access = Access.KEY
    """Who may call: whoever holds a key, or the public."""
    domains: tuple[Domain, ...] = Field(default=(), max_length=20)
    """Hosts of your own at which it answers too, such as shop.example.org; point their DNS at the gateway."""
    health: HealthSection = HealthSection()
    """How replicas are asked whether they are well."""
    scaling: ScalingSection = ScalingSection()
    """How many replicas there are."""
    sleep: SleepSection = SleepSection()
    """When an unused service goes to sleep, and how deep."""
    placement: PlacementSection = PlacementSection()
    """Where it runs, of the places where its data may be."""
    rollout: RolloutSection = RolloutSection()
    """How traffic moves to a new revision."""
    resources: ResourcesSection = ResourcesSection()
    """Limits per replica."""
    volumes: tuple[VolumeSection, ...] = Field(default=(), max_length=20)
    """Folders that outlive replicas and revisions; with one there is one replica at a time."""
    deadlines: DeadlinesSection = DeadlinesSection()
    """How long each thing may take."""
    calls: tuple[ServiceName, ...] = Field(default=(), max_length=50)
    """Other services of the project that it calls: each gets it KASBAH_URL_<NAME>, and all of them KASBAH_KEY."""
    egress: tuple[Egress, ...] | None = Field(
        default=None,
        max_length=100,
        description="What replicas may call: HOST:PORT, HOST, a network like 10.0.0.0/8, service:NAME; [] is nothing. "
        "Without it, anything outside where the data may be anywhere, else nothing.",
    )
    data: DataSection | None = Field(default=None, description="The label on the data; unlabelled counts as sensitive.")

    @model_validator(mode="after")
    def _coherent(self) -> ServiceSection:
        if self.port is not None and self.scaling.max > 1:
            raise ValueError(
                f"port {self.port} is fixed, so only one replica can listen on it: "
                "remove port (and listen on PORT), or set scaling.max to 1"
            )
        if self.volumes:
            self._check_volumes()
        twice = sorted({domain for domain in self.domains if self.domains.count(domain) > 1})
        if twice:
            raise ValueError(f"domains: {', '.join(twice)} is there twice")
        reserved = sorted(name for name in (*self.env, *self.secrets) if RESERVED_ENV.fullmatch(name))
        if reserved:
            raise ValueError(f"env: {', '.join(reserved)} is set by Kasbah itself: use another name")
        both = sorted(self.env.keys() & self.secrets.keys())
        if both:
            raise ValueError(f"{', '.join(both)} stands in env and in secrets: leave it in one of them")
        return self

    def _check_volumes(self) -> None:
        names = [one.name for one in self.volumes]
        if self.scaling.max > 1:
            raise ValueError(
                f"volumes: {', '.join(names)} can be one replica's at a time: set scaling.max to 1, or keep what all "
                "replicas share in a database"
            )
        for one, other in combinations(self.volumes, 2):
            if one.name == other.name:
                raise ValueError(f"volumes: {one.name} is there twice: give one of them another name")
            if f"{one.path}/".startswith(f"{other.path}/") or f"{other.path}/".startswith(f"{one.path}/"):
                raise ValueError(f"volumes: {one.path} and {other.path} lie in each other: put them side by side")

    def secret(self, variable: str) -> SecretSection:
        """The secret that a variable brings: a name alone is one in the variable itself."""
        found = self.secrets[variable]
        return SecretSection(name=found) if isinstance(found, str) else found

    @property
    def label(self) -> Label:
        """The label, the default where none was declared."""
        return UNLABELLED if self.data is None else self.data.to_domain()


class File(Section):
    """kasbah.yaml: the services of an application."""

    services: dict[str, ServiceSection] = Field(min_length=1, max_length=100)
    """The services, by name."""


class ResolvedService(ServiceSection):
    """A service with nothing left to find out: what the CLI sends and a revision is made from."""

    runtime: Literal["python", "node", "command"]
    command: Annotated[tuple[Argument, ...], Field(min_length=1, max_length=1_000)]


def resolve(section: ServiceSection, *, runtime: str, command: tuple[str, ...]) -> ResolvedService:
    """The service with the runtime and command that were declared or found."""
    fields: dict[str, Any] = section.model_dump(exclude_unset=True)
    return ResolvedService.model_validate({**fields, "runtime": runtime, "command": command})


def schema() -> dict[str, Any]:
    """The JSON Schema of kasbah.yaml. Defaults are shown as they would be written, hence the mode."""
    made = File.model_json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "kasbah.yaml",
        **{key: value for key, value in made.items() if key != "title"},
    }
