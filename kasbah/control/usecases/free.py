"""What the control plane could do without: revisions beyond those that are kept, and those of deleted services.

Once a revision is gone here, desired states no longer name it, and sites may remove its build and its source. What has
a share of the traffic, a trial or a rollout under way is never dropped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from kasbah.api.public import Door
from kasbah.api.signing import FREE
from kasbah.control.store.records import ServiceRecord
from kasbah.control.usecases.send_source import gateway_of, open_door
from kasbah.control.usecases.sites import connected
from kasbah.control.usecases.work import Work, service_topic
from kasbah.decide.keeping import surplus_revisions
from kasbah.domain.ids import RevisionId, ServiceId
from kasbah.errors import NotFound, Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """Revisions that are kept, and those that were dropped or would be."""

    kept: int
    gone: int


def free(work: Work, *, keep: int, dry_run: bool) -> Freed:
    """Drop revisions, or say how many: of each service the last `keep` stay, and what is in use."""
    there = len(work.tx.revisions.all()) + len(work.tx.revisions.of_deleted())
    found = _surplus(work, keep)
    for service, revisions in ({} if dry_run else found).items():
        work.tx.revisions.drop(service, revisions)
        work.touched.add(service_topic(service))
    gone = sum(map(len, found.values()))
    return Freed(kept=there if dry_run else there - gone, gone=gone)


def _surplus(work: Work, keep: int) -> dict[ServiceId, tuple[RevisionId, ...]]:
    """The revisions that nothing needs, by service."""
    revisions: dict[ServiceId, list[RevisionId]] = defaultdict(list)
    for one in work.tx.revisions.all():
        revisions[one.service].append(one.id)
    going: dict[ServiceId, set[RevisionId]] = defaultdict(set)
    for rollout in work.tx.rollouts.open():
        going[rollout.service] |= {rollout.revision, *(share.revision for share in rollout.before)}
    found: dict[ServiceId, tuple[RevisionId, ...]] = {
        service.id: surplus_revisions(revisions[service.id], {*_used(service), *going[service.id]}, keep=keep)
        for service in work.tx.services.all()
    }
    for dead in work.tx.revisions.of_deleted():
        found[dead.service] = (*found.get(dead.service, ()), dead.id)
    return {service: gone for service, gone in found.items() if gone}


def _used(service: ServiceRecord) -> Iterator[RevisionId]:
    yield from (share.revision for share in service.shares)
    if service.trial is not None:
        yield service.trial.revision


def open_gc_door(work: Work, name: str) -> Door:
    """The door of a site, to see what it keeps and to have it remove what is not needed."""
    site = next((one for one in work.tx.sites.all() if one.name == name), None)
    if site is None:
        raise NotFound(f"there is no site {name!r}", hint="`kasbah sites list` lists them", code="site_not_found")
    if not connected(site, work.now) or not gateway_of(site):
        raise Unavailable(
            f"site {name!r} does not report at present, so it cannot be asked",
            hint="look at its agent with `kasbah doctor`",
            code="site_away",
        )
    return open_door(work, site, act=FREE, target=site.id, path="/v1/gc")
