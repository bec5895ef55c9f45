"""Is what runs what a deployer signed? From level 3 on, a revision whose deployer nobody named does not run.

A captured control plane can make a revision of its own: other code for the same service, at the same lawful site, which
sends the data wherever it may. It cannot sign one as a deployer, and the owner alone names deployers.

A deployer must be named when a site first takes the revision. What was taken stays good, also when he is named no more:
sites remember it, so that nothing that serves ends because a date passes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from kasbah.domain.attestation import Attestation
from kasbah.domain.crossing import Forwarded
from kasbah.domain.grant import Deployer
from kasbah.domain.ids import Digest, InstallationId, ProjectId, RevisionId, ServiceId
from kasbah.domain.label import Label, Level
from kasbah.domain.revision import Revision
from kasbah.domain.service import Service, Share, Trial

FROM = Level.SENSITIVE
"""The lowest level whose services need it."""

Taken = Mapping[ServiceId, Mapping[str, int]]
"""By service, what was taken of it, by `mark`, and the highest level that it was taken for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What runs as what: contents, as a service's name in a project of one installation."""

    installation: InstallationId
    project: ProjectId
    service: str
    contents: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """An attestation whose signature is that of this key, as was verified."""

    key: str
    attestation: Attestation


@dataclass(frozen=True, slots=True, kw_only=True)
class Signatures:
    """What is known of who deployed what: the digest of a revision's contents, what was signed of it and of its service
    (asked only where it matters), the deployers that the owner has named now, when the next is, and what was taken
    before."""

    installation: InstallationId
    contents: Callable[[Revision], Digest]
    signed: Callable[[ServiceId, RevisionId], Signature | None]
    all_signed: Callable[[ServiceId], tuple[Signature, ...]]
    deployers: tuple[Deployer, ...] = ()
    next_begins_at: datetime | None = None
    taken: Taken = field(default_factory=dict)


def mark(service: Service, contents: Digest) -> str:
    """What is remembered of a revision that was taken: its contents, and as what they were deployed."""
    return f"{service.project} {service.name} {contents}"


def unsigned(service: Service, label: Label, known: Signatures) -> dict[RevisionId, str]:
    """The revisions of this service that may not run for data with this label, and why."""
    if label.level < FROM:
        return {}
    answers = ((one.id, _problem(service, one, label.level, known)) for one in service.revisions)
    return {revision: why for revision, why in answers if why is not None}


def taken(service: Service, label: Label, known: Signatures, refused: Collection[RevisionId]) -> dict[str, int]:
    """What is remembered of a service from now on: its revisions but for these were taken for data of this level."""
    found = dict(known.taken.get(service.id, {}))
    if label.level < FROM:
        return found
    for one in service.revisions:
        if one.id not in refused:
            made = mark(service, known.contents(one))
            found[made] = max(found.pop(made, 0), int(label.level))  # the newest last
    return found


def problem_of(
    signature: Signature | None, wanted: Deployed, level: Level, deployers: Iterable[Deployer]
) -> str | None:
    """Why this may not run with data of this level, by what was signed of it; None where it may."""
    if signature is None:
        return "no deployer has signed it"
    said = signature.attestation
    if said.contents != wanted.contents:
        return "its deployer signed other contents"
    if (said.installation, said.project, said.service) != (wanted.installation, wanted.project, wanted.service):
        return f"it was signed as service {said.service!r} of project {said.project}, installation {said.installation}"
    return not_named(signature.key, wanted.project, level, deployers)


def not_named(key: str, project: ProjectId, level: Level, deployers: Iterable[Deployer]) -> str | None:
    """Why what was signed with this key counts for nothing, in a project and for data of a level; None where one of
    these deployers has it."""
    named = [one for one in deployers if one.key == key]
    if not named:
        return f"the owner has not named its deployer, or no more (key {key})"
    if not any(one.covers(project, level) for one in named):
        return f"its deployer {named[0].name} is not named for this project and data of level {int(level)}"
    return None


def highest(key: str, project: ProjectId, deployers: Iterable[Deployer]) -> int:
    """The highest level for which one of these deployers has this key, in a project; -1: none has it."""
    named = (one for one in deployers if one.key == key and one.covers(project, Level.PUBLIC))
    return max((int(one.max_level) for one in named), default=-1)


def holds(said: Signature, one: Service | Forwarded, level: Level, known: Signatures) -> bool:
    """Whether a named deployer signed this of this service, whatever the contents."""
    wanted = Deployed(
        installation=known.installation,
        project=one.project,
        service=one.name,
        contents=said.attestation.contents,
    )
    return problem_of(said, wanted, level, known.deployers) is None


def without(service: Service, refused: Collection[RevisionId]) -> Service | None:
    """The service without these revisions; None where nothing of what it served or tried is left. What they had of the
    traffic goes to the one that has the most beside them."""
    shares = tuple(one for one in service.shares if one.revision not in refused)
    trial = service.trial if service.trial is not None and service.trial.revision not in refused else None
    if _serves(service.shares, service.trial) and not _serves(shares, trial):
        return None
    kept = tuple(one for one in service.revisions if one.id not in refused)
    return replace(service, revisions=kept, shares=_whole(shares, service.shares), trial=trial)


def begins_at(deployers: Iterable[Deployer], now: datetime) -> datetime | None:
    """When the next of these is named."""
    return min((one.issued_at for one in deployers if one.issued_at > now), default=None)


def _problem(service: Service, revision: Revision, level: Level, known: Signatures) -> str | None:
    wanted = deployed(service, revision, known)
    if known.taken.get(service.id, {}).get(mark(service, wanted.contents), 0) >= level:
        return None
    return problem_of(known.signed(service.id, revision.id), wanted, level, known.deployers)


def deployed(service: Service, revision: Revision, known: Signatures) -> Deployed:
    """As what a revision runs here."""
    contents = known.contents(revision)
    return Deployed(installation=known.installation, project=service.project, service=service.name, contents=contents)


def _serves(shares: tuple[Share, ...], trial: Trial | None) -> bool:
    return trial is not None or any(one.percent for one in shares)


def _whole(kept: tuple[Share, ...], before: tuple[Share, ...]) -> tuple[Share, ...]:
    missing = sum(one.percent for one in before) - sum(one.percent for one in kept)
    most = max(kept, key=lambda one: one.percent, default=None)
    if not missing or most is None or not most.percent:
        return kept
    return tuple(replace(one, percent=one.percent + missing) if one is most else one for one in kept)
