"""What a deployer signs: that this is what he deploys, as this service. It travels with the revision to its sites.

A revision's contents are all that its deployer decided: source, command, environment, which variables bring secrets,
volumes, calls, egress, limits. What changes without him is left out: versions of secrets, and what builds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kasbah.domain.charter import Signed
from kasbah.domain.ids import Digest, InstallationId, ProjectId, RevisionId, ServiceId
from kasbah.domain.label import Label


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """The contents, by their digest, and what they were deployed as: the service's name in a project of one
    installation, the domains that are its own, the label on its data, and whether anybody may call it (None: nothing
    was said of that). It has no end of its own: who signs is named for a time."""

    installation: InstallationId
    project: ProjectId
    service: str
    contents: Digest
    label: Label
    domains: tuple[str, ...] = ()
    public: bool | None = None
    signed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """An attestation as it was signed, and the public key that it says it was signed with."""

    key: str
    signed: Signed


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionAttested:
    """The attestation of a revision, as sites are told it."""

    service: ServiceId
    revision: RevisionId
    attested: Attested
