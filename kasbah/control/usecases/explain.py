"""Why is a service where it is, and nowhere else? Asked as placement asks it, about the service as it is now."""

from __future__ import annotations

from dataclasses import dataclass

from kasbah.control.store.records import ServiceRecord, SiteRecord
from kasbah.control.usecases.lawful import opens
from kasbah.control.usecases.placing import exits_of, placed, survey
from kasbah.control.usecases.vouching import deployer_of, problem_with
from kasbah.control.usecases.work import Work, service_named
from kasbah.decide.egress import Exits
from kasbah.domain.ids import SiteId
from kasbah.domain.placement import Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What is decided about every site, what single change would open each that the law refuses, and what it may
    call; who signed the revision, and what is wrong with that."""

    service: ServiceRecord
    sites: tuple[SiteRecord, ...]
    placement: Placement
    opens: dict[SiteId, tuple[str, ...]]
    exits: Exits
    deployer: str
    unsigned: str


def explain(work: Work, project: str, name: str) -> Explained:
    """Why it is where it is: with what it serves, or is rolling out."""
    service = service_named(work, project, name)
    kept = work.tx.revisions.of(service.id)
    serving = next((one for one in kept if one.id == service.serving), kept[-1])
    estate = survey(work, room=service.scaling.min > 0)
    return Explained(
        service=service,
        sites=estate.sites,
        placement=placed(work, estate, service, serving.contents),
        opens=opens(estate.law.of(service), service.label, estate.places),
        exits=exits_of(work, estate, service, serving.contents),
        deployer=deployer_of(work, serving.attested),
        unsigned=problem_with(work, service, serving),
    )
