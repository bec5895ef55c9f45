"""What a unit acts as, and through; and which revisions of a service there are units for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from kasbah.agent.live_replica import LiveReplica
from kasbah.clock import Clock
from kasbah.domain.ids import WakeId
from kasbah.domain.revision import Revision
from kasbah.domain.service import Service


class Role(StrEnum):
    """`serving` has a part of the traffic, be it 0; `trial` must show that it starts; `retired` only finishes what it
    has, those who wait for it included."""

    SERVING = "serving"
    TRIAL = "trial"
    RETIRED = "retired"


def _nobody_hears(_replica: LiveReplica, _why: str) -> None:
    """Where there is no audit log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What units act through. `site_waiting` counts the callers held at the whole site; `started` and `ended` hear of
    each replica, and why."""

    clock: Clock
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    site_waiting: Callable[[], int]
    holding_per_service: int
    holding_per_site: int
    new_wake_id: Callable[[], WakeId]
    changed: Callable[[], None]
    started: Callable[[LiveReplica, str], None] = _nobody_hears
    ended: Callable[[LiveReplica, str], None] = _nobody_hears


def roles_of(service: Service) -> Iterator[tuple[Revision, Role]]:
    """The revisions this site must be able to run now, and as what."""
    shared = {share.revision for share in service.shares}
    for revision in service.revisions:
        if revision.id in shared:
            yield revision, Role.SERVING
        elif service.trial is not None and service.trial.revision == revision.id:
            yield revision, Role.TRIAL
