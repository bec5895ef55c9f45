"""Which sources does a site lack, and which other sites does it ask for them?

Whoever deploys sends a source to the sites that were chosen and to a few more. A site that is chosen later, or joined
later, has it from one that has it: so the loss or the drain of a site needs nobody who deploys again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import Digest, RevisionId, SiteId


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    """A source that is not here, the services that are made of it, by name, and the sites that may have it, those
    first that run them. `needed`: one of them is to run here."""

    source: Digest
    services: tuple[str, ...]
    sites: tuple[SiteId, ...]
    needed: bool


def lacking(
    desired: DesiredState, *, here: Collection[Digest], built: Callable[[RevisionId], bool]
) -> tuple[Lacking, ...]:
    """What is to run here first, then what this site may have to take over. What is built needs no source."""
    found: dict[Digest, Lacking] = {}
    for one in _wanted(desired, built):
        if one.source in here:
            continue
        known = found.get(one.source, one)
        services, sites = dict.fromkeys((*known.services, *one.services)), dict.fromkeys((*known.sites, *one.sites))
        found[one.source] = replace(known, services=tuple(services), sites=tuple(sites))
    return tuple(found.values())


def _wanted(desired: DesiredState, built: Callable[[RevisionId], bool]) -> Iterator[Lacking]:
    lanes = {one.id: (*one.to, *one.entries) for one in desired.lanes}
    for service in desired.services:
        for revision in service.revisions:
            if revision.id in service.in_use and not built(revision.id):
                asked = lanes.get(service.lane, ())
                yield Lacking(source=revision.source, services=(service.name,), sites=asked, needed=True)
    elsewhere = {one.id: lanes.get(one.lane, ()) for one in desired.forwarded}
    for waiting in desired.standby:
        asked = elsewhere.get(waiting.id, ())
        yield Lacking(source=waiting.source, services=(waiting.name,), sites=asked, needed=False)
