"""A rollout: the slow half of a deploy, from a revision that exists to one that serves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kasbah.domain.ids import RevisionId, RolloutId, ServiceId


class RolloutState(StrEnum):
    """`waiting` for the source or for a place, then `building`, `starting`, and one of three ends."""

    WAITING = "waiting"
    BUILDING = "building"
    STARTING = "starting"
    DONE = "done"
    FAILED = "failed"
    SUPERSEDED = "superseded"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self in (RolloutState.DONE, RolloutState.FAILED, RolloutState.SUPERSEDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One rollout. `reason` says why it waits or failed, `tail` the last lines of what failed."""

    id: RolloutId
    service: ServiceId
    revision: RevisionId
    previous: RevisionId | None
    state: RolloutState
    started_at: datetime
    changed_at: datetime
    reason: str = ""
    tail: tuple[str, ...] = ()
