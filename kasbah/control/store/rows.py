"""Rows and records: a record's fields are its table's columns, so one way of writing and reading serves every table."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, ClassVar, Protocol, TypeVar

from sqlalchemy import Connection, Select, Table, select

from kasbah.control.store.interface import Cursor


class Record(Protocol):
    """Any of our records."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


R = TypeVar("R", bound=Record)


def values(record: Record) -> dict[str, Any]:
    """A record's columns."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


class Rows:
    """Reads and writes the records of a connection's tables."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _one(self, kind: type[R], query: Select[Any]) -> R | None:
        row = self._connection.execute(query).mappings().first()
        return None if row is None else kind(**row)

    def _all(self, kind: type[R], query: Select[Any]) -> tuple[R, ...]:
        found = self._connection.execute(query)
        names = tuple(found.keys())  # once, and not for each of thousands of rows
        return tuple(kind(**dict(zip(names, row, strict=True))) for row in found)

    def _add(self, table: Table, record: Record) -> None:
        self._connection.execute(table.insert().values(values(record)))

    def _save(self, table: Table, record: Record) -> bool:
        """Write a record over the one with its primary key; whether there was one."""
        row = values(record)
        where = [column == row.pop(column.name) for column in table.primary_key]
        return self._connection.execute(table.update().where(*where).values(row)).rowcount > 0

    def _put(self, table: Table, record: Record) -> None:
        if not self._save(table, record):
            self._add(table, record)


def page_of(table: Table, after: Cursor | None, limit: int) -> Select[Any]:
    """A page in the order of names, then ids."""
    query = select(table).order_by(table.c.name, table.c.id).limit(limit)
    if after is None:
        return query
    name, identity = after
    return query.where((table.c.name > name) | ((table.c.name == name) & (table.c.id > identity)))
