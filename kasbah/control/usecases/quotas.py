"""May a project have this? Asks `decide/quotas.py` with what its services claim, and tells the refusal in words.

Whoever makes a service claim more asks here, in the transaction that writes it: a deploy (and so a change of its
environment), a new scale, a return to an older revision, a division of traffic. What a rollout does by itself, turning
back included, was asked when it began.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from kasbah.api.quantities import format_size
from kasbah.control.store.records import Project, RevisionRecord, ServiceRecord
from kasbah.control.usecases.work import Work
from kasbah.decide.keeping import surplus_revisions
from kasbah.decide.quotas import Amount, Claim, Excess, Kind, exceeds
from kasbah.domain.ids import ProjectId, RevisionId, ServiceId
from kasbah.domain.project import UNLIMITED
from kasbah.domain.revision import Revision
from kasbah.errors import QuotaExceeded

REVISIONS_KEPT = 10
NAMED = 5
"""How many services a refusal names."""


def allow(work: Work, service: ServiceRecord, *, runs: Revision | None = None) -> None:
    """Refuse what the service, as it is about to be and running `runs` besides, would claim beyond its quota."""
    refused = excesses(work, service, runs=runs)
    if refused:
        raise refusal(project_of(work, service.project), refused)


def excesses(work: Work, service: ServiceRecord, *, runs: Revision | None = None) -> tuple[Excess, ...]:
    """What the service would claim beyond its project's quota."""
    project = project_of(work, service.project)
    if project.quota == UNLIMITED:
        return ()
    now, going = claims(work, project.id), _going(work)
    kept = work.tx.revisions.of(service.id)
    then = {**now, service.id: _claim(service, kept, going[service.id], runs)}
    return exceeds(project.quota, now.values(), then.values())


def claims(work: Work, project: ProjectId) -> dict[ServiceId, Claim]:
    """What each service of a project claims."""
    revisions: dict[ServiceId, list[RevisionRecord]] = defaultdict(list)
    for revision in work.tx.revisions.all():
        revisions[revision.service].append(revision)
    services = [one for one in work.tx.services.all() if one.project == project]
    going = _going(work)
    return {one.id: _claim(one, revisions[one.id], going[one.id], None) for one in services}


def _going(work: Work) -> dict[ServiceId, set[RevisionId]]:
    """The revisions being rolled out now."""
    found: dict[ServiceId, set[RevisionId]] = defaultdict(set)
    for rollout in work.tx.rollouts.open():
        found[rollout.service].add(rollout.revision)
    return found


def _claim(
    service: ServiceRecord, kept: Sequence[RevisionRecord], going: set[RevisionId], runs: Revision | None
) -> Claim:
    at_work = going | {share.revision for share in service.shares if share.percent > 0}
    at_work |= {service.trial.revision} if service.trial else set()
    contents = {one.id: one.contents for one in kept}
    if runs is not None:
        contents.pop(runs.id, None)
        contents[runs.id] = runs  # the newest now
        at_work |= {runs.id}
        for gone in surplus_revisions(tuple(contents), {*at_work, *_shared(service)}, keep=REVISIONS_KEPT):
            del contents[gone]
    running = [contents[one].resources for one in at_work if one in contents]
    cpus, memories = [one.cpu for one in running], [one.memory for one in running]
    return Claim(
        service=service.name,
        replicas=service.scaling.max,
        cpu=None if None in cpus else max((one for one in cpus if one is not None), default=0.0),
        memory=None if None in memories else max((one for one in memories if one is not None), default=0),
        sources=frozenset((one.source, one.source_size) for one in contents.values()),
        volumes=_volumes(contents.values()),
    )


def _volumes(kept: Iterable[Revision]) -> int:
    """The bytes of the volumes of these revisions: they share those of one name."""
    sizes: dict[str, int] = {}
    for volume in (one for revision in kept for one in revision.volumes):
        sizes[volume.name] = max(volume.size, sizes.get(volume.name, 0))
    return sum(sizes.values())


def _shared(service: ServiceRecord) -> set[RevisionId]:
    return {share.revision for share in service.shares}


def project_of(work: Work, project: ProjectId) -> Project:
    """The project with this id; one that has services is never deleted."""
    return next(one for one in work.tx.installations.projects() if one.id == project)


# --- in words -------------------------------------------------------------------------------------------------------


def refusal(project: Project, refused: Sequence[Excess]) -> QuotaExceeded:
    """The error that says so."""
    return QuotaExceeded(
        "; ".join(reason(project, one) for one in refused), hint=hint(project, refused[0]), where=refused[0].kind
    )


def reason(project: Project, excess: Excess) -> str:
    """Which quota, its limit, the use, and what was asked."""
    kind, most = excess.kind, amount(excess.kind, Amount(much=excess.limit))
    return (
        f"project {project.name!r} may have {most}: it has {amount(kind, excess.used)}, "
        f"and this makes {amount(kind, excess.asked)}"
    )


def hint(project: Project, excess: Excess) -> str:
    """The next step."""
    raise_it = f"have an administrator raise it: kasbah projects quota {project.name} --{excess.kind}"
    match excess.kind:
        case Kind.CPU | Kind.MEMORY if excess.asked.boundless > excess.used.boundless:
            return f"give each replica a limit: resources.{excess.kind} in kasbah.yaml"
        case Kind.CPU | Kind.MEMORY:
            return f"lower resources.{excess.kind} or scaling.max here or in another service, or {raise_it}"
        case Kind.REPLICAS:
            return f"lower scaling.max here or in another service, or {raise_it}"
        case Kind.SERVICES:
            return f"delete a service, or {raise_it}"
        case Kind.DISK:
            less = "drop older revisions (kasbah gc --keep 1), leave files out of the source, make volumes smaller"
            return f"{less}, or {raise_it}"


def who(excess: Excess) -> str:
    """The services that claim it, the most first."""
    told = [
        f"{service} {'without limit' if much is None else amount(excess.kind, Amount(much=much))}"
        for service, much in excess.claimed
        if much is None or much > 0
    ]
    more = len(told) - NAMED
    return ", ".join(told[:NAMED]) + (f" and {more} more" if more > 0 else "")


def amount(kind: Kind, much: Amount) -> str:
    """An amount, with its unit."""
    plain = _plain(kind, much.much)
    if not much.boundless:
        return plain
    beside = f" beside {plain}" if much.much else ""
    return f"{much.boundless} replica{'s'[: much.boundless > 1]} without limit on {kind}{beside}"


def _plain(kind: Kind, much: float) -> str:
    if kind in (Kind.MEMORY, Kind.DISK):
        return f"{format_size(int(much))} of {kind}"
    names = {Kind.SERVICES: "service", Kind.REPLICAS: "replica", Kind.CPU: "CPU"}
    return f"{much:g} {names[kind]}{'' if much == 1 else 's'}"


def used_in_words(refused: Iterable[Excess]) -> str:
    """What is used beyond each limit, and by whom."""
    return "; ".join(f"{amount(one.kind, one.asked)} ({who(one)})" for one in refused)
