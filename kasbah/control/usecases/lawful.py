"""Where may this data be? The law in force, asked about sites as their charters make them at a moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from kasbah.control.store.records import ServiceRecord, SiteRecord
from kasbah.control.usecases.law_now import LawNow
from kasbah.decide.grants import lowers
from kasbah.decide.standing import Standing, standing
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.label import Label, combine
from kasbah.domain.law import Admission, Data, Place, Purpose
from kasbah.domain.site import FIRST_SITE

Places = Mapping[SiteId, Place]


def standings(sites: Sequence[SiteRecord], now: datetime, beside: Sequence[SiteRecord] = ()) -> dict[SiteId, Standing]:
    """The sites as their owner's word makes them now. The installation's own country is that of the first site, which
    is among them or `beside` them."""
    home = next((site.country for site in (*sites, *beside) if site.name == FIRST_SITE), None)
    return {site.id: standing(site.charter, home, now) for site in sites}


def places(sites: Sequence[SiteRecord], now: datetime) -> dict[SiteId, Place]:
    """The sites as policy sees them now."""
    return {site: one.place for site, one in standings(sites, now).items()}


def admissions(law: LawNow, label: Label, places: Places, purpose: Purpose = Purpose.PLACE) -> dict[SiteId, Admission]:
    """By site, whether a service's data with this label may be there."""
    return law.admit_all(Data(label=label), places, purpose)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lawful:
    """Where the data of services may be, each question asked once however many services ask it: the law says the same
    of all that are labelled alike, unless it is on its way to the sites or a service has approvals of its own."""

    law: LawNow
    places: Places
    _known: dict[tuple[Label, Purpose, ServiceId | None, tuple[SiteId, ...]], frozenset[SiteId]] = field(
        default_factory=dict
    )

    def at(self, service: ServiceRecord, purpose: Purpose) -> frozenset[SiteId]:
        """The sites where this service's data may be for this purpose."""
        own = service.id if self.law.grants.approvals else None
        chosen = service.placement.chosen if self.law.coming and service.placement else ()
        asked = (service.label, purpose, own, chosen)
        found = self._known.get(asked)
        if found is None:
            answers = admissions(self.law.of(service), service.label, self.places, purpose)
            found = self._known[asked] = frozenset(site for site, answer in answers.items() if answer.allowed)
        return found


def opens(law: LawNow, label: Label, places: Places) -> dict[SiteId, tuple[str, ...]]:
    """By site, in words, each single change after which a service may be there; none where it may already."""
    data = Data(label=label)
    return {site: law.opens(site, data, place, Purpose.PLACE) for site, place in places.items()}


def label_of(law: LawNow, service: ServiceRecord) -> Label:
    """The label that a service's data has now: what was declared at most, unless a declassification holds."""
    declared = service.declared
    if declared is None or not lowers(declared, service.label):
        return service.label
    held = law.grants.lowered(service.id, service.label) is not None
    return service.label if held else combine(service.label, declared)


def until(law: LawNow, service: ServiceRecord, places: Places) -> datetime | None:
    """Until when a service may be where it is: the first expiry of the grants that this rests on."""
    if not law.grants.approvals and not law.grants.declassifications:
        return None
    law = law.of(service)
    data = Data(label=service.label)
    ends = [law.until(site, data, place, Purpose.PLACE) for site, place in places.items() if site in law.runs_at]
    if lowers(service.declared, service.label):
        ends.append(law.grants.lowered(service.id, service.label))
    return min((one for one in ends if one is not None), default=None)


def dated(law: LawNow, service: ServiceRecord, places: Places, facts_until: datetime | None) -> ServiceRecord:
    """The service, with its placement valid until the first expiry of what that rests on."""
    if service.placement is None:
        return service
    ends = (one for one in (until(law, service, places), facts_until) if one is not None)
    return replace(service, placement=replace(service.placement, valid_until=min(ends, default=None)))
