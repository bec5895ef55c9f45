"""Drops what is kept for a while only: answers for callers that ask again, where requests came in, values of secrets
that nothing uses, salts of the audit log."""

from __future__ import annotations

from datetime import timedelta

from starlette.concurrency import run_in_threadpool

from kasbah.control.usecases.callers import WINDOW
from kasbah.control.usecases.work import Office

ANSWERS_KEPT = timedelta(hours=24)
SALTS_KEPT = timedelta(days=400)
"""For so long it can be proved from the audit log what a call sent."""


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
            work.tx.joinings.drop_before(work.now)
            work.tx.usage.drop_entries_before(work.now - 2 * WINDOW)
            revisions = work.tx.revisions.all()
            used = ((use.secret, use.version) for one in revisions for use in one.contents.secrets)
            if erased := work.tx.secrets.keep(used):
                work.journal.say("erase_secret_values", "secrets", values=erased, reason="nothing uses them")
            if forgotten := work.tx.audit.forget_salts(work.now - SALTS_KEPT):
                work.journal.say("erase_salts", "audit", salts=forgotten, reason="they were kept long enough")
