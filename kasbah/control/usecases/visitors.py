"""Who of those that follow logs and run commands at a site still may? A ticket is good for moments, what is begun with
it lasts: a token that is switched off, a label that rises above a ceiling, a service that is deleted end that too.
"""

from __future__ import annotations

from collections.abc import Iterable

from kasbah.api.agent import Visitor
from kasbah.api.signing import EXEC, READ_LOGS
from kasbah.control.usecases.permit import holds, level_of
from kasbah.control.usecases.work import Work
from kasbah.domain.access import Action
from kasbah.domain.ids import ServiceId

ACTIONS = {READ_LOGS: Action.SERVICE_LOGS, EXEC: Action.SERVICE_EXEC}


def still_may(work: Work, visitors: Iterable[Visitor]) -> tuple[Visitor, ...]:
    """Those who might begin anew what they have begun."""
    return tuple(one for one in visitors if _may(work, one))


def _may(work: Work, visitor: Visitor) -> bool:
    token, action = work.tx.tokens.find(visitor.holder), ACTIONS.get(visitor.act)
    service = work.tx.services.get(ServiceId(visitor.object))
    if token is None or token.id != visitor.holder or action is None or service is None or service.deleted_at:
        return False
    return holds(work, token, action, service.project, level_of(work, service))
