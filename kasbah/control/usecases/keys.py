"""Makes, lists and revokes callers' keys, and switches them off and on. A key is shown once; sites and we keep its
SHA-256.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kasbah.api.caller_keys import read_key
from kasbah.api.credentials import KeyRequest
from kasbah.api.secret_kinds import Secret, make_secret, sha256_of
from kasbah.control.store.interface import Cursor
from kasbah.control.store.records import KeyRecord, TokenRecord
from kasbah.control.usecases.describe import installation_of
from kasbah.control.usecases.given import ceiling, expiry, refuse_more
from kasbah.control.usecases.work import Work, new_id, project_named
from kasbah.decide.callers import ceiling_of
from kasbah.domain.access import Principal
from kasbah.domain.attestation import Attested
from kasbah.domain.ids import KeyId, ProjectId, ServiceId
from kasbah.domain.label import Level
from kasbah.errors import Conflict, Invalid, NotFound


def create_key(work: Work, caller: TokenRecord, project: str, request: KeyRequest) -> tuple[KeyRecord, str | None]:
    """A new key's record, and the key itself; None where its maker sent the SHA-256 alone."""
    owner = project_named(work.tx, project)
    level, expires_at = ceiling(caller, request.max_level), expiry(work, caller, request.expires_in_seconds)
    refuse_more(work, caller, Principal(ceiling=level, expires_at=expires_at))
    if work.tx.keys.find(owner.id, request.name) is not None:
        raise Conflict(
            f"there is a key {request.name!r} already",
            hint="revoke it first, or choose another name",
            code="name_taken",
        )
    key = make_secret(Secret.KEY) if request.sha256 is None else None
    sha256 = sha256_of(key) if key is not None else str(request.sha256)
    if work.tx.keys.known(sha256):
        raise Conflict("there is a key with this SHA-256 already", hint="make another", code="key_taken")
    record = KeyRecord(
        id=KeyId(new_id("key")),
        project=owner.id,
        name=request.name,
        sha256=sha256,
        services=_services(work, owner.id, request.services) if request.services else None,
        created_at=work.now,
        created_by=caller.id,
        owner=request.owner or caller.name,
        max_level=level,
        expires_at=expires_at,
        attested=None if request.attested is None else _signed(work, owner.id, request),
    )
    work.journal.detail(name=record.name, services=", ".join(request.services or ()))
    work.tx.keys.add(record)
    return record, key


def list_keys(work: Work, project: str, after: Cursor | None, limit: int, *, revoked: bool) -> tuple[KeyRecord, ...]:
    """One page of keys, the revoked ones only if asked for."""
    return work.tx.keys.page(project_named(work.tx, project).id, after, limit, revoked=revoked)


def revoke_key(work: Work, project: str, name_or_id: str) -> KeyRecord:
    """Revoke a key; one that is revoked already stays so."""
    record = find_key(work, project, name_or_id)
    return record if record.revoked_at is not None else _save(work, replace(record, revoked_at=work.now))


def disable_key(work: Work, project: str, name_or_id: str) -> KeyRecord:
    """Switch a key off: it opens nothing until it is switched on again."""
    record = find_key(work, project, name_or_id)
    return record if record.disabled_at is not None else _save(work, replace(record, disabled_at=work.now))


def enable_key(work: Work, caller: TokenRecord, project: str, name_or_id: str) -> KeyRecord:
    """Switch a key on again, which is as much as giving it."""
    record = find_key(work, project, name_or_id)
    if record.revoked_at is not None:
        raise Conflict(f"the key {record.name!r} was revoked", hint="make another", code="revoked")
    refuse_more(work, caller, Principal(ceiling=record.max_level, expires_at=record.expires_at))
    return _save(work, replace(record, disabled_at=None))


def opens_up_to(work: Work, record: KeyRecord) -> Level:
    """The highest label of what sites let it open that are told of it now; those that took it before go on with it."""
    signed = None if record.attested is None else read_key(record.attested)
    level = ceiling_of(signed, work.law.grants.deployers)
    return level if record.max_level is None else min(level, record.max_level)


def _signed(work: Work, project: ProjectId, request: KeyRequest) -> Attested:
    """What a deployer signed of the key that is to be made. Raises Invalid where that is another."""
    assert request.attested is not None
    attested = request.attested.to_domain()
    signed = read_key(attested)
    wanted = (installation_of(work).id, project, request.sha256, set(request.services))
    said = None if signed is None else signed.said
    if said is None or (said.installation, said.project, said.sha256, set(said.services)) != wanted:
        raise Invalid(
            "this is no signature of the key that is to be made",
            where="attested",
            hint="sign the SHA-256 that is sent along, in this project, and the services that it opens",
            code="other_key",
        )
    return attested


def find_key(work: Work, project: str, name_or_id: str) -> KeyRecord:
    """The project's key with this id, or with this name if it was not revoked. Raises NotFound."""
    found = work.tx.keys.find(project_named(work.tx, project).id, name_or_id)
    if found is None:
        raise NotFound(f"there is no key {name_or_id!r}", hint="list them with `kasbah keys list`")
    return found


def _save(work: Work, record: KeyRecord) -> KeyRecord:
    work.journal.detail(id=record.id, name=record.name)
    work.tx.keys.save(record)
    return record


def _services(work: Work, project: ProjectId, names: Sequence[str]) -> tuple[ServiceId, ...]:
    """The services' ids. An unknown name is refused: a key must never open more, or less, than was meant."""
    found = []
    for position, name in enumerate(names):
        service = work.tx.services.find(project, name)
        if service is None:
            raise Invalid(
                f"there is no service {name!r} for this key to open",
                where=f"services.{position}",
                hint="deploy the service first, then make the key",
                code="service_not_found",
            )
        found.append(service.id)
    return tuple(dict.fromkeys(found))
