"""The tables. A column that holds one of our own values holds it as JSON, checked when it is read.

A change here needs a migration (`migrations/versions`); a test compares the two.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from functools import cache, lru_cache
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Enum,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from kasbah.domain.ids import ServiceId
from kasbah.domain.label import Label
from kasbah.domain.observed import ServiceStatus, SiteStatus, Wake
from kasbah.domain.placement import Placement
from kasbah.domain.project import Quota
from kasbah.domain.revision import Revision
from kasbah.domain.rollout import Cause, RolloutRules, RolloutState
from kasbah.domain.service import Access, Order, Scaling, Share, Sleep, Trial
from kasbah.domain.site import SiteKind


@cache
def adapter(shape: Any) -> TypeAdapter[Any]:
    """What turns a value of `shape` into JSON and back."""
    return TypeAdapter(shape)


class Shaped(TypeDecorator[Any]):
    """A value of our own, as JSON text."""

    impl = Text
    cache_ok = True

    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.shape = shape

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else adapter(self.shape).dump_json(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        if value is None or len(value) > LONGEST_REMEMBERED:
            return None if value is None else adapter(self.shape).validate_json(value)
        return _parsed(self.shape, value)


LONGEST_REMEMBERED = 2_000
"""Characters: what is longer (reports, for one) changes more often than it is read."""


@lru_cache(maxsize=20_000)
def _parsed(shape: Any, text: str) -> Any:
    """What a short text says. Our values are frozen, and of thousands of services most are as they were when they were
    read last."""
    return adapter(shape).validate_json(text)


class Instant(TypeDecorator[datetime]):
    """A moment in UTC: SQLite keeps no time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


def one_of(kind: type[StrEnum]) -> Enum:
    """One of these words."""
    return Enum(kind, native_enum=False, length=20, values_callable=lambda words: [word.value for word in words])


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

installation = Table(
    "installation",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
)

project = Table(
    "project",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(40), nullable=False, unique=True),
    Column("quota", Shaped(Quota), nullable=False),
    Column("deleted_at", Instant),
)

site = Table(
    "site",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(40), nullable=False, unique=True),
    Column("kind", one_of(SiteKind), nullable=False),
    Column("country", String(2)),
    Column("token_sha256", String(64), nullable=False),
    Column("seen_at", Instant),
    Column("report", Shaped(SiteStatus)),
    Column("usage_sequence", BigInteger, nullable=False),
)

desired = Table(
    "desired",
    metadata,
    Column("site", ForeignKey("site.id"), primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("contents", String(71), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("signature", Text, nullable=False),
)

service = Table(
    "service",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project", ForeignKey("project.id"), nullable=False),
    Column("name", String(40), nullable=False),
    Column("access", one_of(Access), nullable=False),
    Column("domains", Shaped(tuple[str, ...]), nullable=False),
    Column("label", Shaped(Label), nullable=False),
    Column("scaling", Shaped(Scaling), nullable=False),
    Column("sleep", Shaped(Sleep), nullable=False),
    Column("rollout_rules", Shaped(RolloutRules), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("placement", Shaped(Placement)),
    Column("shares", Shaped(tuple[Share, ...]), nullable=False),
    Column("trial", Shaped(Trial)),
    Column("order", Shaped(Order)),
    Column("version", BigInteger, nullable=False),
    Column("deployed_at", Instant),
    Column("deleted_at", Instant),
    Index("ix_service_name_id", "name", "id"),
    Index(
        "uq_service_live_name",
        "project",
        "name",
        unique=True,
        sqlite_where=text("deleted_at IS NULL"),
        postgresql_where=text("deleted_at IS NULL"),
    ),
)

revision = Table(
    "revision",
    metadata,
    Column("service", ForeignKey("service.id"), primary_key=True),
    Column("id", String(32), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("contents", Shaped(Revision), nullable=False),
    Column("proven", Boolean, nullable=False),
)

rollout = Table(
    "rollout",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("service", ForeignKey("service.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("revision", String(32), nullable=False),
    Column("state", one_of(RolloutState), nullable=False, index=True),
    Column("started_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("rules", Shaped(RolloutRules), nullable=False),
    Column("cause", one_of(Cause), nullable=False),
    Column("before", Shaped(tuple[Share, ...]), nullable=False),
    Column("percent", Integer, nullable=False),
    Column("step", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("tail", Shaped(tuple[str, ...]), nullable=False),
    Column("shifted_at", Instant),
    Column("moved_at", Instant),
    Column("shifted_generation", BigInteger),
    Column("version", BigInteger, nullable=False),
    UniqueConstraint("service", "number"),
)

service_report = Table(
    "service_report",
    metadata,
    Column("site", ForeignKey("site.id"), primary_key=True),
    Column("service", ForeignKey("service.id"), primary_key=True, index=True),
    Column("status", Shaped(ServiceStatus), nullable=False),
)

wake = Table(
    "wake",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("service", ForeignKey("service.id"), nullable=False),
    Column("site", ForeignKey("site.id"), nullable=False),
    Column("at", Instant, nullable=False),
    Column("contents", Shaped(Wake), nullable=False),
    Index("ix_wake_service_at", "service", "at"),
)

key = Table(
    "key",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project", ForeignKey("project.id"), nullable=False),
    Column("name", String(100), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("services", Shaped(tuple[ServiceId, ...])),
    Column("created_at", Instant, nullable=False),
    Column("revoked_at", Instant),
    Index("ix_key_name_id", "name", "id"),
)

secret = Table(
    "secret",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("project", ForeignKey("project.id"), nullable=False),
    Column("name", String(60), nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("deleted_at", Instant),
    Index("ix_secret_name_id", "name", "id"),
    Index(
        "uq_secret_live_name",
        "project",
        "name",
        unique=True,
        sqlite_where=text("deleted_at IS NULL"),
        postgresql_where=text("deleted_at IS NULL"),
    ),
)

secret_value = Table(
    "secret_value",
    metadata,
    Column("secret", ForeignKey("secret.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("size", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
)

token = Table(
    "token",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("scopes", Shaped(tuple[str, ...]), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("revoked_at", Instant),
    Index("ix_token_name_id", "name", "id"),
)

usage_minute = Table(
    "usage_minute",
    metadata,
    Column("service", ForeignKey("service.id"), primary_key=True),
    Column("revision", String(32), primary_key=True),
    Column("key", String(32), primary_key=True),
    Column("minute", Instant, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("bytes_in", BigInteger, nullable=False),
    Column("bytes_out", BigInteger, nullable=False),
    Column("milliseconds", BigInteger, nullable=False),
)

usage_total = Table(
    "usage_total",
    metadata,
    Column("service", ForeignKey("service.id"), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("bytes_in", BigInteger, nullable=False),
    Column("bytes_out", BigInteger, nullable=False),
    Column("milliseconds", BigInteger, nullable=False),
)

answer = Table(
    "answer",
    metadata,
    Column("token", ForeignKey("token.id"), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", Text),
    Column("at", Instant, nullable=False, index=True),
)
