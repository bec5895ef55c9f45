"""Which services are kept at stricter places than their label asks for, and what does that cost an hour?

"Just in case" is a price that nobody sees: a service pinned to few sites, or labelled as nobody declared, runs where it
costs more than at the cheapest site that the law would allow for it. This shows it, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kasbah.decide.needs import Needs, SiteFacts
from kasbah.decide.placement import place
from kasbah.decide.ranking import cost_of_an_hour
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.law import Admission
from kasbah.domain.placement import ANYWHERE, Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class Stricter:
    """A service that is kept stricter than its label needs. `runs_at` are its sites, `could_run_at` those that may and
    can besides; `why` says what keeps it. `costs` and `could_cost` are for an hour of one replica at the cheapest of
    each, None where nobody declared a price."""

    service: ServiceId
    runs_at: tuple[SiteId, ...]
    could_run_at: tuple[SiteId, ...]
    why: tuple[str, ...]
    costs: float | None
    could_cost: float | None


def stricter(
    service: ServiceId,
    needs: Needs,
    runs_at: tuple[SiteId, ...],
    sites: tuple[SiteFacts, ...],
    lawful: Mapping[SiteId, Admission],
) -> Stricter | None:
    """How this service is kept stricter than it needs to be; None where it is not."""
    free = replace(needs, constraints=replace(ANYWHERE, weights=((Objective.PRICE, 1.0),)))
    able = [one.site for one in place(service, free, sites, lawful).verdicts if one.rank is not None]
    beyond = tuple(site for site in able if site not in runs_at)
    why = _why(needs)
    if not runs_at or not beyond or not why:
        return None
    by_id = {site.site: site for site in sites}
    return Stricter(
        service=service,
        runs_at=runs_at,
        could_run_at=beyond,
        why=why,
        costs=_cheapest(needs, [by_id[one] for one in runs_at if one in by_id]),
        could_cost=_cheapest(needs, [by_id[one] for one in beyond]),
    )


def _why(needs: Needs) -> tuple[str, ...]:
    """What keeps it, beyond the law."""
    asked = needs.constraints
    only = (f"placement.only names {', '.join(asked.only)}",) if asked.only else ()
    avoid = (f"placement.avoid names {', '.join(asked.avoid)}",) if asked.avoid else ()
    unlabelled = () if needs.label.declared else ("nobody labelled it, so it counts as sensitive",)
    return (*only, *avoid, *unlabelled)


def _cheapest(needs: Needs, sites: list[SiteFacts]) -> float | None:
    known = [cost for site in sites if (cost := cost_of_an_hour(needs.resources, site)) is not None]
    return min(known, default=None)
