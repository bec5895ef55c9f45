"""Who may do what: principals and their grants, actions, and what these are about.

Everybody who uses the API is a principal: a person, or software (a pipeline, an AI agent). What nobody granted is
refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kasbah.domain.ids import ProjectId
from kasbah.domain.label import Level


class Action(StrEnum):
    """Everything that can be done through the API, each by its name."""

    INSTALLATION_READ = "installation.read"
    INSTALLATION_GC = "installation.gc"
    SITE_READ = "site.read"
    SITE_GC = "site.gc"
    SITE_VOLUMES = "site.volumes"
    SITE_DRAIN = "site.drain"
    SITE_DECLARE = "site.declare"
    PROJECT_READ = "project.read"
    PROJECT_CREATE = "project.create"
    PROJECT_QUOTA = "project.quota"
    PROJECT_DELETE = "project.delete"
    SERVICE_READ = "service.read"
    SERVICE_PLAN = "service.plan"
    SERVICE_DEPLOY = "service.deploy"
    SERVICE_SCALE = "service.scale"
    SERVICE_SLEEP = "service.sleep"
    SERVICE_ENV = "service.env"
    SERVICE_TRAFFIC = "service.traffic"
    SERVICE_ROLLBACK = "service.rollback"
    SERVICE_DELETE = "service.delete"
    SERVICE_LOGS = "service.logs"
    SERVICE_EXEC = "service.exec"
    SERVICE_USAGE = "service.usage"
    SECRET_READ = "secret.read"
    SECRET_SET = "secret.set"
    SECRET_DELETE = "secret.delete"
    KEY_READ = "key.read"
    KEY_CREATE = "key.create"
    KEY_REVOKE = "key.revoke"
    KEY_DISABLE = "key.disable"
    KEY_ENABLE = "key.enable"
    TOKEN_READ = "token.read"
    TOKEN_CREATE = "token.create"
    TOKEN_REVOKE = "token.revoke"
    TOKEN_DISABLE = "token.disable"
    TOKEN_ENABLE = "token.enable"
    POLICY_READ = "policy.read"
    POLICY_APPLY = "policy.apply"
    AUDIT_READ = "audit.read"
    AUDIT_ACCEPT = "audit.accept"


class About(StrEnum):
    """What kind of object an action is about. A realm is a project, or the installation with every project in it."""

    INSTALLATION = "installation"
    REALM = "realm"
    SITE = "site"
    SERVICE = "service"


_BY_NOUN = {
    "installation": About.INSTALLATION,
    "policy": About.INSTALLATION,
    "audit": About.INSTALLATION,
    "site": About.SITE,
    "service": About.SERVICE,
}
_THE_INSTALLATION_S = frozenset({Action.PROJECT_CREATE, Action.PROJECT_QUOTA, Action.PROJECT_DELETE})
"""What a project is and may have is not its own owner's to say."""

ABOUT: Mapping[Action, About] = {
    action: About.INSTALLATION if action in _THE_INSTALLATION_S else _BY_NOUN.get(action.partition(".")[0], About.REALM)
    for action in Action
}


class Role(StrEnum):
    """Rights that go together. What each includes is in the rules (`kasbah/access_rules`)."""

    OWNER = "owner"
    DEPLOYER = "deployer"
    OPERATOR = "operator"
    AUDITOR = "auditor"


class PrincipalKind(StrEnum):
    """Who it is: a person, or software."""

    PERSON = "person"
    SOFTWARE = "software"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A role, or actions by their names, over a project; None: over the installation, and so over every project."""

    project: ProjectId | None = None
    role: Role | None = None
    actions: tuple[Action, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """What one caller holds. `ceiling`: the highest level of services that it may have to do with, None: any."""

    kind: PrincipalKind = PrincipalKind.PERSON
    grants: tuple[Grant, ...] = ()
    ceiling: Level | None = None
    enabled: bool = True
    expires_at: datetime | None = None

    def active(self, now: datetime) -> bool:
        """Whether it may do anything at all: it is neither switched off nor past its time."""
        return self.enabled and (self.expires_at is None or now < self.expires_at)

    @property
    def projects(self) -> frozenset[ProjectId | None]:
        """Where it holds anything."""
        return frozenset(one.project for one in self.grants if one.role is not None or one.actions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What an action is about: the installation, a realm, a site, or a service with its level. `project` None is the
    installation, and for a service any project."""

    about: About
    project: ProjectId | None = None
    level: Level = Level.PUBLIC


def over(action: Action, project: ProjectId | None, level: Level = Level.PUBLIC) -> Resource:
    """What the action is about, in this project; a service of this level. The installation and its sites are in no
    project."""
    about = ABOUT[action]
    if about in (About.INSTALLATION, About.SITE):
        return Resource(about=about)
    return Resource(about=about, project=project, level=level if about is About.SERVICE else Level.PUBLIC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """Whether an action is allowed. Where a rule forbids it: its id, what it says and the next step; without one,
    nothing allows it. `problem`: what was wrong with the question itself, which refuses like any rule."""

    allowed: bool
    rule: str = ""
    title: str = ""
    advice: str = ""
    problem: str = ""
