"""Carries on every rollout that has not ended: reads, decides without a transaction, and commits what changes."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool

from kasbah.control.usecases.advance import commit, decide, snapshot
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
            seen = [snapshot(work, rollout) for rollout in work.tx.rollouts.open()]
        for one in seen:
            if one is None:
                continue
            move = decide(one, work.now)
            if move.changes(one.rollout, one.service.trial):
                with self._office.write() as writing:
                    commit(writing, one, move)
