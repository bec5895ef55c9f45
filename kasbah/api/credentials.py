"""The public API's shapes for what opens something: callers' keys, tokens for the API, and services' secrets."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator

from kasbah.api.manifest import DataSection
from kasbah.api.public import AttestationText
from kasbah.api.shape import Shape
from kasbah.domain.access import Action, PrincipalKind, Role
from kasbah.domain.label import LevelName


class SecretRequest(Shape):
    """A secret's value. Bytes, so base64; never shown again."""

    value_base64: Annotated[str, Field(max_length=16 * 2**20)]


class SecretView(Shape):
    """A secret, without its value. `data` is how sensitive it is, where that was said. `outdated` are services that use
    an older value: it reaches them when they are deployed again, or by `POST /services/NAME/env`."""

    name: str
    version: int
    size: int
    created_at: datetime
    changed_at: datetime
    data: DataSection | None
    used_by: list[str]
    outdated: list[str]


class CredentialState(StrEnum):
    """Whether it opens anything, and if not, why not."""

    OK = "ok"
    DISABLED = "disabled"
    EXPIRED = "expired"
    REVOKED = "revoked"


CredentialName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$")]
ExpiresIn = Annotated[
    int | None,
    Field(ge=1, le=315_360_000, description="When it expires, in seconds from now; null: never, or with its maker."),
]
MaxLevel = Annotated[
    LevelName | None,
    Field(description="The highest label of services that it may have to do with; null: any, or its maker's."),
]


class KeyRequest(Shape):
    """A key to make. `services` are names; none: every service of the project. `owner` answers for it: without one,
    whoever makes it. Nobody gives more than he has: it outlives neither its maker's token nor that token's ceiling.

    Who makes the key himself sends its SHA-256 (hex) alone. From level 3 on, and unlabelled counts as 3, sites let a
    key open only what a deployer signed of it (`attested`)."""

    name: CredentialName
    services: list[str] = Field(default_factory=list)
    owner: CredentialName | None = None
    max_level: MaxLevel = None
    expires_in_seconds: ExpiresIn = None
    sha256: Annotated[str | None, Field(pattern=r"^[0-9a-f]{64}$")] = None
    attested: AttestationText | None = None


OpensUpTo = Annotated[
    LevelName,
    Field(description="The highest label of what it opens: what is sensitive, or not labelled, as a deployer signed."),
]


class KeyView(Shape):
    """A key, without the key."""

    id: str
    name: str
    services: list[str] | None
    owner: str
    max_level: LevelName | None
    opens_up_to: OpensUpTo
    state: CredentialState
    created_at: datetime
    created_by: str | None = Field(description="The id of the token that made it.")
    expires_at: datetime | None
    disabled_at: datetime | None
    revoked_at: datetime | None = None


class KeyArrival(Shape):
    """Where a key is known as it is now. `behind` are sites that have not acted on it yet; `away` those of them that
    are not heard at present: they take the key for what it was when they were."""

    behind: list[str]
    away: list[str]


class KeyMade(Shape):
    """A new key. `key` is shown this once only; null where only its SHA-256 was sent."""

    id: str
    key: str | None
    opens_up_to: OpensUpTo


class GrantSection(Shape):
    """A role, or actions by their names, in a project; null: in every project, and for the installation itself."""

    project: Annotated[str, Field(max_length=40)] | None = None
    role: Role | None = None
    actions: Annotated[list[Action], Field(max_length=len(Action))] = Field(default_factory=list)

    @model_validator(mode="after")
    def _grants_something(self) -> GrantSection:
        if self.role is None and not self.actions:
            raise ValueError("it grants nothing: name a role, or actions")
        return self


class TokenRequest(Shape):
    """A token for the API: who holds it, and what he may. Nobody gives more than he has, for longer, or for a higher
    label."""

    name: CredentialName
    kind: PrincipalKind = PrincipalKind.PERSON
    grants: Annotated[list[GrantSection], Field(min_length=1, max_length=50)]
    max_level: MaxLevel = None
    expires_in_seconds: ExpiresIn = None


class TokenView(Shape):
    """A token, without the token."""

    id: str
    name: str
    kind: PrincipalKind
    grants: list[GrantSection]
    max_level: LevelName | None
    state: CredentialState
    created_at: datetime
    created_by: str | None = Field(description="The id of the token that made it; null: it was there at the start.")
    expires_at: datetime | None
    disabled_at: datetime | None
    revoked_at: datetime | None = None


class TokenMade(Shape):
    """A new token. `token` is shown this once only."""

    id: str
    token: str
