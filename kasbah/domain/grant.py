"""What the owner grants, signed and for a time: an approval that lifts a rule, a label that is lowered, and who may
sign what is deployed.

Nobody who calls says what is approved: it is read from our records, and what has expired is not there any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kasbah.domain.ids import InstallationId, ProjectId, ServiceId, SiteId
from kasbah.domain.label import Label, Level


class GrantKind(StrEnum):
    """What is granted."""

    APPROVAL = "approval"
    DECLASSIFICATION = "declassification"
    DEPLOYER = "deployer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """An approval, by the name that rules know it by (`cndp-f118`), for services, or all services of projects; at some
    sites (none named: wherever they may be then). `evidence` says where it is written down."""

    installation: InstallationId
    name: str
    services: tuple[ServiceId, ...]
    projects: tuple[ProjectId, ...]
    sites: tuple[SiteId, ...] = ()
    evidence: str
    issued_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Declassification:
    """A service's data may carry a label as low as `to`. Nothing else lowers one, and it ends by itself."""

    installation: InstallationId
    service: ServiceId
    to: Label
    evidence: str
    issued_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployer:
    """Whose signature sites take under what is deployed, by its public key: in these projects (none named: in all), for
    data of this level at most. The key's private half is with whoever deploys."""

    installation: InstallationId
    name: str
    key: str
    projects: tuple[ProjectId, ...] = ()
    max_level: Level = Level.VITAL
    evidence: str
    issued_at: datetime
    expires_at: datetime

    def covers(self, project: ProjectId, level: Level) -> bool:
        """Whether it is named for this project, and for data of this level."""
        return (not self.projects or project in self.projects) and level <= self.max_level


Grant = Approval | Declassification | Deployer
