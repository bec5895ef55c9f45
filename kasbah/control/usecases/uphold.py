"""Takes services from sites where they may not be any more, moves them from sites that are drained or lost, and gives
them back where they may be again; takes a label back to what was declared when its declassification ends.

What a site is told to run is asked about each time it is written (`publish`). This makes of it what people see: a
placement with the reason. What does not serve yet is its rollout's own business.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kasbah.control.store.records import ServiceRecord
from kasbah.control.usecases.decisions import tell_placement
from kasbah.control.usecases.lawful import dated, label_of
from kasbah.control.usecases.placing import placed_together, survey
from kasbah.control.usecases.work import Work, save_service
from kasbah.domain.ids import SiteId
from kasbah.domain.placement import Placement, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """The services that are to be labelled or placed anew, as they will be; and whether that is the end of it: one may
    still wait for a site to report, or for another to serve."""

    services: tuple[ServiceRecord, ...]
    settled: bool


def due(work: Work) -> Due:
    """What is to change of the services that serve."""
    seen = survey(work)
    serving = {one.id: one.contents for one in work.tx.revisions.all()}
    before = {one.id: one for one in work.tx.services.all()}
    wanted = [replace(one, label=label_of(seen.law, one)) for one in before.values()]
    runs = [(one, serving.get(one.serving)) for one in wanted if one.serving and one.placement is not None]
    found = placed_together(work, seen, [(one, contents) for one, contents in runs if contents is not None])
    changed, settled = [], True
    for service in wanted:
        placement, now = found.get(service.id), service
        if placement is not None:
            settled = settled and not placement.moving and bool(placement.chosen or _unlawful(placement))
            if not _agrees(service.placement, placement):
                now = replace(service, placement=placement)
        now = dated(seen.law, now, seen.places, seen.until)
        if now != before[service.id]:
            changed.append(now)
    return Due(services=tuple(changed), settled=settled)


def uphold(work: Work) -> bool:
    """Change what is due; whether all is settled."""
    found = due(work)
    sites = work.tx.sites.all() if found.services else ()
    for service in found.services:
        save_service(work, service)
        if service.placement is not None:
            tell_placement(work.journal, service, service.placement, sites)
    return found.settled


def _agrees(before: Placement | None, now: Placement) -> bool:
    """Whether it is where it would be placed now, and whoever could take it over is known; where that is nowhere, for
    the same reasons. That a site can no more, for a while or for good, is no news as long as it is not needed."""
    if before is None or set(before.chosen) != set(now.chosen):
        return False
    return _able(now) <= _able(before) if now.chosen else before.verdicts == now.verdicts


def _able(placement: Placement) -> set[SiteId]:
    return {one.site for one in placement.verdicts if one.verdict is not Verdict.REFUSED}


def _unlawful(placement: Placement) -> bool:
    """Whether the law refuses every site: then nothing changes by waiting."""
    return all(one.verdict is Verdict.REFUSED and (one.rules or one.unmet) for one in placement.verdicts)
