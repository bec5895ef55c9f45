"""When is what the law took from this site erased? As soon as nothing works with it, not at the next housekeeping: its
logs, builds and sources may not be here either.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import Digest, ServiceId
from kasbah.loop import Loop


class Owed:
    """What was seen of that. A new one owes nothing: an agent that starts keeps house at once."""

    def __init__(self, housekeeping: Loop) -> None:
        self.housekeeping = housekeeping
        self._withdrawn: str | None = None
        self._refused: frozenset[str] = frozenset()
        self._owes = False
        self._seen: DesiredState | None = None
        self._sources: frozenset[Digest] = frozenset()

    def settle(
        self, desired: DesiredState | None, refused: Iterable[str], at_work: Set[ServiceId]
    ) -> frozenset[Digest]:
        """Have the house kept where that is due. `refused` are the services that this site itself refuses, by name;
        `at_work` those that have replicas or builds here. The sources that were wanted until now."""
        if desired is None:
            return frozenset()
        now = frozenset(refused)
        if self._withdrawn is not None and (desired.withdrawn != self._withdrawn or now - self._refused):
            self._owes = True
        self._withdrawn, self._refused = desired.withdrawn, now
        if self._owes and not at_work - {one.id for one in desired.services}:
            self._owes = False
            self.housekeeping.nudge()
        return self._no_more(desired)

    def _no_more(self, desired: DesiredState) -> frozenset[Digest]:
        if desired is self._seen:
            return frozenset()
        before, self._seen = self._sources, desired
        self._sources = desired.sources
        return before - self._sources
