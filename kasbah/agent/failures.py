"""How the replicas of one revision ended unasked, and what follows: how long to wait, and whether to hold callers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kasbah.decide.reconcile import back_off

FORGIVEN_ENDS = 3
"""So many ends in a row of replicas that had been ready are waited out by who is held: something else killed them. A
start that fails is not, since the next one will mostly fail too."""


@dataclass(slots=True)
class Failures:
    """Ends in a row that nobody asked for, and the reason of the last one; "" once a replica is ready again."""

    count: int = 0
    reason: str = ""
    _last: datetime | None = None
    _was_ready: bool = False

    def note(self, reason: str, *, was_ready: bool, lasted: bool, now: datetime) -> None:
        """One more. After one that had `lasted` the counting starts over."""
        self.count = 1 if lasted else self.count + 1
        self.reason, self._last, self._was_ready = reason, now, was_ready

    def forgive(self) -> None:
        """What failed before does not count."""
        self.count, self.reason, self._last = 0, "", None

    @property
    def pause_ends(self) -> datetime | None:
        """Until when no replica is started; None: nothing has failed."""
        return None if self._last is None else self._last + back_off(self.count)

    @property
    def broken(self) -> bool:
        """Whether nobody is held for the next start."""
        return self.count > (FORGIVEN_ENDS if self._was_ready else 1)
