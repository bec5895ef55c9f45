"""What would a change do to what is there? The services and sites as they are, before and after it: another law, or
other facts about sites.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from kasbah.control.store.records import ServiceRecord, SiteRecord
from kasbah.control.usecases.law_now import LawNow
from kasbah.control.usecases.lawful import label_of, places
from kasbah.control.usecases.outbound import exits_now, outside
from kasbah.control.usecases.work import Work
from kasbah.decide.blast import Answers, Blast, Resident, allowance, blast
from kasbah.decide.egress import CALLS_NOTHING, Exits, Outside
from kasbah.domain.charter import Charter
from kasbah.domain.ids import ServiceId, SiteId
from kasbah.domain.label import Label
from kasbah.domain.law import Admission, Data, Place, Purpose
from kasbah.errors import Conflict

NOT_THERE = Admission(allowed=False, problem="there is no such site")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The law, the sites that run services, and the places that are only called: as they are, or would be."""

    law: LawNow
    places: Mapping[SiteId, Place]
    outside: tuple[Outside, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """What a change would do, and how many services the limit lets lose something without a word."""

    blast: Blast
    allowed: int

    @property
    def too_far(self) -> bool:
        """Whether it goes beyond the limit."""
        return max(self.blast.losing, len(self.blast.stranded)) > self.allowed

    def check(self, *, even_so: bool, plan: str) -> None:
        """Refuse what goes too far, unless it is wanted all the same. `plan` is the command that shows it."""
        if even_so or not self.too_far:
            return
        found = self.blast
        raise Conflict(
            f"it would end what {found.losing} of {found.services} services have or call, and leave "
            f"{len(found.stranded)} with nowhere to go; the limit is {self.allowed}",
            hint=f"see `{plan}`; if that is what you want, apply it with --even-so",
            code="blast_radius",
        )


def scene(work: Work, changed: Mapping[SiteId, Charter] | None = None, *, without: SiteId | None = None) -> Scene:
    """What is there now: with these charters in the place of what is said of their sites, or of new ones, and `without`
    a site."""
    charters, known = dict(changed or {}), [one for one in work.tx.sites.everywhere() if one.id != without]
    everywhere = [replace(one, charter=charters.pop(one.id, one.charter)) for one in known]
    everywhere += [SiteRecord(id=one.site, name=one.name, charter=one) for one in charters.values()]
    here = [one for one in everywhere if not one.outside]
    return Scene(law=work.law, places=places(here, work.now), outside=outside(everywhere, work.now))


def foresee(work: Work, before: Scene, after: Scene) -> Foreseen:
    """What changes from one to the other: old and new are asked about every service, each with its approvals."""
    projects = {one.id: one.name for one in work.tx.installations.projects()}
    records = {one.id: replace(one, label=label_of(before.law, one)) for one in work.tx.services.all()}
    contents = {one.id: one.contents for one in work.tx.revisions.all()}
    residents = [
        Resident(
            service=one.id,
            name=one.name if projects[one.project] == "default" else f"{projects[one.project]}/{one.name}",
            label=one.label,
            sites=one.placement.chosen if one.placement else (),
        )
        for one in records.values()
    ]

    def answers(seen: Scene) -> Answers:
        ask = _asking(seen, records)

        def calls(one: Resident) -> Exits:
            record = records[one.service]
            revision = contents.get(record.serving) if record.serving else None
            if revision is None:
                return CALLS_NOTHING
            return exits_now(work, seen.law, seen.outside, seen.places, record, revision)

        return Answers(
            place=lambda one, site: ask(one, site, Purpose.PLACE),
            forward=lambda one, site: ask(one, site, Purpose.FORWARD),
            calls=calls,
        )

    def opens(one: Resident, site: SiteId) -> tuple[str, ...]:
        law = after.law.of(records[one.service])
        return law.opens(site, Data(label=one.label), after.places[site], Purpose.PLACE)

    found = blast(residents, after.places, answers(before), answers(after), opens)
    return Foreseen(blast=found, allowed=allowance(before.law.force.lawbook.limit, found.services))


def _asking(
    seen: Scene, records: Mapping[ServiceId, ServiceRecord]
) -> Callable[[Resident, SiteId, Purpose], Admission]:
    """Asks a scene's law, each question once however many services ask it: it says the same of all that are labelled
    alike, unless it is on its way to the sites or something is approved for one of them."""
    approvals = seen.law.grants.approvals
    services = {service for one in approvals for service in one.services}
    projects = {project for one in approvals for project in one.projects}
    known: dict[tuple[Label, Purpose, ServiceId | None], Mapping[SiteId, Admission]] = {}

    def ask(one: Resident, site: SiteId, purpose: Purpose) -> Admission:
        record = records[one.service]
        own = bool(seen.law.coming) or one.service in services or record.project in projects
        asked = (one.label, purpose, one.service if own else None)
        found = known.get(asked)
        if found is None:
            law = seen.law.of(record) if own else seen.law
            found = known[asked] = law.admit_all(Data(label=one.label), seen.places, purpose)
        return found.get(site, NOT_THERE)

    return ask
