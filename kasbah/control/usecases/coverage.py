"""Which services are kept stricter than their label needs? Asked of every service that serves."""

from __future__ import annotations

from dataclasses import dataclass

from kasbah.control.store.records import ServiceRecord
from kasbah.control.usecases.lawful import admissions
from kasbah.control.usecases.placing import exits_of, needs_of, survey
from kasbah.control.usecases.work import Work
from kasbah.decide.coverage import Stricter, stricter
from kasbah.domain.ids import SiteId


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The services that are kept stricter, by name, how many were asked about, and what sites are called."""

    found: tuple[tuple[ServiceRecord, Stricter], ...]
    asked: int
    names: dict[SiteId, str]


def coverage(work: Work) -> Coverage:
    """The coverage of all projects."""
    estate = survey(work)
    serving = {one.id: one.contents for one in work.tx.revisions.all()}
    found, asked = [], 0
    for service in sorted(work.tx.services.all(), key=lambda one: (one.name, one.id)):
        contents = serving.get(service.serving) if service.serving else None
        if contents is None or service.placement is None:
            continue
        asked += 1
        lawful = admissions(estate.law.of(service), service.label, estate.places)
        needs = needs_of(service, contents, exits_of(work, estate, service, contents))
        one = stricter(service.id, needs, service.placement.chosen, estate.facts, lawful)
        if one is not None:
            found.append((service, one))
    return Coverage(found=tuple(found), asked=asked, names=estate.names)
