"""The public API's shapes for what opens something: callers' keys, tokens for the API, and services' secrets."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from kasbah.api.public import Shape


class SecretRequest(Shape):
    """A secret's value. Bytes, so base64; never shown again."""

    value_base64: Annotated[str, Field(max_length=16 * 2**20)]


class SecretView(Shape):
    """A secret, without its value. `outdated` are services that use an older value: it reaches them when they are
    deployed again, or by `POST /services/NAME/env`."""

    name: str
    version: int
    size: int
    created_at: datetime
    changed_at: datetime
    used_by: list[str]
    outdated: list[str]


class KeyRequest(Shape):
    """A key to make. `services` are names; none: every service of the project."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$")]
    services: list[str] = Field(default_factory=list)


class KeyView(Shape):
    """A key, without the key."""

    id: str
    name: str
    services: list[str] | None
    created_at: datetime
    revoked_at: datetime | None = None


class KeyMade(Shape):
    """A new key. `key` is shown this once only."""

    id: str
    key: str


class TokenRequest(Shape):
    """A token for the API. `scopes`: `read`, `deploy`, `keys`, `admin`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$")]
    scopes: Annotated[list[str], Field(min_length=1)]


class TokenView(Shape):
    """A token, without the token."""

    id: str
    name: str
    scopes: list[str]
    created_at: datetime
    revoked_at: datetime | None = None


class TokenMade(Shape):
    """A new token. `token` is shown this once only."""

    id: str
    token: str
