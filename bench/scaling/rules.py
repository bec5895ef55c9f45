"""What decides in a replay: the shipped rule, and two that people would have instead, written afresh from what is
published about them.

- Fixed keep-alive, as functions as a service have it: as many replicas as the requests need, each kept for N seconds
  after it was last needed.
- Knative's autoscaler with its published defaults (knative.dev/docs/serving/autoscaling): target utilisation 70 %,
  stable window 60 s, panic window a tenth of it, panic from twice what there is, at most halved in a look, a look each
  2 s and at once when a request finds nothing, 30 s of grace before the last replica ends.
"""

from __future__ import annotations

import math
from collections import deque
from datetime import timedelta

from bench.scaling.simulation import CONCURRENCY, EPOCH, MILLISECOND, MOST_REPLICAS
from kasbah.decide.scaling import Load, Rung, ScalingMemory, Target, scale
from kasbah.domain.service import Scaling, Sleep

TICK_MS = 2_000
SCALING = Scaling(min=0, max=MOST_REPLICAS, concurrency=CONCURRENCY, max_concurrency=CONCURRENCY)
SLEEP = Sleep()
UNFROZEN = Sleep(freeze_after=None, stop_after=timedelta(minutes=10))


class Shipped:
    """The very function that the agent runs, with its memory; it knows how long a start takes, as the agent does after
    the first."""

    def __init__(self, start_ms: int, sleep: Sleep = SLEEP) -> None:
        self._start, self._sleep = start_ms * MILLISECOND, sleep
        self._memory = ScalingMemory(rung=Rung.STOPPED, last_used=EPOCH)

    def look(self, load: Load, replicas: int, now: int) -> Target:
        at = EPOCH + now * MILLISECOND
        target, self._memory = scale(
            SCALING, self._sleep, replicas=replicas, load=load, memory=self._memory, now=at, start=self._start
        )
        return target


class KeepAlive:
    """See the module."""

    def __init__(self, keep_ms: int) -> None:
        self._keep_ms = keep_ms
        self._needed_at: list[int] = []  # when the first, second, ... replica was needed last: never increasing

    def look(self, load: Load, replicas: int, now: int) -> Target:
        needed = min(math.ceil((load.in_flight + load.waiting) / CONCURRENCY), MOST_REPLICAS)
        if not load.idle:
            needed = max(needed, 1)
        kept = [at for at in self._needed_at[needed:] if now - at < self._keep_ms]
        self._needed_at = [now] * needed + kept
        return _target(len(self._needed_at), self._needed_at[-1] + self._keep_ms if self._needed_at else None)


class KnativeLike:
    """See the module."""

    def __init__(self) -> None:
        self._seconds: deque[list[int]] = deque()  # which, and the request-milliseconds in it
        self._seen, self._seen_at = 0, 0
        self._panic_since: int | None = None
        self._panic_count = 0
        self._decided = -TICK_MS
        self._count = 0
        self._empty_since: int | None = None

    def look(self, load: Load, replicas: int, now: int) -> Target:
        self._note(now)
        self._seen, self._seen_at = load.in_flight + load.waiting, now
        if load.waiting and not replicas:
            self._count = max(self._count, 1)
        if now // TICK_MS > self._decided // TICK_MS:
            self._decided = now
            self._count = self._decide(replicas, now)
        again = (now // TICK_MS + 1) * TICK_MS
        return _target(self._count, again if self._count or not load.idle else None)

    def _note(self, now: int) -> None:
        """What was seen last lasted until now."""
        at = max(self._seen_at, now - 60_000)
        while at < now:
            second = at // 1_000
            until = min(now, (second + 1) * 1_000)
            if not self._seconds or self._seconds[-1][0] != second:
                self._seconds.append([second, 0])
            self._seconds[-1][1] += (until - at) * self._seen
            at = until
        while self._seconds and self._seconds[0][0] < now // 1_000 - 60:
            self._seconds.popleft()

    def _mean(self, now: int, window: int) -> float:
        """Of the last seconds that are over, as far back as there were any."""
        this = now // 1_000
        area = sum(area for second, area in self._seconds if this - window <= second < this)
        return area / 1_000 / min(window, max(this, 1))

    def _decide(self, replicas: int, now: int) -> int:
        per_replica = CONCURRENCY * 0.7
        average = self._mean(now, 60)
        stable, panic = math.ceil(average / per_replica), math.ceil(self._mean(now, 6) / per_replica)
        stable = max(stable, replicas // 2)
        if panic >= 2 * max(replicas, 1):
            self._panic_since = now
        elif self._panic_since is not None and now - self._panic_since >= 60_000:
            self._panic_since, self._panic_count = None, 0
        if self._panic_since is not None:
            self._panic_count = max(self._panic_count, panic)
            return min(max(self._panic_count, stable), MOST_REPLICAS)
        if average:
            self._empty_since = None
            return min(max(stable, 1), MOST_REPLICAS)
        self._empty_since = now if self._empty_since is None else self._empty_since
        return 1 if self._seen or (replicas and now - self._empty_since < 30_000) else 0


def _target(count: int, again: int | None) -> Target:
    """Neither of them freezes."""
    look_again = None if again is None else EPOCH + again * MILLISECOND
    return Target(rung=Rung.RUNNING if count else Rung.STOPPED, replicas=count, reason="", look_again=look_again)
