"""The keys that services are given to call others with, which open what the revisions with a share, or under trial, say
they call, and nothing else.

The site that runs a service makes them, and states what they open; here that is carried to the sites of what is called.
One that was made here, before that or for a site of the version before, is made from what seals secrets, so that it is
nowhere kept; sites let it open nothing that is sensitive.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from kasbah.api.attesting import OWN_KEY
from kasbah.api.sealing import Vault
from kasbah.api.secret_kinds import Secret, secret_from, sha256_of
from kasbah.control.store.records import RevisionRecord, ServiceRecord, SiteRecord
from kasbah.domain.caller import StatedKey
from kasbah.domain.ids import SecretId, ServiceId, SiteId
from kasbah.domain.secret import SecretUse
from kasbah.domain.service import OWN_KEY_VERSION, Key, own_key

PREFIX = "key-"
"""Of a secret's id that is no secret of a project, but a service's own key."""


def use_of_key(service: ServiceId) -> SecretUse:
    """The key as its service gets it: as a secret."""
    return SecretUse(variable=OWN_KEY, secret=SecretId(PREFIX + service), version=OWN_KEY_VERSION)


def is_key(secret: str) -> bool:
    """Whether this id is that of a service's own key."""
    return secret.startswith(PREFIX)


def key_of(vault: Vault, secret: str) -> str:
    """The key itself."""
    made = vault.derive(f"key of service {secret.removeprefix(PREFIX)}")
    return secret_from(Secret.KEY, made)


def callers_keys(
    vault: Vault, services: Iterable[ServiceRecord], revisions: Mapping[ServiceId, Sequence[RevisionRecord]]
) -> tuple[Key, ...]:
    """What sites know of the keys of these services that were made here, where they call any."""
    return tuple(
        Key(
            id=own_key(service.id),
            project=service.project,
            sha256=sha256_of(key_of(vault, PREFIX + service.id)),
            services=tuple(sorted(called)),
        )
        for service, called in _calls(services, revisions)
    )


StatedTo = Mapping[ServiceId, tuple[tuple[SiteId, StatedKey], ...]]
"""By service that is called, what is stated of the keys of those that call it, and by which site."""


def stated_keys(
    sites: Iterable[SiteRecord],
    services: Iterable[ServiceRecord],
    revisions: Mapping[ServiceId, Sequence[RevisionRecord]],
) -> StatedTo:
    """What sites state of the keys of these services, as far as those still call others."""
    sites = tuple(sites)
    if not any(site.report is not None and site.report.own_keys for site in sites):
        return {}
    called = {service.id: opened for service, opened in _calls(services, revisions)}
    found: dict[ServiceId, list[tuple[SiteId, StatedKey]]] = defaultdict(list)
    for site in sites:
        for one in site.report.own_keys if site.report is not None else ():
            for service in called.get(one.service, ()):
                found[service].append((site.id, one))
    return {service: tuple(stated) for service, stated in found.items()}


def told_to(site: SiteId, services: Iterable[ServiceId], stated: StatedTo) -> tuple[StatedKey, ...]:
    """What other sites state of the keys of those that call these services."""
    if not stated:
        return ()
    found = (one for service in services for by, one in stated.get(service, ()) if by != site)
    return tuple(sorted(set(found), key=lambda one: one.signed.document))


def _calls(
    services: Iterable[ServiceRecord], revisions: Mapping[ServiceId, Sequence[RevisionRecord]]
) -> Iterator[tuple[ServiceRecord, set[ServiceId]]]:
    """The services that call others, and those of them that there are."""
    services = tuple(services)
    named = {(one.project, one.name): one.id for one in services}
    for service in services:
        wanted = service.in_use
        calls = {name for one in revisions.get(service.id, ()) if one.id in wanted for name in one.contents.calls}
        if calls:
            yield service, {named[service.project, name] for name in calls if (service.project, name) in named}
