"""Rollouts: how far a deploy has come."""

from __future__ import annotations

from typing import Annotated

from fastapi.responses import Response

from kasbah.api import public
from kasbah.control import views
from kasbah.control.http.call import Call, may, render, the_rollout
from kasbah.control.http.routers import for_people
from kasbah.control.http.waiting import After, Wait, until
from kasbah.control.usecases.describe import describe_rollout
from kasbah.control.usecases.work import rollout_topic, token_topic
from kasbah.domain.access import Action
from kasbah.domain.ids import RolloutId

router = for_people("/rollouts", "rollouts")


@router.get("/{rollout_id}", response_model=public.RolloutView)
async def follow(
    rollout_id: str, call: Annotated[Call, may(Action.SERVICE_READ, the_rollout)], after: After = None, wait: Wait = 0
) -> Response:
    """A rollout. With `after` and `wait`: once its version is another, or when the wait is over."""

    def look() -> public.RolloutView:
        with call.looking() as work:
            return views.rollout(*describe_rollout(work, call.caller, rollout_id))

    def is_new(found: public.RolloutView) -> bool:
        return after is None or found.version != after

    topics = (rollout_topic(RolloutId(rollout_id)), token_topic(call.caller.id))
    found = await until(call.office.changes, topics, look, is_new, wait)
    return render(found)
