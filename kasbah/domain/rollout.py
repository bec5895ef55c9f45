"""A rollout: the slow half of a deploy, from a revision that exists to one that serves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from kasbah.domain.ids import RevisionId, RolloutId, ServiceId
from kasbah.domain.service import Share


class Strategy(StrEnum):
    """How traffic moves to a new revision that has proved that it starts.

    `rolling`: replica by replica. `blue-green`: all at once, when as many replicas are ready as served before.
    `canary`: by the steps of the rules, with a pause at each. `manual`: not by itself; a person sets shares.
    """

    ROLLING = "rolling"
    BLUE_GREEN = "blue-green"
    CANARY = "canary"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRules:
    """How a service's rollouts go.

    `steps` are the percentages at which a canary pauses, for `pause` each. After the last step, what served before is
    kept at hand for `watch`. While a new revision is paused or watched, traffic turns back if it cannot serve, or if
    more of its requests fail than failed before, by more than `tolerance` percent of them.
    """

    strategy: Strategy = Strategy.ROLLING
    steps: tuple[int, ...] = (10, 50)
    pause: timedelta = timedelta(minutes=2)
    watch: timedelta = timedelta(minutes=1)
    tolerance: int = 5


class RolloutState(StrEnum):
    """`waiting` for the source or for a place, then `building`, `starting`; `shifting` while traffic moves; `watching`
    once all of it has moved and it could still turn back; and one of three ends."""

    WAITING = "waiting"
    BUILDING = "building"
    STARTING = "starting"
    SHIFTING = "shifting"
    WATCHING = "watching"
    DONE = "done"
    FAILED = "failed"
    SUPERSEDED = "superseded"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self in (RolloutState.DONE, RolloutState.FAILED, RolloutState.SUPERSEDED)


class Cause(StrEnum):
    """What began a rollout: a deploy of a revision, or a return to one that served before."""

    DEPLOY = "deploy"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One rollout. `before` are the shares when it began, `percent` is the traffic that it has moved so far, the last
    of it at `moved_at`. `reason` says why it waits or failed, `tail` the last lines of what failed."""

    id: RolloutId
    service: ServiceId
    revision: RevisionId
    state: RolloutState
    started_at: datetime
    changed_at: datetime
    rules: RolloutRules = RolloutRules()
    cause: Cause = Cause.DEPLOY
    before: tuple[Share, ...] = ()
    percent: int = 0
    moved_at: datetime | None = None
    reason: str = ""
    tail: tuple[str, ...] = ()

    @property
    def previous(self) -> RevisionId | None:
        """The revision that had the most traffic when it began."""
        return max(self.before, key=lambda share: share.percent).revision if self.before else None
