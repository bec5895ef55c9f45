"""What may a service call now? Gathers what `decide.egress` is asked with: the law for this service, the places outside
that were declared, and the services of its project.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kasbah.control.store.records import ServiceRecord, SiteRecord
from kasbah.control.usecases.law_now import LawNow
from kasbah.control.usecases.lawful import Places, label_of, standings
from kasbah.control.usecases.work import Work
from kasbah.decide.egress import UNKNOWN, Called, Exits, Outside, exits, outside_of
from kasbah.decide.refusals import may_not_call
from kasbah.domain.egress import SERVICE
from kasbah.domain.ids import SiteId
from kasbah.domain.label import Label
from kasbah.domain.law import Admission, Data, Place, Purpose
from kasbah.domain.revision import Revision
from kasbah.errors import Denied


def outside(everywhere: Sequence[SiteRecord], now: datetime) -> tuple[Outside, ...]:
    """The places outside, as they are now, of all that were declared."""
    found = [one for one in everywhere if one.outside]
    here = standings(found, now, everywhere)
    return tuple(outside_of(one.charter, here[one.id].place) for one in found)


def exits_now(
    work: Work,
    law: LawNow,
    places_outside: Sequence[Outside],
    places: Places,
    service: ServiceRecord,
    revision: Revision,
) -> Exits:
    """What the service may call with this revision. `places` are the sites that run services."""
    its, data = law.of(service), Data(label=service.label)

    def ask(site: SiteId, place: Place) -> Admission:
        return its.admit(site, data, place, Purpose.EGRESS)

    def called(name: str) -> Called | None:
        found = work.tx.services.find(service.project, name)
        if found is None:
            return None
        chosen = found.placement.chosen if found.placement is not None else ()
        return Called(label=label_of(law, found), sites=tuple((site, places.get(site, UNKNOWN)) for site in chosen))

    return exits(service.label, revision, ask, outside=places_outside, called=called)


def check_exits(label: Label, found: Exits) -> None:
    """Refuse a service whose file names what it may not call."""
    if not found.refused:
        return
    reason, hint = may_not_call(label, found.refused[0])
    others = [way.entry for way in found.refused[1:]]
    more = f"; nor {', '.join(others)}" if others else ""
    raise Denied(
        f"it may not call {found.refused[0].entry}: {reason}{more}",
        where="config.calls" if found.refused[0].entry.startswith(SERVICE) else "config.egress",
        hint=hint,
        code="policy_denied",
    )
