"""Who may do what: the roles as they are written down by hand, and what holds whatever was granted."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cedarpy
import pytest
from access_table import MAY, OF_THE_INSTALLATION
from hypothesis import given
from hypothesis import strategies as st

from kasbah.access_rules import rules, schema, shipped_access
from kasbah.decide.access import Permissions, access_rules, may
from kasbah.domain.access import Action, Grant, Principal, PrincipalKind, Resource, Role, over
from kasbah.domain.ids import ProjectId
from kasbah.domain.label import Level

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "access.md"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OWN, OTHER = ProjectId("pr-own"), ProjectId("pr-other")
PERMISSIONS = Permissions(rules=shipped_access())


def allowed(principal: Principal, action: Action, project: ProjectId | None, level: Level = Level.PUBLIC) -> bool:
    return PERMISSIONS.may(principal, action, over(action, project, level), NOW).allowed


def test_the_schema_has_the_same_actions() -> None:
    assert set(re.findall(r'"([a-z]+\.[a-z]+)"', schema())) == {action.value for action in Action}


def test_the_how_to_has_the_same_table() -> None:
    rows = re.findall(r"^\| (`[a-z]+\.[a-z]+`.*) \|$", HOW_TO.read_text(), re.MULTILINE)
    told: dict[str, set[str]] = {role: set() for role in MAY}
    for row in rows:
        actions, *cells = (cell.strip() for cell in row.split("|"))
        for role, cell in zip(MAY, cells, strict=True):
            told[role] |= set(re.findall(r"`([a-z.]+)`", actions)) if cell == "yes" else set()
    assert told == {role: actions | {"installation.read"} for role, actions in MAY.items()}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("action", Action)
def test_a_role_may_what_is_written_down(role: Role, action: Action) -> None:
    expected = action.value in MAY[role] or action is Action.INSTALLATION_READ
    everywhere, there = Principal(grants=(Grant(role=role),)), Principal(grants=(Grant(project=OWN, role=role),))
    assert allowed(everywhere, action, OWN) is expected
    in_project = action.value not in OF_THE_INSTALLATION or action is Action.INSTALLATION_READ
    assert allowed(there, action, OWN) is (expected and in_project)
    if action is not Action.INSTALLATION_READ:
        assert not allowed(there, action, OTHER)
        assert not allowed(there, action, None)


@pytest.mark.parametrize("action", Action)
def test_an_action_by_its_name_is_that_action_there_and_no_other(action: Action) -> None:
    principal = Principal(grants=(Grant(project=OWN, actions=(action,)),))
    found = {one for one in Action if allowed(principal, one, OWN)} - {Action.INSTALLATION_READ}
    assert found == ({action} if action.value not in OF_THE_INSTALLATION else set())
    everywhere = Principal(grants=(Grant(actions=(action,)),))
    assert {one for one in Action if allowed(everywhere, one, OTHER)} == {action, Action.INSTALLATION_READ}


OWNER = Principal(grants=(Grant(role=Role.OWNER),))
REFUSING = {
    "switched off": (replace(OWNER, enabled=False), "inactive"),
    "expired": (replace(OWNER, expires_at=NOW), "inactive"),
    "below the label": (replace(OWNER, ceiling=Level.INTERNAL), "ceiling"),
}


@pytest.mark.parametrize("why", REFUSING)
def test_what_takes_a_right_away_says_so(why: str) -> None:
    principal, rule = REFUSING[why]
    found = PERMISSIONS.may(principal, Action.SERVICE_DEPLOY, over(Action.SERVICE_DEPLOY, OWN, Level.RESTRICTED), NOW)
    assert (found.allowed, found.rule) == (False, rule)
    assert found.title
    assert found.advice


def test_until_its_last_moment_it_may() -> None:
    assert allowed(replace(OWNER, expires_at=NOW + timedelta(seconds=1)), Action.SERVICE_DEPLOY, OWN)


@pytest.mark.parametrize("action", [Action.TOKEN_CREATE, Action.TOKEN_ENABLE])
def test_software_gives_nobody_rights(action: Action) -> None:
    software = Principal(kind=PrincipalKind.SOFTWARE, grants=(Grant(role=Role.OWNER), Grant(actions=(action,))))
    assert not allowed(software, action, OWN)
    assert allowed(replace(software, kind=PrincipalKind.PERSON), action, OWN)


def test_an_error_in_the_answer_refuses() -> None:
    """A forbid that errs is skipped by Cedar, which then allows."""
    erring = '@id("erring") forbid (principal, action, resource) when { 9223372036854775807 + 1 == 2 };'
    broken = access_rules(rules() + erring, schema())
    asked = over(Action.SERVICE_READ, OWN)
    assert may(shipped_access(), OWNER, Action.SERVICE_READ, asked, NOW).allowed
    found = may(broken, OWNER, Action.SERVICE_READ, asked, NOW)
    assert not found.allowed
    assert "could not be applied" in found.problem
    bare = cedarpy.is_authorized(
        {"principal": 'U::"u"', "action": 'A::"a"', "resource": 'R::"r"', "context": {}},
        f"permit (principal, action, resource);\n{erring}",
        json.dumps([]),
    )
    assert bare.decision is cedarpy.Decision.Allow, "Cedar itself refuses by now: this guard may go"


def test_a_question_that_does_not_fit_is_refused() -> None:
    """A service where the installation belongs."""
    wrong = over(Action.SERVICE_READ, OWN)
    found = may(shipped_access(), OWNER, Action.AUDIT_READ, wrong, NOW)
    assert not found.allowed
    assert found.problem


def test_rules_that_are_not_sound_are_never_read() -> None:
    with pytest.raises(ValueError, match="not sound"):
        access_rules(rules() + '@id("x") permit (principal, action, resource) when { resource.nothing };', schema())


# --- properties -------------------------------------------------------------------------------------------------------

PROJECTS = st.sampled_from([None, OWN, OTHER])
GRANTS = st.builds(
    Grant,
    project=PROJECTS,
    role=st.none() | st.sampled_from(Role),
    actions=st.lists(st.sampled_from(Action), max_size=3, unique=True).map(tuple),
)
PRINCIPALS = st.builds(
    Principal,
    kind=st.sampled_from(PrincipalKind),
    grants=st.lists(GRANTS, max_size=4).map(tuple),
    ceiling=st.none() | st.sampled_from(Level),
    enabled=st.booleans(),
    expires_at=st.none() | st.sampled_from([NOW, NOW + timedelta(days=1), NOW + timedelta(days=2)]),
)
ASKED = st.tuples(st.sampled_from(Action), PROJECTS, st.sampled_from(Level))


@given(principal=PRINCIPALS, asked=ASKED)
def test_whoever_was_granted_nothing_may_nothing(principal: Principal, asked: tuple[Action, ProjectId, Level]) -> None:
    assert not allowed(replace(principal, grants=()), *asked)
    empty = tuple(replace(grant, role=None, actions=()) for grant in principal.grants)
    assert not allowed(replace(principal, grants=empty), *asked)


@given(principal=PRINCIPALS, more=GRANTS, asked=ASKED)
def test_a_grant_more_takes_nothing_away(
    principal: Principal, more: Grant, asked: tuple[Action, ProjectId, Level]
) -> None:
    if allowed(principal, *asked):
        assert allowed(replace(principal, grants=(*principal.grants, more)), *asked)


@given(principal=PRINCIPALS, asked=ASKED)
def test_what_is_not_active_may_nothing_and_a_ceiling_only_takes_away(
    principal: Principal, asked: tuple[Action, ProjectId, Level]
) -> None:
    assert not allowed(replace(principal, enabled=False), *asked)
    assert not allowed(replace(principal, expires_at=NOW), *asked)
    if allowed(principal, *asked):
        assert allowed(replace(principal, ceiling=None), *asked)
        action, project, level = asked
        assert principal.ceiling is None or over(action, project, level).level <= principal.ceiling


@given(principal=PRINCIPALS, asked=ASKED)
def test_what_is_granted_in_one_project_gives_nothing_in_another(
    principal: Principal, asked: tuple[Action, ProjectId, Level]
) -> None:
    action, _, level = asked
    own = replace(principal, grants=tuple(replace(grant, project=OWN) for grant in principal.grants))
    for project in (OTHER, None):
        assert action is Action.INSTALLATION_READ or not allowed(own, action, project, level)


@given(giver=PRINCIPALS, wanted=PRINCIPALS, asked=ASKED)
def test_what_may_be_given_is_never_more_than_the_giver_has(
    giver: Principal, wanted: Principal, asked: tuple[Action, ProjectId, Level]
) -> None:
    if PERMISSIONS.exceeds(giver, wanted, NOW):
        return
    assert not allowed(wanted, *asked) or allowed(giver, *asked)
    if giver.expires_at is not None:
        assert wanted.expires_at is not None
        assert wanted.expires_at <= giver.expires_at


@given(giver=PRINCIPALS)
def test_what_one_has_one_may_give(giver: Principal) -> None:
    assert not PERMISSIONS.exceeds(giver, replace(giver, enabled=True), NOW) or not giver.active(NOW)


def test_what_exceeds_is_named() -> None:
    deployer = Principal(grants=(Grant(project=OWN, role=Role.DEPLOYER),), ceiling=Level.INTERNAL)
    given = replace(deployer, grants=(Grant(project=OWN, role=Role.OWNER),))
    assert PERMISSIONS.exceeds(deployer, given, NOW) == "key.read"
    assert PERMISSIONS.exceeds(deployer, replace(deployer, ceiling=None), NOW) == "a label above internal"
    elsewhere = replace(deployer, grants=(Grant(project=OTHER, actions=(Action.SERVICE_READ,)),))
    assert PERMISSIONS.exceeds(deployer, elsewhere, NOW) == "service.read"
    dated = replace(deployer, expires_at=NOW + timedelta(days=1))
    assert PERMISSIONS.exceeds(dated, deployer, NOW).startswith("anything after 2026-03-02")


def test_a_resource_of_the_installation_is_in_no_project() -> None:
    assert over(Action.SITE_READ, OWN) == Resource(about=over(Action.SITE_READ, None).about)
