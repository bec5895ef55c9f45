"""Sets, lists and removes a project's secrets, and gives a site those that its services use. No value is ever shown.

A new value is a new version; revisions name the version they were made with, so nothing that runs changes by itself.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, replace

from kasbah.api.agent import DESIRED_STATE
from kasbah.api.manifest import ResolvedService
from kasbah.control.store.interface import Cursor
from kasbah.control.store.records import SecretRecord, SecretValue, ServiceRecord, SiteRecord
from kasbah.control.usecases.service_keys import is_key, key_of
from kasbah.control.usecases.work import Work, new_id, project_named
from kasbah.decide.secret_use import refuses_secret
from kasbah.domain.ids import ProjectId, SecretId, ServiceId
from kasbah.domain.secret import LARGEST, Delivery, SecretUse
from kasbah.domain.service import OWN_KEY_VERSION
from kasbah.errors import Conflict, Invalid, NotFound, TooLarge


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSight:
    """A secret and the services that use it, those that use an older value apart."""

    secret: SecretRecord
    size: int
    used_by: tuple[str, ...]
    outdated: tuple[str, ...]


def set_secret(work: Work, project: str, name: str, encoded: str) -> SecretRecord:
    """Give the secret this value, base64. The value it has already makes no new version."""
    value = _decoded(encoded)
    owner = project_named(work.tx, project).id
    known = work.tx.secrets.find(owner, name)
    if known is not None and _value(work, known.id, known.version) == value:
        return known
    made = SecretRecord(
        id=known.id if known else SecretId(new_id("secret")),
        project=owner,
        name=name,
        version=known.version + 1 if known else 1,
        created_at=known.created_at if known else work.now,
        changed_at=work.now,
        label=known.label if known else None,
    )
    work.journal.detail(secret=made.id, version=made.version)
    sealed = work.vault.seal(value, _context(made.id, made.version))
    work.tx.secrets.put(
        made,
        SecretValue(secret=made.id, version=made.version, sealed=sealed, size=len(value), created_at=work.now),
    )
    return made


def list_secrets(work: Work, project: str, after: Cursor | None, limit: int) -> tuple[SecretSight, ...]:
    """One page of secrets."""
    owner = project_named(work.tx, project).id
    used = _uses(work, owner)
    return tuple(_sight(work, one, used) for one in work.tx.secrets.page(owner, after, limit))


def see_secret(work: Work, secret: SecretRecord) -> SecretSight:
    """A secret as lists show it."""
    return _sight(work, secret, _uses(work, secret.project))


def secret_named(work: Work, project: str, name: str) -> SecretRecord:
    """The secret called so. Raises NotFound."""
    found = work.tx.secrets.find(project_named(work.tx, project).id, name)
    if found is None:
        raise NotFound(f"there is no secret {name!r}", hint="list them with `kasbah secrets list`")
    return found


def users(work: Work, project: ProjectId) -> Mapping[SecretId, tuple[ServiceRecord, ...]]:
    """By secret, the services of a project of which a revision with a share, or under trial, uses it."""
    found: dict[SecretId, dict[ServiceId, ServiceRecord]] = {}
    for service, uses in _uses(work, project).values():
        for use in uses:
            found.setdefault(SecretId(use.secret), {})[service.id] = service
    return {secret: tuple(services.values()) for secret, services in found.items()}


def delete_secret(work: Work, project: str, name: str) -> None:
    """Remove a secret. Refused while a service that has traffic, or is being rolled out, uses it."""
    found = secret_named(work, project, name)
    used = see_secret(work, found).used_by
    if used:
        raise Conflict(
            f"the secret {name!r} is used by {', '.join(used)}",
            hint="deploy what uses it without it, or delete that first",
            code="secret_used",
        )
    work.journal.detail(secret=found.id)
    work.tx.secrets.put(replace(found, deleted_at=work.now))


def uses_of(work: Work, project: ProjectId, config: ResolvedService) -> tuple[SecretUse, ...]:
    """What the configuration's secrets are now: the newest value of each. Raises Invalid where one is not there."""
    uses = []
    for variable in sorted(config.secrets):
        section = config.secret(variable)
        found = work.tx.secrets.find(project, section.name)
        if found is None:
            raise Invalid(
                f"there is no secret {section.name!r}",
                where=f"secrets.{variable}",
                hint=f"set it first: kasbah secrets set {section.name} < FILE",
                code="secret_not_found",
            )
        if section.deliver is Delivery.ENV and b"\0" in _value(work, found.id, found.version):
            raise Invalid(
                f"the secret {section.name!r} holds a zero byte, which no environment variable can",
                where=f"secrets.{variable}",
                hint="deliver it as a file: {name: " + section.name + ", deliver: file}",
                code="secret_not_text",
            )
        uses.append(SecretUse(variable=variable, secret=found.id, version=found.version, delivery=section.deliver))
    return tuple(uses)


def give_secret(work: Work, site: SiteRecord, secret: str, version: int) -> bytes:
    """The value, to a site whose desired state names it for a service that may have it. Raises NotFound for every
    other."""
    document = work.tx.sites.desired(site.id)
    desired = DESIRED_STATE.validate_json(document.body) if document is not None else None
    labels = [
        service.label
        for service in (desired.services if desired else ())
        if any((use.secret, use.version) == (secret, version) for one in service.revisions for use in one.secrets)
    ]
    if not labels:
        raise NotFound("this site uses no such secret")
    if is_key(secret):
        return key_of(work.vault, secret).encode()
    found = work.tx.secrets.get(SecretId(secret))
    if found is not None and not any(refuses_secret(one, found.label, {}) is None for one in labels):
        raise NotFound(f"no service here is labelled as high as the secret {found.name!r}")
    return _value(work, SecretId(secret), version)


def newest(work: Work, uses: tuple[SecretUse, ...]) -> tuple[SecretUse, ...]:
    """The same uses, of the newest values."""
    found = {use.secret: work.tx.secrets.get(use.secret) for use in uses}
    return tuple(
        replace(use, version=OWN_KEY_VERSION)
        if is_key(use.secret)
        else replace(use, version=known.version)
        if (known := found[use.secret]) is not None
        else use
        for use in uses
    )


def _value(work: Work, secret: SecretId, version: int) -> bytes:
    found = work.tx.secrets.value(secret, version)
    if found is None:
        raise NotFound(f"version {version} of secret {secret} is not kept", hint="set it again, and deploy")
    return work.vault.open(found.sealed, _context(secret, version))


def _context(secret: SecretId, version: int) -> str:
    return f"secret {secret} version {version}"


def _decoded(encoded: str) -> bytes:
    try:
        value = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid("the value is not base64", where="value_base64", hint="`kasbah secrets set` encodes it") from None
    if len(value) > LARGEST:
        raise TooLarge(
            f"the secret has {len(value):,} bytes; {LARGEST:,} are the most",
            where="value_base64",
            hint="keep large files in the source or in a volume, encrypted, and make their key the secret",
        )
    if not value:
        raise Invalid("the secret is empty", where="value_base64", hint="pipe its value to standard input")
    return value


def _uses(work: Work, project: ProjectId) -> Mapping[ServiceId, tuple[ServiceRecord, tuple[SecretUse, ...]]]:
    """What each service's revisions with a share, or under trial, use."""
    found = {}
    for service in work.tx.services.all():
        if service.project != project:
            continue
        wanted = service.in_use
        revisions = (one for one in work.tx.revisions.of(service.id) if one.id in wanted)
        found[service.id] = (service, tuple(use for one in revisions for use in one.contents.secrets))
    return found


def _sight(
    work: Work,
    secret: SecretRecord,
    used: Mapping[ServiceId, tuple[ServiceRecord, tuple[SecretUse, ...]]],
) -> SecretSight:
    names = {service.name: {use.version for use in uses if use.secret == secret.id} for service, uses in used.values()}
    value = work.tx.secrets.value(secret.id, secret.version)
    return SecretSight(
        secret=secret,
        size=value.size if value else 0,
        used_by=tuple(sorted(name for name, versions in names.items() if versions)),
        outdated=tuple(sorted(name for name, versions in names.items() if versions - {secret.version})),
    )
