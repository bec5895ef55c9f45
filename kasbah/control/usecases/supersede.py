"""Ends the rollout of a service that is under way, because something else is wanted now.

Traffic that moved in part returns to where it was; once all of it has moved, the rollout did what it was for.
"""

from __future__ import annotations

from dataclasses import replace

from kasbah.control.store.records import RolloutRecord, ServiceRecord
from kasbah.control.usecases.work import Work, rollout_topic, save_service
from kasbah.domain.rollout import RolloutState


def under_way(work: Work, service: ServiceRecord) -> RolloutRecord | None:
    """The rollout of a service that has not ended."""
    last = next(iter(work.tx.rollouts.last((service.id,))), None)
    return last if last is not None and not last.state.ended else None


def supersede(work: Work, service: ServiceRecord, *, by: str) -> ServiceRecord:
    """End the rollout under way, if there is one; the service as it is then."""
    going = under_way(work, service)
    if going is None:
        return service
    end(work, going, by)
    returned = service if going.percent == 100 else replace(service, shares=going.before, trial=None)
    return service if returned == service else save_service(work, returned)


def end(work: Work, rollout: RolloutRecord, reason: str) -> RolloutRecord:
    """Write that a rollout is over: done where it had moved all traffic, else superseded."""
    done = rollout.percent == 100
    ended = replace(
        rollout,
        state=RolloutState.DONE if done else RolloutState.SUPERSEDED,
        step="",
        reason="" if done else reason,
        changed_at=work.now,
        version=rollout.version + 1,
    )
    work.tx.rollouts.save(ended)
    work.touched.add(rollout_topic(rollout.id))
    return ended
