"""Carries on every rollout that has not ended: reads, decides without a transaction, and commits what changes."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool

from kasbah.control.usecases.advance import Move, Snapshot, commit, decide, snapshot
from kasbah.control.usecases.work import Office


class Rollouts:
    """One pass over the open rollouts."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def carry_on(self) -> None:
        """The pass."""
        await run_in_threadpool(self._pass)

    def _pass(self) -> None:
        with self._office.read() as work:
            found = [snapshot(work, rollout) for rollout in work.tx.rollouts.open()]
        for seen in found:
            if seen is None:
                continue
            move = decide(seen, work.now)
            if move.changes(seen.rollout, seen.service.trial):
                self._commit(seen, move)

    def _commit(self, seen: Snapshot, move: Move) -> None:
        with self._office.write() as work:
            if move.placement is not None:  # the room that it found may have been given away since
                again = snapshot(work, seen.rollout)
                if again is None:
                    return
                seen, move = again, decide(again, work.now)
            commit(work, seen, move)
