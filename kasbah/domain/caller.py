"""What opens a service to callers, as it is signed: a caller's key by a deployer, a service's own key by its site.

Who has the control plane alone can sign neither, so that it opens nothing that is sensitive with a key of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kasbah.domain.charter import Signed
from kasbah.domain.ids import InstallationId, ProjectId, ServiceId, SiteId
from kasbah.domain.label import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class CallersKey:
    """A key by its SHA-256, and what it opens: services of a project of one installation, by name (none named: all of
    it), with no label above `max_level` (None: whatever their labels), until `expires_at` (None: without end)."""

    installation: InstallationId
    project: ProjectId
    sha256: str
    services: tuple[str, ...] = ()
    max_level: Level | None = None
    expires_at: datetime | None = None
    signed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedKey:
    """What was said of a key, in a signature of this public key's, as was verified."""

    key: str
    said: CallersKey


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnKey:
    """The key of a service at a site, by its SHA-256: what runs there with it calls these services of its project, by
    name, and was signed for data of no higher level than `up_to`."""

    installation: InstallationId
    site: SiteId
    service: ServiceId
    project: ProjectId
    name: str
    sha256: str
    calls: tuple[str, ...]
    up_to: Level


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedKey:
    """What a site states of a service's own key, and the public key (DER, base64) that it says it was signed with; ""
    and no signature where the site has none."""

    service: ServiceId
    key: str
    signed: Signed
