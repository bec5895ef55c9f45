"""May this caller do this here? Asked before anything is looked at, and again in the transaction that acts.

    does he hold anything there?     no: it is not found, as if it did not exist
    may he do this there?            no: refused, whether or not the object exists
    may he do it to this very one?   no (its label is above his ceiling): refused, with the reason

What a use case lists is filtered by the same question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from kasbah.api.public import DeployRequest
from kasbah.control.store.interface import Cursor
from kasbah.control.store.records import Project, ServiceRecord, TokenRecord
from kasbah.control.usecases.lawful import label_of
from kasbah.control.usecases.work import Work, project_named, unknown_project, unknown_rollout, unknown_token
from kasbah.decide.grants import lowers
from kasbah.domain.access import ABOUT, About, Action, Permission, over
from kasbah.domain.ids import ProjectId, RolloutId
from kasbah.domain.label import Level, combine
from kasbah.domain.listed import Listed
from kasbah.errors import Denied, Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """What a call is about, by the names in it. Without a project: whatever there is that he may."""

    project: str | None = None
    service: str | None = None
    rollout: str | None = None
    token: str | None = None


L = TypeVar("L", bound=Listed)


def permit(work: Work, caller: TokenRecord, action: Action, where: Where) -> None:
    """Let the call pass, or raise Denied or NotFound."""
    if ABOUT[action] in (About.INSTALLATION, About.SITE):
        permit_in(work, caller, action, None)
    elif where.rollout is not None:
        _permit_rollout(work, caller, action, where.rollout)
    elif where.project is None:
        _require_somewhere(work, caller, action)
        if where.token is not None:
            _permit_token(work, caller, action, where.token)
    else:
        project = _visible(work, caller, where.project)
        permit_in(work, caller, action, project.id)
        found = None if where.service is None else work.tx.services.find(project.id, where.service)
        if found is not None:
            permit_in(work, caller, action, found.project, level_of(work, found))


def permit_in(
    work: Work, caller: TokenRecord, action: Action, project: ProjectId | None, level: Level = Level.PUBLIC
) -> None:
    """Let the call pass for this project, and a service of this level; or raise Denied."""
    answer = _ask(work, caller, action, project, level)
    if not answer.allowed:
        raise _refused(caller, action, answer)


def permit_deploy(work: Work, caller: TokenRecord, action: Action, project: str, request: DeployRequest) -> None:
    """Let pass what may be made of this: its label, and those of the services that it is to call, are within the
    caller's ceiling."""
    owner = project_named(work.tx, project).id
    called = (work.tx.services.find(owner, name) for name in request.config.calls)
    for level in (request.config.label.level, *(level_of(work, one) for one in called if one is not None)):
        permit_in(work, caller, action, owner, level)


def holds(
    work: Work, caller: TokenRecord, action: Action, project: ProjectId | None, level: Level = Level.PUBLIC
) -> bool:
    """Whether the caller may do this there."""
    return _ask(work, caller, action, project, level).allowed


def sees(work: Work, caller: TokenRecord, project: Project) -> bool:
    """Whether the caller may know that there is this project."""
    return bool(caller.principal.projects & {project.id, None})


def sees_service(work: Work, caller: TokenRecord, service: ServiceRecord, action: Action = Action.SERVICE_READ) -> bool:
    """Whether the caller's lists have this service."""
    return holds(work, caller, action, service.project, level_of(work, service))


def level_of(work: Work, service: ServiceRecord) -> Level:
    """The level of a service's data as it is now, whatever it was deployed with: what lowered it may have ended."""
    if service.declared is None or not lowers(service.declared, service.label):
        return service.label.level
    try:
        return label_of(work.law, service).level
    except Unavailable:  # no law, no declassification
        return combine(service.label, service.declared).level


def holds_over(work: Work, caller: TokenRecord, action: Action, token: TokenRecord) -> bool:
    """Whether the caller may do this to a token: wherever that holds anything. One without grants is the
    installation's."""
    return all(holds(work, caller, action, one) for one in token.principal.projects or {None})


def visible(
    page: Callable[[Cursor | None, int], Sequence[L]], seen: Callable[[L], bool], after: Cursor | None, limit: int
) -> tuple[L, ...]:
    """The first `limit` of a list that are seen, read page by page."""
    found: list[L] = []
    while len(found) < limit:
        read = page(after, limit)
        found += (one for one in read if seen(one))
        if len(read) < limit:
            break
        after = (read[-1].name, read[-1].id)
    return tuple(found[:limit])


def _permit_rollout(work: Work, caller: TokenRecord, action: Action, rollout: str) -> None:
    _require_somewhere(work, caller, action)
    found = work.tx.rollouts.get(RolloutId(rollout))
    service = work.tx.services.get(found.service) if found else None
    if service is None or not caller.principal.projects & {service.project, None}:
        raise unknown_rollout(rollout)
    permit_in(work, caller, action, service.project)
    permit_in(work, caller, action, service.project, level_of(work, service))


def _permit_token(work: Work, caller: TokenRecord, action: Action, token: str) -> None:
    found = work.tx.tokens.find(token)
    if found is not None and not holds_over(work, caller, action, found):
        if not holds_over(work, caller, Action.TOKEN_READ, found):
            raise unknown_token(token)
        raise _refused(caller, action, Permission(allowed=False))


def _visible(work: Work, caller: TokenRecord, name: str) -> Project:
    """The project, if the caller may know of it."""
    found = project_named(work.tx, name)
    if not sees(work, caller, found):
        raise unknown_project(name)
    return found


def _require_somewhere(work: Work, caller: TokenRecord, action: Action) -> None:
    answers = [_ask(work, caller, action, one, Level.PUBLIC) for one in caller.principal.projects]
    if not any(one.allowed for one in answers):
        raise _refused(caller, action, next(iter(answers), Permission(allowed=False)))


def _ask(work: Work, caller: TokenRecord, action: Action, project: ProjectId | None, level: Level) -> Permission:
    return work.access.may(caller.principal, action, over(action, project, level), work.now)


CODES = {"ceiling": "label_ceiling", "software": "software_may_not"}


def _refused(caller: TokenRecord, action: Action, answer: Permission) -> Denied:
    who = f"the token {caller.name!r} may not {action}"
    if answer.problem:
        return Denied(f"{who}: {answer.problem}", hint="this is our bug: report it", code="access_undecided")
    if answer.rule:
        return Denied(f"{who}: {answer.title}", hint=answer.advice, code=CODES.get(answer.rule, "denied"))
    where = "--everywhere" if ABOUT[action] in (About.INSTALLATION, About.SITE) else "--project PROJECT"
    return Denied(
        f"{who} here: nothing that was granted to it allows this",
        hint=f"use a token that may, or have an owner make one: kasbah tokens create NAME --action {action} {where}",
        code="action_missing",
    )
