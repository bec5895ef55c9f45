"""Columns that hold values of our own: as JSON, checked when it is read; moments in UTC; one of some words."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from functools import cache, lru_cache
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import DateTime, Enum, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from kasbah.domain.ids import ServiceId
from kasbah.domain.placement import Placement


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


class Placed(TypeDecorator[Placement]):
    """A placement, as JSON text. It has a verdict for every site; but of thousands of services few are placed
    differently, and what is said of those that are alike is read once."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Placement | None, dialect: Dialect) -> str | None:
        return None if value is None else adapter(Placement).dump_json(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Placement | None:
        if value is None or not value.startswith(WHOSE):
            return None if value is None else _placement(value)
        end = value.index('"', len(WHOSE))
        service, alike = value[len(WHOSE) : end], _placement_of_any(value[end:])
        return Placement(service=ServiceId(service), verdicts=alike.verdicts, valid_until=alike.valid_until)


WHOSE = '{"service":"'
"""How a placement begins, as it is written."""


@lru_cache(maxsize=2_000)
def _placement_of_any(said: str) -> Placement:
    """What is said of a service, whichever it is."""
    return _placement(WHOSE + said)


def _placement(text: str) -> Placement:
    found: Placement = adapter(Placement).validate_json(text)
    return found


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
