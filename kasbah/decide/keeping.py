"""What may go, where more is kept than is needed? At a site: builds, sources, logs, caches; in the store: revisions.

Everything is one of three: needed (something runs on it, or may have to in the next moment), worth keeping (it saves
time or work, should it be wanted again), or stale (nothing refers to it). What is stale goes; of what is worth
keeping, what was of no use for the longest goes first, and only as far as a cap asks.

What always holds: what is needed stays, whatever the cap.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from kasbah.domain.desired import DesiredState
from kasbah.domain.ids import Digest, ReplicaId, RevisionId, ServiceId
from kasbah.domain.label import combine
from kasbah.domain.service import Service

BUILD_LOG = "build-"
"""A build's log is kept beside those of replicas, as build-REVISION."""


class Worth(StrEnum):
    """Why something is kept."""

    NEEDED = "needed"
    SPARE = "spare"
    STALE = "stale"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Something that takes space. `used` is when it last was of use, in seconds since the epoch."""

    name: str
    size: int
    used: float
    worth: Worth


def surplus(kept: Iterable[Kept], *, cap: int) -> tuple[Kept, ...]:
    """What goes: all that is stale, then what was of no use for the longest, until the rest is within `cap` bytes."""
    kept = tuple(kept)
    gone = [one for one in kept if one.worth is Worth.STALE]
    left = sum(one.size for one in kept) - sum(one.size for one in gone)
    spare = (one for one in kept if one.worth is Worth.SPARE)
    for one in sorted(spare, key=lambda one: (one.used, one.name)):
        if left <= cap:
            break
        gone.append(one)
        left -= one.size
    return tuple(gone)


# --- a site -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Wants:
    """What a site refers to. `running` and `sources_running` are of revisions that have a share or a trial, or whose
    replicas or builds are at work; `replicas` are those alive; `caches` the package managers', by `cache_of`."""

    services: frozenset[ServiceId] = frozenset()
    revisions: frozenset[RevisionId] = frozenset()
    running: frozenset[RevisionId] = frozenset()
    sources: frozenset[Digest] = frozenset()
    sources_running: frozenset[Digest] = frozenset()
    replicas: frozenset[ReplicaId] = frozenset()
    caches: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class AtWork:
    """What is at work at a site now, whatever is desired: services and revisions that have units, revisions being
    built, replicas alive."""

    services: frozenset[ServiceId] = frozenset()
    revisions: frozenset[RevisionId] = frozenset()
    replicas: frozenset[ReplicaId] = frozenset()


def wants(desired: DesiredState, at_work: AtWork) -> Wants:
    """What the site refers to: by its desired state, and by what is at work."""
    running = set(at_work.revisions)
    for service in desired.services:
        running |= service.in_use
    revisions = [revision for service in desired.services for revision in service.revisions]
    return Wants(
        services=at_work.services | {service.id for service in desired.services},
        revisions=frozenset(one.id for one in revisions),
        running=frozenset(running),
        sources=desired.sources,
        sources_running=frozenset(one.source for one in revisions if one.id in running),
        replicas=at_work.replicas,
        caches=frozenset(cache_of(service) for service in desired.services),
    )


def cache_of(service: Service) -> str:
    """The package caches that a service's builds use: those of its project, for data labelled as its own ever was. What
    a build leaves there may hold parts of its source, and is another's to run."""
    most = combine(service.label, service.declared or service.label)
    words = "\n".join([*most.categories, "", *most.regimes])
    return f"{service.project}.{most.level:d}.{hashlib.sha256(words.encode()).hexdigest()[:8]}"


def worth_of_build(revision: RevisionId, wanted: Wants) -> Worth:
    """Why a build is kept. What has no share can be built again."""
    if revision in wanted.running:
        return Worth.NEEDED
    return Worth.SPARE if revision in wanted.revisions else Worth.STALE


def worth_of_cache(name: str, wanted: Wants, *, building: bool) -> Worth:
    """Why a package cache is kept. What no service here could use may not be here any more."""
    if building:
        return Worth.NEEDED
    return Worth.SPARE if name in wanted.caches else Worth.STALE


def worth_of_source(source: Digest, wanted: Wants, *, fresh: bool) -> Worth:
    """Why a source is kept. One that is `fresh` may have come a moment before the desired state that wants it."""
    if fresh or source in wanted.sources_running:
        return Worth.NEEDED
    return Worth.SPARE if source in wanted.sources else Worth.STALE


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A log of a service: its name is the replica's id, or build-REVISION. `used` is when it was last written."""

    service: ServiceId
    name: str
    used: float


def worth_of_logs(logs: Iterable[Log], wanted: Wants, *, ended: int) -> dict[Log, Worth]:
    """Why each log is kept: of each service's replicas that have ended, the `ended` that wrote last."""
    found: dict[Log, Worth] = {}
    over: dict[ServiceId, list[Log]] = defaultdict(list)
    for log in logs:
        if log.service not in wanted.services:
            found[log] = Worth.STALE
        elif log.name.startswith(BUILD_LOG):
            found[log] = worth_of_build(RevisionId(log.name.removeprefix(BUILD_LOG)), wanted)
        elif ReplicaId(log.name) in wanted.replicas:
            found[log] = Worth.NEEDED
        else:
            over[log.service].append(log)
    for theirs in over.values():
        newest = sorted(theirs, key=lambda log: (-log.used, log.name))
        found |= {log: Worth.SPARE if place < ended else Worth.STALE for place, log in enumerate(newest)}
    return found


# --- the store ------------------------------------------------------------------------------------------------------


def surplus_revisions(
    revisions: Sequence[RevisionId], used: Collection[RevisionId], *, keep: int
) -> tuple[RevisionId, ...]:
    """Of a service's revisions, the oldest first: those before the last `keep` that nothing uses."""
    return tuple(one for one in revisions[: max(len(revisions) - keep, 0)] if one not in used)
