"""Who may open a service with sensitive data to callers? Not the control plane alone, from level 3 on.

Whoever captured it could say that anybody may call such a service, or make a key of its own for it, and read what it
answers. So there a deployer signs, whom the owner named, that anybody may call, and each key. He makes the key where he
is, and the control plane sees its SHA-256 alone. What nobody signed opens what is less than sensitive, as before.

Of a service's access the newest word counts that this site has seen, so that an old one opens nothing again. As with
code, a deployer must be named when a site first takes what he signed, and what was taken stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from kasbah.decide.signed import FROM, Signatures, deployed, highest, holds, mark, problem_of
from kasbah.domain.caller import CallersKey, OwnKey, SignedKey
from kasbah.domain.crossing import Forwarded
from kasbah.domain.desired import DesiredState
from kasbah.domain.grant import Deployer
from kasbah.domain.ids import InstallationId, ProjectId, ServiceId
from kasbah.domain.label import Level
from kasbah.domain.revision import Revision
from kasbah.domain.service import Access, Key, Service, own_key

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
UNSIGNED = Level(FROM - 1)
"""The highest level of what a key opens that nobody signed."""
NOT_SIGNED = (
    "it asks callers for a key here: its data is sensitive, and no deployer has signed that anybody may call it. "
    "Deploy it again with a key whose holder the owner has named (kasbah deployers add)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What was signed last of who may call a service, when, and for data of which level at most: that of the label that
    was signed with it."""

    signed_at: datetime
    public: bool
    level: int


OpenedBy = Mapping[str, Opened]
"""By service, as `named` names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenKey:
    """What was signed of a key as it was taken, and the highest level that it was signed for."""

    said: CallersKey
    level: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """A service's own key as a site states it, and whether it is known that this site does."""

    said: OwnKey
    proven: bool


TakenKeys = Mapping[str, TakenKey]
"""By the key's SHA-256."""
Read = Callable[[Key], SignedKey | None]
Names = Mapping[ServiceId, tuple[ProjectId, str]]


def keys(told: DesiredState, own: Iterable[Key], installation: InstallationId, taken: TakenKeys) -> tuple[Key, ...]:
    """The keys that this site was told of, and those of services' `own`, each with no higher ceiling than was signed
    for it. What is told has one key of an id."""
    names = _names(told)
    first = {key.id: key for key in reversed(told.keys)}
    return tuple(_held(key, names, installation, taken) for key in (*reversed(first.values()), *own))


def taken_keys(told: DesiredState, known: Signatures, read: Read, before: TakenKeys) -> dict[str, TakenKey]:
    """What is remembered of keys from now on: those for what is sensitive that a named deployer signed, the newest
    last."""
    found = dict(before)
    for key in told.keys:
        signed = read(key)
        if signed is None or signed.said.sha256 != key.sha256:
            continue
        taken = TakenKey(said=signed.said, level=int(highest(signed.key, signed.said.project, known.deployers)))
        if taken.level >= FROM and taken != (held := found.get(key.sha256)) and _later(taken, held):
            found.pop(key.sha256, None)
            found[key.sha256] = taken
    return found


def opened(told: DesiredState, known: Signatures, before: OpenedBy) -> dict[str, Opened]:
    """What is remembered of who may call services from now on: the newest word of each that a named deployer signed."""
    found = dict(before)
    for service in told.services:
        for said in known.all_signed(service.id):
            word = said.attestation
            if word.public is None or not holds(said, service, FROM, known):
                continue
            held = found.get(named(service))
            if held is None or word.signed_at >= held.signed_at:
                level = min(highest(said.key, service.project, known.deployers), int(word.label.level))
                same = held is not None and (held.signed_at, held.public) == (word.signed_at, word.public)
                most = max(level, held.level) if held is not None and same else level
                found[named(service)] = Opened(signed_at=word.signed_at, public=word.public, level=most)
    return found


def own_level(service: Service, revision: Revision, known: Signatures) -> Level:
    """The highest level of what this revision may open with a key of its own: that for which a named deployer signed
    it, or for which it was taken."""
    wanted = deployed(service, revision, known)
    level = known.taken.get(service.id, {}).get(mark(service, wanted.contents), 0)
    said = known.signed(service.id, revision.id)
    if said is not None and problem_of(said, wanted, Level.PUBLIC, known.deployers) is None:
        level = max(level, highest(said.key, service.project, known.deployers))
    return Level(max(UNSIGNED, level))


def own_keys(told: DesiredState, stated: Iterable[Stated]) -> tuple[Key, ...]:
    """The keys of services of their own, each for what it calls of what this site knows."""
    there: tuple[Service | Forwarded, ...] = (*told.services, *told.forwarded)
    ids = {(one.project, one.name): one.id for one in there}
    found = []
    for one in stated:
        called = (ids.get((one.said.project, name)) for name in one.said.calls)
        services = tuple(service for service in called if service is not None)
        found.append(
            Key(id=own_key(one.said.service), project=one.said.project, sha256=one.said.sha256, services=services)
        )
    return tuple(found)


def taken_own_keys(stated: Iterable[Stated], before: TakenKeys) -> dict[str, TakenKey]:
    """What is remembered of keys, with those of services' own that open what is sensitive."""
    found = dict(before)
    for one in stated:
        said, level = one.said, int(one.said.up_to)
        if not one.proven or not said.calls or level < FROM:
            continue
        held = found.get(said.sha256)
        if held is None or held.level < level or not set(held.said.services).issuperset(said.calls):
            key = CallersKey(
                installation=said.installation,
                project=said.project,
                sha256=said.sha256,
                services=said.calls,
                signed_at=LONG_AGO,
            )
            found[said.sha256] = TakenKey(said=key, level=level)
    return found


def holders_of(told: DesiredState, stated: Iterable[Stated], before: Mapping[ServiceId, int]) -> dict[ServiceId, int]:
    """The services here whose keys opened what is sensitive at any time, and the highest level of that."""
    found = dict(before)
    for one in stated:
        service, level = one.said.service, int(one.said.up_to)
        if one.said.site == told.site and level >= FROM and level > found.get(service, 0):
            found[service] = level
    return found


def ceiling_of(signed: SignedKey | None, deployers: Iterable[Deployer]) -> Level:
    """The highest label of what a key opens where it is taken now, by what was signed of it."""
    if signed is None:
        return UNSIGNED
    level = Level(max(UNSIGNED, highest(signed.key, signed.said.project, deployers)))
    return level if signed.said.max_level is None else min(level, signed.said.max_level)


def held_to(accepted: DesiredState, said: OpenedBy) -> DesiredState:
    """What a site acts on, labelled as it labels it, with services that ask for a key where nobody signed that they
    need none. Of the services that a key names it keeps those whose labels it may open: what several keys of one id
    open, the gateway knows by that id alone."""
    lanes = {one.id: one.label.level for one in accepted.lanes}
    levels = {one.id: lanes[one.lane] for one in accepted.forwarded if one.lane in lanes}
    levels |= {one.id: one.label.level for one in accepted.services}
    services = tuple(_entered(one, said) for one in accepted.services)
    return replace(accepted, services=services, keys=tuple(_within(key, levels) for key in accepted.keys))


def shut(accepted: DesiredState, held: DesiredState) -> list[str]:
    """The services, by name, that were told to take anybody's requests and do not."""
    pairs = zip(accepted.services, held.services, strict=True)
    return [before.name for before, after in pairs if before.access is not after.access]


def of_before(told: DesiredState, known: Signatures) -> tuple[dict[str, Opened], dict[str, TakenKey]]:
    """What a site held before it asked for signatures of this: it stays."""
    names = _names(told)
    public = [one for one in told.services if one.access is Access.PUBLIC]
    word = Opened(signed_at=LONG_AGO, public=True, level=int(Level.VITAL))
    taken = {}
    for key in told.keys:
        opens = tuple(_names_of(key, names))
        if key.services is not None and not opens:  # nothing here, which as it is signed would be everything
            continue
        said = CallersKey(
            installation=known.installation,
            project=key.project,
            sha256=key.sha256,
            services=opens,
            max_level=key.max_level,
            expires_at=key.expires_at,
            signed_at=LONG_AGO,
        )
        taken[key.sha256] = TakenKey(said=said, level=int(Level.VITAL))
    return {named(one): word for one in public}, taken


def named(service: Service) -> str:
    """As what a service's access is remembered."""
    return f"{service.project} {service.name}"


def _entered(service: Service, said: OpenedBy) -> Service:
    if service.access is not Access.PUBLIC or service.label.level < FROM:
        return service
    word = said.get(named(service))
    if word is not None and word.public and word.level >= service.label.level:
        return service
    return replace(service, access=Access.KEY)


def _held(key: Key, names: Names, installation: InstallationId, taken: TakenKeys) -> Key:
    held = taken.get(key.sha256)
    if held is None or not _covers(held.said, key, names, installation):
        return replace(key, max_level=UNSIGNED if key.max_level is None else min(key.max_level, UNSIGNED))
    ceilings = [one for one in (key.max_level, held.said.max_level) if one is not None]
    ends = [one for one in (key.expires_at, held.said.expires_at) if one is not None]
    return replace(key, max_level=min([Level(held.level), *ceilings]), expires_at=min(ends, default=None))


def _covers(said: CallersKey, key: Key, names: Names, installation: InstallationId) -> bool:
    """Whether what was signed is of this key, and lets it open all that it is told to open."""
    if (said.installation, said.project, said.sha256) != (installation, key.project, key.sha256):
        return False
    return not said.services or (key.services is not None and set(said.services).issuperset(_names_of(key, names)))


def _later(taken: TakenKey, held: TakenKey | None) -> bool:
    """Whether this was signed after what is held; of one moment the higher level counts."""
    return held is None or (taken.said.signed_at, taken.level) > (held.said.signed_at, held.level)


def _names(told: DesiredState) -> Names:
    there: tuple[Service | Forwarded, ...] = (*told.services, *told.forwarded)
    return {one.id: (one.project, one.name) for one in there}


def _names_of(key: Key, names: Names) -> Iterator[str]:
    """What a key opens here, by name, as it is signed for its project; of another project's services nothing is."""
    for one in key.services or ():
        if one in names:
            project, name = names[one]
            yield name if project == key.project else f"{project}/{name}"


def _within(key: Key, levels: Mapping[ServiceId, Level]) -> Key:
    if key.services is None or key.max_level is None:
        return key
    kept = tuple(one for one in key.services if levels.get(one, key.max_level) <= key.max_level)
    return key if kept == key.services else replace(key, services=kept)
