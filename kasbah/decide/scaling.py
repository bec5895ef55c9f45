"""How many replicas of a revision, and how deeply may it sleep? One pure function, run by the agent and the simulator.

    running --freeze_after--> frozen --stop_after--> stopped        any request: back to running

Idle means that nothing is in flight and nobody waits; both times count from the last moment that was not so. While it
is used, the number of replicas follows the requests in flight: `concurrency` per replica on average over the stable
window, or over the short panic window while that asks for at least twice what there is. It grows at once and shrinks
only when the target has been lower for the whole scale-down delay.

The rule (stable and panic windows) is Knative's: knative.dev/docs/serving/autoscaling/kpa-specific.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The autoscaler's times."""

    stable: timedelta = timedelta(seconds=60)
    panic: timedelta = timedelta(seconds=6)
    scale_down_delay: timedelta = timedelta(seconds=30)
    panic_ratio: float = 2.0


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
    """What the rule must remember between two looks: the rung it chose last; (time, requests in flight or waiting),
    oldest first; when the target began to be below what there is; and the sleep a person asked for, which waits for
    the first idle moment and lasts until the next use."""

    rung: Rung
    last_used: datetime
    samples: tuple[tuple[datetime, int], ...] = ()
    lower_since: datetime | None = None
    command: Command | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The answer: the rung, the replicas awake on it, why, and when to look again if nothing happens (None: never)."""

    rung: Rung
    replicas: int
    reason: str
    look_again: datetime | None = None


def scale(
    scaling: Scaling,
    sleep: Sleep,
    *,
    replicas: int,
    load: Load,
    memory: ScalingMemory,
    now: datetime,
    windows: Windows = Windows(),
) -> tuple[Target, ScalingMemory]:
    """The rung and the number of replicas that a revision should have; `replicas` are awake now."""
    woken = memory.command is Command.WAKE or _is_used(load, memory)
    if woken:
        pending = memory.command if memory.command in ASKED and memory.rung is Rung.RUNNING else None
        memory = replace(memory, rung=Rung.RUNNING, last_used=now, command=pending)
    rung = memory.rung if woken else _rung(scaling, sleep, memory, now)
    memory = replace(memory, rung=rung, samples=_sampled(memory.samples, load, now, windows))
    look_again = _next_rung_at(scaling, sleep, memory, now, windows)
    if rung is not Rung.RUNNING:
        memory = replace(memory, samples=(), lower_since=None)
        reason = "put to sleep" if memory.command else "unused"
        return Target(rung=rung, replicas=0, reason=reason, look_again=look_again), memory
    wanted = max(_wanted(scaling, load, memory.samples, replicas, now, windows), 1)
    memory, count, shrink_at = _damped(wanted, min(replicas, scaling.max), memory, now, windows)
    if shrink_at is None and count > max(scaling.min, 1):
        shrink_at = now + windows.panic  # the windows empty as time passes, though nothing happens
    looks = [at for at in (look_again, shrink_at) if at is not None]
    target = Target(rung=rung, replicas=count, reason=f"{load.in_flight + load.waiting} in flight",
                    look_again=min(looks, default=None))  # fmt: skip
    return target, memory


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


def _next_rung_at(
    scaling: Scaling, sleep: Sleep, memory: ScalingMemory, now: datetime, windows: Windows
) -> datetime | None:
    if memory.rung is Rung.RUNNING and memory.command in ASKED:
        return now + windows.panic  # the sleep asked for begins at the first idle moment, which may come unannounced
    if memory.rung is Rung.STOPPED or (scaling.min > 0 and memory.command is None):
        return None
    times = (sleep.stop_after,) if memory.rung is Rung.FROZEN else (sleep.freeze_after, sleep.stop_after)
    ahead = [memory.last_used + one for one in times if one is not None and memory.last_used + one > now]
    return min(ahead, default=None)


def _sampled(
    samples: tuple[tuple[datetime, int], ...], load: Load, now: datetime, windows: Windows
) -> tuple[tuple[datetime, int], ...]:
    kept = tuple(sample for sample in samples if now - sample[0] <= windows.stable)
    return (*kept, (now, load.in_flight + load.waiting))


def _wanted(
    scaling: Scaling,
    load: Load,
    samples: tuple[tuple[datetime, int], ...],
    replicas: int,
    now: datetime,
    windows: Windows,
) -> int:
    """Replicas for the load: of the stable window, or of the panic window where that asks for twice what there is."""
    stable = _needed(_mean(samples, now - windows.stable), scaling)
    panic = _needed(max(_mean(samples, now - windows.panic), load.in_flight + load.waiting), scaling)
    panicking = panic >= windows.panic_ratio * max(replicas, 1)
    return min(max(panic if panicking else stable, scaling.min), scaling.max)


def _damped(
    wanted: int, replicas: int, memory: ScalingMemory, now: datetime, windows: Windows
) -> tuple[ScalingMemory, int, datetime | None]:
    """Grow at once; shrink only once fewer have been wanted for the whole delay."""
    if wanted >= replicas:
        return replace(memory, lower_since=None), wanted, None
    since = memory.lower_since or now
    memory = replace(memory, lower_since=since)
    if now - since >= windows.scale_down_delay:
        return memory, wanted, None
    return memory, replicas, since + windows.scale_down_delay


def _needed(in_flight: float, scaling: Scaling) -> int:
    return math.ceil(in_flight / scaling.concurrency)


def _mean(samples: tuple[tuple[datetime, int], ...], since: datetime) -> float:
    recent = [count for at, count in samples if at >= since]
    return sum(recent) / len(recent) if recent else 0.0
