"""Secrets and their sealed values, in SQL."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import delete, select

from kasbah.control.store.interface import Cursor
from kasbah.control.store.records import SecretRecord, SecretValue
from kasbah.control.store.rows import Rows, page_of
from kasbah.control.store.schema import secret as secret_table
from kasbah.control.store.schema import secret_value as value_table
from kasbah.domain.ids import ProjectId, SecretId


class SqlSecrets(Rows):
    """Secrets; see `interface.Secrets`."""

    def get(self, secret: SecretId) -> SecretRecord | None:
        return self._one(SecretRecord, select(secret_table).where(secret_table.c.id == secret))

    def find(self, project: ProjectId, name: str) -> SecretRecord | None:
        t = secret_table.c
        live = select(secret_table).where(t.project == project, t.name == name, t.deleted_at.is_(None))
        return self._one(SecretRecord, live)

    def page(self, project: ProjectId, after: Cursor | None, limit: int) -> tuple[SecretRecord, ...]:
        t = secret_table.c
        return self._all(
            SecretRecord, page_of(secret_table, after, limit).where(t.project == project, t.deleted_at.is_(None))
        )

    def put(self, secret: SecretRecord, value: SecretValue | None = None) -> None:
        self._put(secret_table, secret)
        if value is not None:
            self._add(value_table, value)

    def value(self, secret: SecretId, version: int) -> SecretValue | None:
        t = value_table.c
        return self._one(SecretValue, select(value_table).where(t.secret == secret, t.version == version))

    def keep(self, used: Iterable[tuple[SecretId, int]]) -> int:
        newest = select(secret_table.c.id, secret_table.c.version).where(secret_table.c.deleted_at.is_(None))
        kept = {*used, *((SecretId(one), version) for one, version in self._connection.execute(newest))}
        t = value_table.c
        there = [(SecretId(one), version) for one, version in self._connection.execute(select(t.secret, t.version))]
        stale = [one for one in there if one not in kept]
        for secret, version in stale:
            self._connection.execute(delete(value_table).where(t.secret == secret, t.version == version))
        s = secret_table.c
        self._connection.execute(delete(secret_table).where(s.deleted_at.is_not(None), s.id.not_in(select(t.secret))))
        return len(stale)
