"""What the control plane could do without: revisions beyond those that are kept, and those of deleted services.

Once a revision is gone here, desired states no longer name it, and sites may remove its build and its source. What has
a share of the traffic, a trial or a rollout under way is never dropped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from kasbah.control.store.records import ServiceRecord
from kasbah.control.usecases.work import Work, service_topic
from kasbah.decide.keeping import surplus_revisions
from kasbah.domain.ids import RevisionId, ServiceId


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
    work.journal.detail(keep=keep, revisions=gone)
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
