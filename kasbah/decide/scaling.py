"""How many replicas of a revision, and how deeply may it sleep? One pure function, run by the agent and the simulator.

    running --freeze_after--> frozen --stop_after--> stopped        any request: back to running

Idle means that nothing is in flight and nobody waits; both times count from the last moment that was not so.

While it is used, there are at once as many replicas as the requests in flight and waiting need, `concurrency` each. A
replica descends as the whole does, from the last moment it was needed: it runs on for the scale-down delay; then it is
frozen, where the file freezes, until `stop_after`, and the next peak finds it milliseconds away. Where nothing is
frozen the way back is a start, so the delay is that much longer.

Why this rule, and which others lost on recorded traffic: docs/decisions/0012-scaling-rule.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from kasbah.domain.service import Command, Scaling, Sleep


class Rung(StrEnum):
    """How deeply a revision sleeps."""

    RUNNING = "running"
    FROZEN = "frozen"
    STOPPED = "stopped"


DEPTH = {Rung.RUNNING: 0, Rung.FROZEN: 1, Rung.STOPPED: 2}
ASKED = {Command.SLEEP: Rung.FROZEN, Command.STOP: Rung.STOPPED}
SOON = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """How long a replica that is not needed runs on: `scale_down`, and where it is not frozen at least `starts` times
    what a start takes. `start` stands for one that was never measured."""

    scale_down: timedelta = timedelta(seconds=10)
    starts: int = 15
    start: timedelta = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a revision carries now: requests in flight on its replicas, those begun since the last look (short ones
    may be gone again), those held at the gate, and those that the gate let through at once."""

    in_flight: int = 0
    begun: int = 0
    waiting: int = 0
    arrived: int = 0

    @property
    def idle(self) -> bool:
        """Whether nobody uses it."""
        return not (self.in_flight or self.begun or self.waiting or self.arrived)

    @property
    def called(self) -> bool:
        """Whether somebody came who found it asleep, or falling asleep."""
        return bool(self.waiting or self.arrived)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingMemory:
    """What the rule must remember between two looks: the rung it chose last; when the first, the second, ... replica
    was needed last, so never a later one after an earlier one; and the sleep a person asked for, which waits for the
    first idle moment and lasts until the next use."""

    rung: Rung
    last_used: datetime
    needed: tuple[datetime, ...] = ()
    command: Command | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The answer: the rung, the replicas awake on it, how many may be frozen beside them (None: those that are), why,
    and when to look again if nothing happens (None: never)."""

    rung: Rung
    replicas: int
    reason: str
    look_again: datetime | None = None
    frozen: int | None = None


def scale(
    scaling: Scaling,
    sleep: Sleep,
    *,
    replicas: int,
    load: Load,
    memory: ScalingMemory,
    now: datetime,
    frozen: int = 0,
    start: timedelta | None = None,
    delays: Delays = Delays(),
) -> tuple[Target, ScalingMemory]:
    """The rung and the number of replicas that a revision should have; `replicas` are awake now, and `frozen` frozen.
    `start` is how long a start takes, where that is known."""
    woken = memory.command is Command.WAKE or _is_used(load, memory)
    if woken:
        pending = memory.command if memory.command in ASKED and memory.rung is Rung.RUNNING else None
        memory = replace(memory, rung=Rung.RUNNING, last_used=now, command=pending)
    rung = memory.rung if woken else _rung(scaling, sleep, memory, now)
    if rung is not memory.rung:
        memory = replace(memory, rung=rung)
    look_again = _next_rung_at(scaling, sleep, memory, now)
    if rung is not Rung.RUNNING:
        memory = replace(memory, needed=memory.needed if rung is Rung.FROZEN else ())
        reason = "put to sleep" if memory.command else "unused"
        return Target(rung=rung, replicas=0, reason=reason, look_again=look_again), memory
    delay = _delay(sleep, start, delays)
    stop_after = delay if sleep.freeze_after is None else sleep.stop_after
    known = memory.needed or (memory.last_used,) * replicas + (memory.last_used - delay,) * frozen
    needed = _needed(known, _wanted(scaling, load), now, stop_after)[: scaling.max]
    least = max(scaling.min, 1)
    count = max(sum(now - at < delay for at in needed), least)
    changes = (look_again, needed[count - 1] + delay if count > least else None,
               needed[-1] + stop_after if len(needed) > count and stop_after is not None else None)  # fmt: skip
    target = Target(rung=rung, replicas=count, frozen=len(needed) - count,
                    reason=f"{load.in_flight + load.waiting} in flight",
                    look_again=min((at for at in changes if at is not None), default=None))  # fmt: skip
    return target, replace(memory, needed=needed)


def _is_used(load: Load, memory: ScalingMemory) -> bool:
    """What was put to sleep wakes for new callers only: what its replicas still carry began before, and is drained."""
    put_to_sleep = memory.command in ASKED and memory.rung is not Rung.RUNNING
    return load.called if put_to_sleep else not load.idle


def _rung(scaling: Scaling, sleep: Sleep, memory: ScalingMemory, now: datetime) -> Rung:
    """How deeply it may sleep by now: an unused revision only ever descends."""
    if scaling.min > 0 and memory.command is None:
        return Rung.RUNNING
    idle = now - memory.last_used
    reached = [memory.rung]
    if memory.command in ASKED:
        reached.append(ASKED[memory.command])
    if sleep.freeze_after is not None and idle >= sleep.freeze_after:
        reached.append(Rung.FROZEN)
    if sleep.stop_after is not None and idle >= sleep.stop_after:
        reached.append(Rung.STOPPED)
    return max(reached, key=DEPTH.__getitem__)


def _next_rung_at(scaling: Scaling, sleep: Sleep, memory: ScalingMemory, now: datetime) -> datetime | None:
    if memory.rung is Rung.RUNNING and memory.command in ASKED:
        return now + SOON  # the sleep asked for begins at the first idle moment, which may come unannounced
    if memory.rung is Rung.STOPPED or (scaling.min > 0 and memory.command is None):
        return None
    times = (sleep.stop_after,) if memory.rung is Rung.FROZEN else (sleep.freeze_after, sleep.stop_after)
    ahead = [memory.last_used + one for one in times if one is not None and memory.last_used + one > now]
    return min(ahead, default=None)


def _delay(sleep: Sleep, start: timedelta | None, delays: Delays) -> timedelta:
    """How long a replica runs on that is not needed: the longer, the dearer its way back, but no longer than the last
    one would."""
    if sleep.freeze_after is not None:
        return delays.scale_down
    delay = max(delays.scale_down, delays.starts * (delays.start if start is None else start))
    return delay if sleep.stop_after is None else min(delay, sleep.stop_after)


def _wanted(scaling: Scaling, load: Load) -> int:
    """Replicas for what is in flight and waits now; one that is awake is one at the least."""
    return min(max(math.ceil((load.in_flight + load.waiting) / scaling.concurrency), scaling.min, 1), scaling.max)


def _needed(
    known: tuple[datetime, ...], wanted: int, now: datetime, stop_after: timedelta | None
) -> tuple[datetime, ...]:
    """When each replica was needed last, without those that were not for too long. A clock that was set back has not
    seen the future."""
    past = (min(at, now) for at in known[wanted:])
    return (now,) * wanted + tuple(at for at in past if stop_after is None or now - at < stop_after)
