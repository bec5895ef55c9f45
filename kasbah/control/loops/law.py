"""Carries a new law from site to site, and has services placed as law, sites and grants then say. Costs little while
nothing has changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from starlette.concurrency import run_in_threadpool

from kasbah.control.store.lawbooks import Arrival
from kasbah.control.usecases.placing import Estate, survey
from kasbah.control.usecases.roll_law import carry_on, step_of, under_way
from kasbah.control.usecases.uphold import due, uphold
from kasbah.control.usecases.work import Office, Work
from kasbah.decide.egress import Outside
from kasbah.decide.grants import Grants
from kasbah.decide.law_rollout import Act
from kasbah.domain.ids import SiteId
from kasbah.domain.law import Place
from kasbah.domain.observed import TurnedAway

LOOK_AGAIN = timedelta(minutes=10)
"""So often what was decided is looked at though nothing has happened."""
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What placements rest on, but for what changes all the time: the sites and what they can, the lawbooks that live
    and where they have arrived, the grants in force, and what sites refuse of themselves."""

    sites: dict[SiteId, Place]
    turned_away: tuple[tuple[TurnedAway, ...], ...]
    outside: tuple[Outside, ...]
    able: tuple[tuple[object, ...], ...]
    lawbooks: tuple[tuple[int, tuple[Arrival, ...]], ...]
    grants: Grants


class Law:
    """One pass over all services whenever something that placements rest on has changed, and at the start; again where
    a service waits for a site to report, or for another to serve, and now and then, as prices and callers move."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._known: Known | None = None
        self._settled = False
        self._looked = NEVER

    def unsettle(self) -> None:
        """Have the next pass look at everything again."""
        self._settled = False

    async def uphold(self) -> None:
        """The pass."""
        await run_in_threadpool(self._pass)

    def _pass(self) -> None:
        self._roll()
        with self._office.read() as work:
            found = _known(work, survey(work, room=False))
            if self._settled and found == self._known and abs(work.now - self._looked) < LOOK_AGAIN:
                return
            wanted, self._looked = due(work), work.now
        self._settled = wanted.settled
        if wanted.services or found != self._known:  # what sites are told depends on what is known of them, too
            with self._office.write() as work:
                self._settled = uphold(work)
        self._known = found

    def _roll(self) -> None:
        with self._office.read() as work:
            record = under_way(work)
            if record is None or step_of(work, record).act is Act.WAIT:
                return
        with self._office.write() as work:
            carry_on(work)


def _known(work: Work, estate: Estate) -> Known:
    return Known(
        sites=dict(estate.places),
        turned_away=tuple(site.report.turned_away if site.report else () for site in estate.sites),
        outside=estate.outside,
        able=tuple(
            (one.site, one.seen, one.connected, one.draining, one.lost, one.runtimes, one.egress)
            for one in estate.facts
        ),
        lawbooks=tuple((one.version, one.arrivals) for one in work.tx.lawbooks.live()),
        grants=estate.law.grants,
    )
