"""Drops what is kept for a while only: answers for callers that ask again, values of secrets that nothing uses."""

from __future__ import annotations

from datetime import timedelta

from starlette.concurrency import run_in_threadpool

from kasbah.control.usecases.work import Office

ANSWERS_KEPT = timedelta(hours=24)


class Tidy:
    """One pass over what has become stale."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def sweep(self) -> None:
        """The pass."""
        await run_in_threadpool(self._pass)

    def _pass(self) -> None:
        with self._office.note() as work:
            work.tx.answers.drop_before(work.now - ANSWERS_KEPT)
            revisions = work.tx.revisions.all()
            work.tx.secrets.keep((use.secret, use.version) for one in revisions for use in one.contents.secrets)
