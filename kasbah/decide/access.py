"""May this principal do this to that object?

The one question that is asked before anything is shown or done. What no rule permits is refused, and any error in an
answer is a no: Cedar skips a policy that errs, so that an erring `forbid` would allow. Rules that do not validate
against the schema are never loaded.

A principal is asked about by what it holds and an object by its kind, project and level, so that thousands of services
are a few questions; `Permissions` remembers their answers.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import cedarpy

from kasbah.domain.access import About, Action, Grant, Permission, Principal, PrincipalKind, Resource, Role, over
from kasbah.domain.ids import ProjectId

INSTALLATION = "installation"
"""The realm of all: no project's id."""
CALLER = {"type": "Kasbah::Principal", "id": "caller"}
TYPES = {
    About.INSTALLATION: "Kasbah::Realm",
    About.REALM: "Kasbah::Realm",
    About.SITE: "Kasbah::Site",
    About.SERVICE: "Kasbah::Service",
}

Entity = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRules:
    """Rules in force, parsed once. `said` is what each says of itself, by the name that Cedar gives it."""

    policies: cedarpy.PolicySet
    schema: cedarpy.Schema
    said: Mapping[str, Mapping[str, str]]


def access_rules(rules: str, schema: str) -> AccessRules:
    """The rules in a text. Raises ValueError where one of them is not sound."""
    checked = cedarpy.validate_policies(rules, schema)
    if not checked.validation_passed:
        raise ValueError(f"a rule of access is not sound: {checked.errors[0].error}")
    read = json.loads(cedarpy.policies_to_json_str(rules))["staticPolicies"]
    return AccessRules(
        policies=cedarpy.PolicySet.from_str(rules),
        schema=cedarpy.Schema.from_str(schema),
        said={name: policy.get("annotations") or {} for name, policy in read.items()},
    )


def may(rules: AccessRules, principal: Principal, action: Action, resource: Resource, now: datetime) -> Permission:
    """Whether it may."""
    return _ask(rules, principal, action, resource, active=principal.active(now))


def _ask(rules: AccessRules, principal: Principal, action: Action, resource: Resource, *, active: bool) -> Permission:
    request = {
        "principal": CALLER,
        "action": {"type": "Kasbah::Action", "id": action.value},
        "resource": _uid(resource),
        "context": {"action": action.value},
    }
    try:
        entities = cedarpy.Entities.from_json_str(_entities(principal, resource, active=active), schema=rules.schema)
        answer = cedarpy.is_authorized(request, rules.policies, entities, rules.schema)
    except ValueError as error:
        return Permission(allowed=False, problem=f"the question could not be asked: {error}")
    if answer.diagnostics.errors:
        return Permission(allowed=False, problem=f"a rule could not be applied: {answer.diagnostics.errors[0]}")
    if answer.decision is cedarpy.Decision.Allow:
        return Permission(allowed=True)
    forbade = sorted((rules.said[name] for name in answer.diagnostics.reasons), key=lambda said: said["id"])
    if not forbade:
        return Permission(allowed=False)
    first = forbade[0]
    return Permission(allowed=False, rule=first["id"], title=first["title"], advice=first.get("advice", ""))


def _uid(resource: Resource) -> Mapping[str, str]:
    kind = TYPES[resource.about]
    return {"type": kind, "id": _realm(resource.project) if kind == TYPES[About.REALM] else resource.about.value}


def _realm(project: ProjectId | None) -> str:
    return INSTALLATION if project is None else project


def _reference(project: ProjectId | None) -> Mapping[str, str]:
    return {"type": TYPES[About.REALM], "id": _realm(project)}


def _entities(principal: Principal, resource: Resource, *, active: bool) -> str:
    found = [_caller(principal, active=active), *_realms(principal, resource)]
    if resource.about in (About.SITE, About.SERVICE):
        attributes = {"level": int(resource.level)} if resource.about is About.SERVICE else {}
        found.append({"uid": _uid(resource), "attrs": attributes, "parents": [_reference(resource.project)]})
    return json.dumps(found)


def _realms(principal: Principal, resource: Resource) -> list[Entity]:
    """The installation, and in it the projects that this is about."""
    projects = sorted({one for one in (resource.project, *principal.projects) if one is not None})
    whole: Entity = {"uid": _reference(None), "attrs": {}, "parents": []}
    return [whole, *({"uid": _reference(one), "attrs": {}, "parents": [_reference(None)]} for one in projects)]


def _caller(principal: Principal, *, active: bool) -> Entity:
    named: dict[str, set[ProjectId | None]] = defaultdict(set)
    for grant in principal.grants:
        for action in grant.actions:
            named[action.value].add(grant.project)
    attributes: dict[str, object] = {
        "software": principal.kind is PrincipalKind.SOFTWARE,
        "active": active,
        "member": bool(principal.projects),
        **{role.value: _references(_of_role(principal.grants, role)) for role in Role},
    }
    if principal.ceiling is not None:
        attributes["ceiling"] = int(principal.ceiling)
    tags = {action: _references(projects) for action, projects in named.items()}
    return {"uid": CALLER, "attrs": attributes, "tags": tags, "parents": []}


def _of_role(grants: Iterable[Grant], role: Role) -> set[ProjectId | None]:
    return {one.project for one in grants if one.role is role}


def _references(projects: Iterable[ProjectId | None]) -> list[Mapping[str, object]]:
    return [{"__entity": _reference(one)} for one in sorted(projects, key=_realm)]


MOST_KNOWN = 100_000


@dataclass(slots=True, kw_only=True)
class Permissions:
    """The answers under one set of rules."""

    rules: AccessRules
    _known: dict[tuple[Principal, bool, Action, Resource], Permission] = field(default_factory=dict)

    def may(self, principal: Principal, action: Action, resource: Resource, now: datetime) -> Permission:
        """As `may` says, asked once."""
        active = principal.active(now)
        asked = (principal, active, action, resource)
        found = self._known.get(asked)
        if found is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            found = self._known[asked] = _ask(self.rules, principal, action, resource, active=active)
        return found

    def exceeds(self, giver: Principal, given: Principal, now: datetime) -> str:
        """In words, the first right that `given` would have and `giver` has not; empty where there is none."""
        if giver.ceiling is not None and (given.ceiling is None or given.ceiling > giver.ceiling):
            return f"a label above {giver.ceiling.word}"
        if giver.expires_at is not None and (given.expires_at is None or given.expires_at > giver.expires_at):
            return f"anything after {giver.expires_at:%Y-%m-%d %H:%M:%S}Z"
        for project in sorted(given.projects, key=_realm):
            for action in Action:
                resource = over(action, project)
                if (
                    self.may(given, action, resource, now).allowed
                    and not self.may(giver, action, resource, now).allowed
                ):
                    return action.value
        return ""
