"""Keys and tokens, as they are shown: never with the secret itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from kasbah.api.credentials import CredentialState, GrantSection, KeyView, TokenView
from kasbah.control.store.records import KeyRecord, TokenRecord
from kasbah.domain.ids import ProjectId, ServiceId
from kasbah.domain.label import Level, LevelName


def key(record: KeyRecord, services: Mapping[ServiceId, str], opens_up_to: Level, now: datetime) -> KeyView:
    """A key without the key; `services` are names by id, those deleted since are shown by id."""
    opens = record.services
    return KeyView(
        id=record.id,
        name=record.name,
        services=None if opens is None else [services.get(one, one) for one in opens],
        owner=record.owner,
        max_level=_level(record.max_level),
        opens_up_to=opens_up_to.word,
        state=_state(record, now),
        created_at=record.created_at,
        created_by=record.created_by,
        expires_at=record.expires_at,
        disabled_at=record.disabled_at,
        revoked_at=record.revoked_at,
    )


def token(record: TokenRecord, projects: Mapping[ProjectId, str], now: datetime) -> TokenView:
    """A token without the token; `projects` are names by id, those deleted since are shown by id."""
    return TokenView(
        id=record.id,
        name=record.name,
        kind=record.kind,
        grants=[
            GrantSection(
                project=None if one.project is None else projects.get(one.project, one.project),
                role=one.role,
                actions=list(one.actions),
            )
            for one in record.grants
        ],
        max_level=_level(record.max_level),
        state=_state(record, now),
        created_at=record.created_at,
        created_by=record.created_by,
        expires_at=record.expires_at,
        disabled_at=record.disabled_at,
        revoked_at=record.revoked_at,
    )


def _level(level: Level | None) -> LevelName | None:
    return None if level is None else level.word


def _state(record: KeyRecord | TokenRecord, now: datetime) -> CredentialState:
    if record.revoked_at is not None:
        return CredentialState.REVOKED
    if record.disabled_at is not None:
        return CredentialState.DISABLED
    expired = record.expires_at is not None and record.expires_at <= now
    return CredentialState.EXPIRED if expired else CredentialState.OK
