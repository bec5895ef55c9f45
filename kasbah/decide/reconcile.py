"""What must be done so that a revision's replicas become what the target asks? A plan with nothing left to choose.

Each step is idempotent and prints as a line. Steps that would disturb somebody (freezing, ending) name replicas that
were idle or surplus at the moment of deciding; whoever carries them out waits until nothing is in flight there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from kasbah.decide.scaling import Rung, Target
from kasbah.domain.ids import ReplicaId
from kasbah.domain.replica import Replica, ReplicaState

FIRST_BACK_OFF = timedelta(seconds=1)
LONGEST_BACK_OFF = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Start one more replica."""

    def __str__(self) -> str:
        return "start a replica"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thaw:
    """Give this replica its CPU back."""

    replica: ReplicaId

    def __str__(self) -> str:
        return f"thaw {self.replica}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Give a draining replica its traffic back."""

    replica: ReplicaId

    def __str__(self) -> str:
        return f"resume {self.replica}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """Drain this replica, then take its CPU."""

    replica: ReplicaId

    def __str__(self) -> str:
        return f"drain and freeze {self.replica}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Drain this replica, then end it."""

    replica: ReplicaId

    def __str__(self) -> str:
        return f"drain and stop {self.replica}"


Step = Start | Thaw | Resume | Freeze | Stop

AWAKE = (ReplicaState.READY, ReplicaState.STARTING, ReplicaState.UNREADY)


def reconcile(
    target: Target, replicas: tuple[Replica, ...], *, may_start: bool, exclusive: bool = False
) -> tuple[Step, ...]:
    """The steps from these replicas to the target.

    `may_start` is false while a back-off lasts or the build is not there. `exclusive`: a fixed port or a volume, so
    nothing is started while any replica, ending ones included, still holds it.
    """
    if target.rung is Rung.RUNNING:
        return _to_running(target.replicas, target.frozen, replicas, may_start, exclusive)
    if target.rung is Rung.FROZEN:
        return tuple(
            Freeze(replica=one.id) for one in replicas if one.state in (ReplicaState.READY, ReplicaState.UNREADY)
        )
    stoppable = (*AWAKE, ReplicaState.FROZEN, ReplicaState.DRAINING)
    return tuple(Stop(replica=one.id) for one in replicas if one.state in stoppable)


def _to_running(
    count: int, frozen: int | None, replicas: tuple[Replica, ...], may_start: bool, exclusive: bool
) -> tuple[Step, ...]:
    awake = sorted((one for one in replicas if one.state in AWAKE), key=_worth, reverse=True)
    draining = [one for one in replicas if one.state is ReplicaState.DRAINING]
    asleep = [one for one in replicas if one.state is ReplicaState.FROZEN]
    steps: list[Step] = list(_put_away(awake[count:], (frozen or 0) - len(asleep)))
    put_away = sum(isinstance(step, Freeze) for step in steps)
    missing = max(count - len(awake), 0)
    resumed, thawed = draining[:missing], asleep[: max(missing - len(draining), 0)]
    steps.extend(Resume(replica=one.id) for one in resumed)
    steps.extend(Thaw(replica=one.id) for one in thawed)
    if frozen is not None:
        left = [*asleep[len(thawed) :], *draining[len(resumed) :]]
        steps.extend(Stop(replica=one.id) for one in left[max(frozen - put_away, 0) :])
    ending = any(one.state is not ReplicaState.ENDED for one in replicas)
    if may_start and not (exclusive and ending):
        steps.extend(Start() for _ in range(missing - len(resumed) - len(thawed)))
    return tuple(steps)


def _put_away(surplus: list[Replica], room: int) -> Iterator[Step]:
    """Freeze as many as may be, end the others. What is starting is frozen once it has started: to end it now would be
    to pay for its start and have nothing."""
    for place, one in enumerate(surplus):
        if place >= room or one.state is ReplicaState.UNREADY:
            yield Stop(replica=one.id)
        elif one.state is ReplicaState.READY:
            yield Freeze(replica=one.id)


def _worth(replica: Replica) -> tuple[bool, bool, int, float, str]:
    """Ready ones first, then those that carry more, then the oldest: what is least worth keeping comes last."""
    ready, starting = replica.state is ReplicaState.READY, replica.state is ReplicaState.STARTING
    return (ready, starting, replica.in_flight, -replica.since.timestamp(), replica.id)


def back_off(failures: int) -> timedelta:
    """How long to wait before the next start after this many failures in a row: none, 1 s, doubling, a minute."""
    if failures <= 1:
        return timedelta(0)
    doubled: timedelta = FIRST_BACK_OFF * int(2 ** min(failures - 2, 10))
    return min(doubled, LONGEST_BACK_OFF)
