"""What an agent saw: the answer to a desired state. Names, counts and reasons; never a payload."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kasbah.domain.caller import StatedKey
from kasbah.domain.ids import ReplicaId, RevisionId, RolloutId, ServiceId, SiteId, WakeId
from kasbah.domain.label import Label
from kasbah.domain.replica import Replica
from kasbah.domain.service import ServiceState
from kasbah.domain.site import Isolation
from kasbah.domain.usage import EntryKey, Usage, UsageKey


class BuildState(StrEnum):
    """`absent`: the source has not arrived."""

    ABSENT = "absent"
    BUILDING = "building"
    BUILT = "built"
    FAILED = "failed"


class TrialState(StrEnum):
    """Whether a revision has shown, at this site, that it starts and answers its probe."""

    UNTRIED = "untried"
    TRYING = "trying"
    PROVEN = "proven"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionStatus:
    """How far a revision has come at a site. `trial` is about `rollout`, the last one that tried it here. `reason`
    says why it failed; `tail` are the last lines of whatever failed; `step` is what the build does now. `ready` counts
    its ready replicas; `trouble` says why it cannot serve at present, though it did once."""

    revision: RevisionId
    rollout: RolloutId | None = None
    build: BuildState = BuildState.ABSENT
    trial: TrialState = TrialState.UNTRIED
    step: str = ""
    reason: str = ""
    tail: tuple[str, ...] = ()
    ready: int = 0
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake:
    """One waking, by phase, in milliseconds. `rung` is where it woke from (`frozen` or `stopped`).

    `queue_ms`: first caller's arrival to the start or thaw being ordered; `start_ms`: ordering to the process
    existing; `ready_ms`: existing to its startup probe answering; `first_byte_ms`: the first caller being let through
    to the first byte of the answer (None until the gateway's log has told). `held` callers waited.
    """

    id: WakeId
    replica: ReplicaId | None
    at: datetime
    rung: str
    queue_ms: float
    start_ms: float
    ready_ms: float
    first_byte_ms: float | None = None
    held: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """A service at a site. `waiting_requests` are held at the gate now."""

    service: ServiceId
    state: ServiceState
    reason: str = ""
    obeyed_order: int = 0
    waiting_requests: int = 0
    in_flight: int = 0
    revisions: tuple[RevisionStatus, ...] = ()
    replicas: tuple[Replica, ...] = ()
    wakes: tuple[Wake, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageBatch:
    """Usage not yet acknowledged. `sequence` grows by one per batch; control takes each number once. `entries` are the
    requests of the same services, by where they came in."""

    sequence: int
    usage: tuple[tuple[UsageKey, Usage], ...]
    entries: tuple[tuple[EntryKey, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedPack:
    """A pack that the site's own owner pinned there. `digest` is that of its rules."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnedAway:
    """A service that the site does not run although it was told to, and why: as long as the service is labelled as it
    was told (`label`). `revisions` names those that it is about, each with the signature that it came with ("": none);
    none named: all."""

    service: ServiceId
    label: Label
    reason: str
    revisions: tuple[tuple[RevisionId, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteStatus:
    """What a site reports. `applied` is the (epoch, generation) it acts on, its gateway included. `tls_names`
    are the hosts it has certificates for, at `tls_address`; `notes` what its owner should look after. At
    `peers_address` its gateway takes what other sites' send, "": nowhere; with `tunnel` by tunnels that it holds.
    `near`: how many milliseconds a round trip to other sites takes, where it was measured.
    `law` is the version of the lawbook that it holds (0: none, or its agent is older than that).
    `packs` are its own owner's, `turned_away` what it refuses to run, be it told so any more or not. `own_keys` is what
    it states of the keys that services there call others with."""

    site: SiteId
    observed_at: datetime
    applied: tuple[int, int]
    gateway_address: str
    gateway_error: str = ""
    tls_address: str = ""
    peers_address: str = ""
    tunnel: bool = False
    tls_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    law: int = 0
    packs: tuple[PinnedPack, ...] = ()
    turned_away: tuple[TurnedAway, ...] = ()
    own_keys: tuple[StatedKey, ...] = ()
    isolation: Isolation
    cpus: float = 0.0
    memory: int = 0
    drivers: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    near: tuple[tuple[SiteId, float], ...] = ()
    services: tuple[ServiceStatus, ...] = ()
