"""A service: what a user deploys and calls. What can change without a new revision is here; the rest is a revision."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from kasbah.domain.attestation import Attested
from kasbah.domain.ids import KeyId, ProjectId, RevisionId, RolloutId, ServiceId
from kasbah.domain.label import UNLABELLED, Label, Level
from kasbah.domain.revision import Revision

NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
"""A name is a host label: lower-case letters, digits and single dashes, 40 characters at most."""

RESERVED_NAMES = frozenset({"kasbah", "localhost", "www", "api"})
"""Names that would shadow the site's own hosts. `kasbah` is where sources are sent and logs are read."""


def name_error(name: str) -> str | None:
    """Why `name` cannot name a service or a project, or None where it can. `--` separates names in hosts."""
    if not NAME.fullmatch(name) or "--" in name:
        return (
            f"{name!r} is no name: use lower-case letters, digits and single dashes, a letter first, "
            "40 characters at most"
        )
    if name in RESERVED_NAMES:
        return f"{name!r} is reserved: choose another name"
    return None


class Access(StrEnum):
    """Who may call: anybody (`public`), or whoever holds a key (`key`, the default)."""

    KEY = "key"
    PUBLIC = "public"


class ServiceState(StrEnum):
    """What `ps` shows for a service, and for each of its placements."""

    BUILDING = "building"
    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    FROZEN = "frozen"
    STOPPED = "stopped"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """How many replicas. `concurrency` is the soft target of requests in flight per replica; `max_concurrency`,
    where given, is hard: no replica is ever given more."""

    min: int = 0
    max: int = 1
    concurrency: int = 50
    max_concurrency: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleep:
    """When an unused service descends: running, then frozen, then stopped. None: it never descends to that rung.

    Both count from the last moment anything was in flight. `ignore` are path prefixes of a public service that the
    gateway answers itself (404), because robots ask for them and should wake nothing.
    """

    freeze_after: timedelta | None = timedelta(minutes=1)
    stop_after: timedelta | None = timedelta(minutes=30)
    ignore: tuple[str, ...] = ()


class Command(StrEnum):
    """What a person tells a service to do once, now."""

    SLEEP = "sleep"
    STOP = "stop"
    WAKE = "wake"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A command with its number: an agent obeys each number once, so a repeated desired state repeats nothing."""

    number: int
    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The part of a service's traffic that a revision gets, in percent. One of 0 is kept at hand: it has a URL of its
    own, sleeps when unused, and can be given traffic at once."""

    revision: RevisionId
    percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A revision to build, start and prove now, for this rollout. A later rollout of the same revision tries again.
    `replicas` must be ready before it is given more traffic; 0 asks for none in particular."""

    rollout: RolloutId
    revision: RevisionId
    replicas: int = 1


def in_use(shares: tuple[Share, ...], trial: Trial | None) -> frozenset[RevisionId]:
    """The revisions that have a share, be it 0, or are under trial."""
    tried = () if trial is None else (trial.revision,)
    return frozenset((*(share.revision for share in shares), *tried))


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service as a site is asked to run it.

    `declared` is the most that was ever declared of its data: `label` says less only for as long as a declassification
    holds. `revisions` holds what the site must have built, the newest last. `shares` is empty until a first revision
    has proved that it starts. `lane` names what was decided about its requests ("": before there were several sites).
    """

    id: ServiceId
    project: ProjectId
    name: str
    hosts: tuple[str, ...]
    access: Access = Access.KEY
    label: Label = UNLABELLED
    declared: Label | None = None
    scaling: Scaling = Scaling()
    sleep: Sleep = Sleep()
    revisions: tuple[Revision, ...] = ()
    shares: tuple[Share, ...] = ()
    trial: Trial | None = None
    order: Order | None = None
    lane: str = ""

    def revision(self, wanted: RevisionId) -> Revision | None:
        """The revision with this id, if the site must have it."""
        return next((one for one in self.revisions if one.id == wanted), None)

    @property
    def in_use(self) -> frozenset[RevisionId]:
        """The revisions that have a share, or are under trial."""
        return in_use(self.shares, self.trial)

    def percent(self, revision: RevisionId) -> int:
        """The part of the traffic that this revision gets."""
        return sum(share.percent for share in self.shares if share.revision == revision)


OWN_KEY_VERSION = 2
"""From this on the site that runs a service makes its key; the control plane made that of the version before."""


def own_key(service: ServiceId) -> KeyId:
    """The id of the key that a service is given to call others with."""
    return KeyId(f"ky-{service}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A caller's credential as sites know it: its SHA-256, and the services it opens (None: all of the project's). It
    opens none with a label above `max_level`, and nothing from `expires_at` on. `attested` is what a deployer signed of
    it (`CallersKey`), None: nobody."""

    id: KeyId
    project: ProjectId
    sha256: str
    services: tuple[ServiceId, ...] | None = field(default=None)
    max_level: Level | None = None
    expires_at: datetime | None = None
    attested: Attested | None = None
