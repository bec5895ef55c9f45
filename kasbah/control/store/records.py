"""What the store keeps, one frozen class per table, with the table's columns as its fields.

The nouns themselves are the domain's; these add what only the control plane knows of them: versions, times, order.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kasbah.domain.access import Grant, Principal, PrincipalKind, Role
from kasbah.domain.attestation import Attested
from kasbah.domain.charter import Charter, Signed
from kasbah.domain.ids import (
    Digest,
    InstallationId,
    JoiningId,
    KeyId,
    ProjectId,
    RevisionId,
    RolloutId,
    SecretId,
    ServiceId,
    SiteId,
    TokenId,
    WakeId,
)
from kasbah.domain.label import Label, Level
from kasbah.domain.observed import ServiceStatus, SiteStatus, Wake
from kasbah.domain.placement import ANYWHERE, Constraints, Placement
from kasbah.domain.project import UNLIMITED, Quota
from kasbah.domain.revision import Revision
from kasbah.domain.rollout import Cause, Rollout, RolloutRules, RolloutState
from kasbah.domain.service import Access, Order, Scaling, Share, Sleep, Trial, in_use
from kasbah.domain.site import SiteKind, SiteState


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """Who this control plane is. The epoch grows when a backup is restored; `owner_key` is the public half of the key
    that its owner signs with, None until one was made."""

    id: InstallationId
    epoch: int
    created_at: datetime
    owner_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A tenant, and the most it may have. When it is deleted its row stays, its id for a name: names are unique."""

    id: ProjectId
    name: str
    quota: Quota = UNLIMITED
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRecord:
    """A site: what its owner says of it, how its agent proves itself, and what it said last (`report`, without its
    services).

    `signed` is the charter as the owner signed it, None where nobody has signed it yet. `token_sha256` is that of the
    token that the site `local` has, "" for sites that join; `certified` is the fingerprint of the key of one that
    joined.
    """

    id: SiteId
    name: str
    charter: Charter
    signed: Signed | None = None
    state: SiteState = SiteState.ACTIVE
    token_sha256: str = ""
    certified: str = ""
    seen_at: datetime | None = None
    report: SiteStatus | None = None
    usage_sequence: int = 0

    @property
    def kind(self) -> SiteKind:
        """What sort of place it is."""
        return self.charter.kind

    @property
    def outside(self) -> bool:
        """Whether it is a place that is only called: it runs nothing of ours."""
        return bool(self.charter.hosts)

    @property
    def country(self) -> str | None:
        """The country that was declared, whether that holds or not."""
        declared = self.charter.facts.country
        return None if declared is None else declared.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """A site that joins: the token it was given (its SHA-256), what it asked with it, and what a person said.

    `csr` is the signing request and `key` the fingerprint of its key, "" until the token was used; `certificate` is ""
    until it was approved. At `expires_at` the token, or the request, is worth nothing any more.
    """

    id: JoiningId
    site: SiteId
    token_sha256: str
    created_at: datetime
    expires_at: datetime
    asked_at: datetime | None = None
    csr: str = ""
    key: str = ""
    certificate: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRecord:
    """A service as it was asked for. `placement` is where it runs, None until a site took it; `version` grows with
    every change to what was asked or seen. `declared` is the most that was ever declared of its data: `label` says less
    only for as long as a declassification holds."""

    id: ServiceId
    project: ProjectId
    name: str
    access: Access
    domains: tuple[str, ...] = ()
    label: Label
    declared: Label | None = None
    scaling: Scaling
    sleep: Sleep
    rollout_rules: RolloutRules = RolloutRules()
    constraints: Constraints = ANYWHERE
    created_at: datetime
    placement: Placement | None = None
    shares: tuple[Share, ...] = ()
    trial: Trial | None = None
    order: Order | None = None
    version: int = 1
    deployed_at: datetime | None = None
    deleted_at: datetime | None = None

    @property
    def serving(self) -> RevisionId | None:
        """The revision with the most traffic."""
        return max(self.shares, key=lambda share: share.percent).revision if self.shares else None

    @property
    def in_use(self) -> frozenset[RevisionId]:
        """The revisions that have a share, or are under trial."""
        return in_use(self.shares, self.trial)

    def percent(self, revision: RevisionId) -> int:
        """The part of the traffic that this revision gets."""
        return sum(share.percent for share in self.shares if share.revision == revision)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionRecord:
    """A revision of a service. `number` orders them, the newest highest; `proven`: a rollout of it was done once.
    `attested` is what its deployer signed, None: nobody."""

    service: ServiceId
    id: RevisionId
    number: int
    created_at: datetime
    contents: Revision
    proven: bool = False
    attested: Attested | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRecord:
    """A rollout and where it stands; see `domain.Rollout`. Its first traffic moved at `shifted_at`, the last so far at
    `moved_at`, in the desired state `shifted_generation`."""

    id: RolloutId
    service: ServiceId
    number: int
    revision: RevisionId
    state: RolloutState
    started_at: datetime
    changed_at: datetime
    rules: RolloutRules = RolloutRules()
    cause: Cause = Cause.DEPLOY
    before: tuple[Share, ...] = ()
    percent: int = 0
    step: str = ""
    reason: str = ""
    tail: tuple[str, ...] = ()
    shifted_at: datetime | None = None
    moved_at: datetime | None = None
    shifted_generation: int | None = None
    version: int = 1

    @property
    def rollout(self) -> Rollout:
        """The rollout as the domain has it."""
        return Rollout(
            id=self.id,
            service=self.service,
            revision=self.revision,
            state=self.state,
            started_at=self.started_at,
            changed_at=self.changed_at,
            rules=self.rules,
            cause=self.cause,
            before=self.before,
            percent=self.percent,
            moved_at=self.moved_at,
            reason=self.reason,
            tail=self.tail,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A caller's key: its SHA-256 and the services it opens (None: all of the project's), those with a label above
    `max_level` left out. `owner` is who answers for it; it opens nothing while `disabled_at` stands. `attested` is what
    a deployer signed of it, None: nobody."""

    id: KeyId
    project: ProjectId
    name: str
    sha256: str
    services: tuple[ServiceId, ...] | None
    created_at: datetime
    created_by: TokenId | None = None
    owner: str = ""
    max_level: Level | None = None
    expires_at: datetime | None = None
    disabled_at: datetime | None = None
    revoked_at: datetime | None = None
    attested: Attested | None = None

    def opens(self, now: datetime) -> bool:
        """Whether it opens anything."""
        switched_on = self.revoked_at is None and self.disabled_at is None
        return switched_on and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRecord:
    """A secret of a project. `version` is the newest value's number, `label` how sensitive it is, where that was said.
    Deleted ones are kept for revisions that use them."""

    id: SecretId
    project: ProjectId
    name: str
    version: int
    created_at: datetime
    changed_at: datetime
    label: Label | None = None
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretValue:
    """One value of a secret, sealed by a key that is not in the database."""

    secret: SecretId
    version: int
    sealed: bytes
    size: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """A token for the API: its SHA-256, who holds it and what that principal may. `created_by` is the token that made
    it, None for the first; it is worth nothing while `disabled_at` stands."""

    id: TokenId
    name: str
    sha256: str
    kind: PrincipalKind = PrincipalKind.PERSON
    grants: tuple[Grant, ...] = ()
    max_level: Level | None = None
    created_at: datetime
    created_by: TokenId | None = None
    expires_at: datetime | None = None
    disabled_at: datetime | None = None
    revoked_at: datetime | None = None

    @property
    def principal(self) -> Principal:
        """Its holder, as access asks about him."""
        return Principal(
            kind=self.kind,
            grants=self.grants,
            ceiling=self.max_level,
            enabled=self.disabled_at is None and self.revoked_at is None,
            expires_at=self.expires_at,
        )

    @property
    def owns_everything(self) -> bool:
        """Whether it is an owner's of the whole installation."""
        return any(one.role is Role.OWNER and one.project is None for one in self.grants)


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredDocument:
    """A site's newest desired state: the exact bytes, their signature, and the digest of what they say."""

    site: SiteId
    epoch: int
    generation: int
    contents: Digest
    body: bytes
    signature: str

    @property
    def version(self) -> tuple[int, int]:
        """Its place in history."""
        return (self.epoch, self.generation)


Told = dict[SiteId, tuple[int, int, Digest]]
"""By site, the epoch, the generation and the contents of its newest desired state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceReport:
    """What a site said of a service last."""

    site: SiteId
    service: ServiceId
    status: ServiceStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a new report of a site changes for one service; None: nothing was, or is, said of it."""

    service: ServiceId
    before: ServiceStatus | None
    after: ServiceStatus | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeRecord:
    """One waking at a site."""

    id: WakeId
    service: ServiceId
    site: SiteId
    at: datetime
    contents: Wake


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEntry:
    """An entry of the control plane's audit log: what it is looked for by, and its leaf, the exact bytes in the tree.
    `salt` opens its commitment, until it is erased."""

    sequence: int
    at: datetime
    actor: str
    credential: str
    act: str
    object: str
    leaf: bytes
    salt: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditTile:
    """256 hashes of the log's tree, or as many as there are; see `decide/tiles`."""

    level: int
    number: int
    hashes: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """An answer kept for an Idempotency-Key. `fingerprint` is the digest of the request it answered; `body` None: the
    answer held a secret, and is not kept."""

    token: TokenId
    key: str
    fingerprint: str
    status: int
    body: str | None
    at: datetime
