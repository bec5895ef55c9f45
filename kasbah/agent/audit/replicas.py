"""Replicas in the site's log: when each was started and when it ended, and why; never what it did.

A wake waits for no disk: what happens is put in line, and a pass of its own writes what stands there, with one wait for
the disk. The line is bounded; past its end the log says how many were lost. What stands in it when the agent is killed,
at most a pass's period, is not in the log.
"""

from __future__ import annotations

import asyncio
from collections import deque

from kasbah.agent.audit.log import SiteLog, Told
from kasbah.agent.live_replica import LiveReplica
from kasbah.domain.ids import ReplicaId, RevisionId, ServiceId

LONGEST_LINE = 10_000


class ReplicaDiary:
    """Tells `site` of replicas, in the order in which things happened."""

    def __init__(self, site: SiteLog) -> None:
        self._site = site
        self._line: deque[Told] = deque()
        self._lost = 0

    def started(self, replica: LiveReplica, why: str) -> None:
        """The order to start it leaves now."""
        self._put(_told("start_replica", replica.service, replica.revision, replica.id, why))

    def ended(self, replica: LiveReplica, why: str) -> None:
        """It is gone, or was never there."""
        self._put(_told("end_replica", replica.service, replica.revision, replica.id, why))

    async def write(self) -> None:
        """Write what stands in line."""
        several = [self._line.popleft() for _ in range(len(self._line))]
        lost, self._lost = self._lost, 0
        if lost:
            several.append(Told(act="lose_entries", object="replicas", details={"entries": str(lost)}))
        if several:
            await asyncio.to_thread(self._site.tell, *several)

    def _put(self, told: Told) -> None:
        if len(self._line) >= LONGEST_LINE:
            self._lost += 1
        else:
            self._line.append(told)


def _told(act: str, service: ServiceId, revision: RevisionId, replica: ReplicaId, why: str) -> Told:
    details = {"replica": replica, "revision": revision}
    return Told(act=act, object=f"services/{service}", reason=why, details=details)
