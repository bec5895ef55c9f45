"""The key that a service is given to call others with: made from what seals secrets, so that it is nowhere kept.

It opens the services that the revisions with a share, or under trial, say they call, and no others.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence

from kasbah.api.attesting import OWN_KEY
from kasbah.api.sealing import Vault
from kasbah.control.access.secrets import Secret, digest_of
from kasbah.control.store.records import RevisionRecord, ServiceRecord
from kasbah.domain.ids import SecretId, ServiceId
from kasbah.domain.secret import SecretUse
from kasbah.domain.service import Key, own_key

PREFIX = "key-"
"""Of a secret's id that is no secret of a project, but a service's own key."""


def use_of_key(service: ServiceId) -> SecretUse:
    """The key as its service gets it: as a secret."""
    return SecretUse(variable=OWN_KEY, secret=SecretId(PREFIX + service), version=1)


def is_key(secret: str) -> bool:
    """Whether this id is that of a service's own key."""
    return secret.startswith(PREFIX)


def key_of(vault: Vault, secret: str) -> str:
    """The key itself."""
    made = vault.derive(f"key of service {secret.removeprefix(PREFIX)}")
    return Secret.KEY.value + base64.urlsafe_b64encode(made).decode().rstrip("=")


def callers_keys(
    vault: Vault, services: Iterable[ServiceRecord], revisions: dict[ServiceId, Sequence[RevisionRecord]]
) -> tuple[Key, ...]:
    """What sites know of the keys of these services, where they call any."""
    services = tuple(services)
    named = {(one.project, one.name): one.id for one in services}
    keys = []
    for service in services:
        wanted = service.in_use
        calls = {name for one in revisions.get(service.id, ()) if one.id in wanted for name in one.contents.calls}
        opened = sorted(named[service.project, name] for name in calls if (service.project, name) in named)
        if calls:
            sha256 = digest_of(key_of(vault, PREFIX + service.id))
            keys.append(Key(id=own_key(service.id), project=service.project, sha256=sha256, services=tuple(opened)))
    return tuple(keys)
