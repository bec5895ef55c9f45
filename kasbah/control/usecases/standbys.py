"""Which sources does each site keep, because it may have to take a service over? Those of services that could run there
and may be built there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from kasbah.control.store.records import RevisionRecord, ServiceRecord
from kasbah.control.usecases.lawful import Lawful
from kasbah.domain.desired import Standby
from kasbah.domain.ids import Digest, ServiceId, SiteId
from kasbah.domain.law import Purpose
from kasbah.domain.placement import Verdict


def standbys(
    services: Sequence[ServiceRecord], revisions: Mapping[ServiceId, Sequence[RevisionRecord]], lawful: Lawful
) -> dict[SiteId, tuple[Standby, ...]]:
    """By site, what it keeps. Services have the labels that their data has now."""
    kept: dict[SiteId, list[Standby]] = defaultdict(list)
    known: dict[tuple[int, int], list[SiteId]] = {}  # what is placed alike has the same verdicts, as one object
    for service in services:
        if service.placement is None:
            continue
        built, in_use = lawful.at(service, Purpose.BUILD), service.in_use
        sources = sorted({one.contents.source for one in revisions[service.id] if one.id in in_use})
        waiting = [_standby(service, source) for source in sources]
        verdicts = service.placement.verdicts
        sites = known.get((id(verdicts), id(built)))
        if sites is None:
            possible = [one.site for one in verdicts if one.verdict is Verdict.POSSIBLE]
            sites = known[id(verdicts), id(built)] = [one for one in possible if one in built]
        for site in sites:
            kept[site] += waiting
    return {site: tuple(found) for site, found in kept.items()}


def _standby(service: ServiceRecord, source: Digest) -> Standby:
    return Standby(
        id=service.id,
        project=service.project,
        name=service.name,
        source=source,
        label=service.label,
        declared=service.declared,
    )
