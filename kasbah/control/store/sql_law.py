"""Lawbooks and grants, in SQL."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select

from kasbah.control.store.lawbooks import LIVE, GrantRecord, LawbookRecord, LawbookState
from kasbah.control.store.rows import Rows
from kasbah.control.store.schema import lawbook as lawbook_table
from kasbah.control.store.schema import owner_grant as grant_table
from kasbah.domain.ids import GrantId


class SqlLawbooks(Rows):
    """Lawbooks; see `interface.Lawbooks`."""

    def get(self, version: int) -> LawbookRecord | None:
        return self._one(LawbookRecord, select(lawbook_table).where(lawbook_table.c.version == version))

    def newest(self) -> int:
        return int(self._connection.scalar(select(func.max(lawbook_table.c.version))) or 0)

    def live(self) -> tuple[LawbookRecord, ...]:
        t = lawbook_table
        return self._all(LawbookRecord, select(t).where(t.c.state.in_(LIVE)).order_by(t.c.version))

    def page(self, before: int | None, limit: int) -> tuple[LawbookRecord, ...]:
        t = lawbook_table
        query = select(t).order_by(t.c.version.desc()).limit(limit)
        return self._all(LawbookRecord, query if before is None else query.where(t.c.version < before))

    def in_state(self, state: LawbookState) -> tuple[LawbookRecord, ...]:
        t = lawbook_table
        return self._all(LawbookRecord, select(t).where(t.c.state == state).order_by(t.c.version))

    def add(self, lawbook: LawbookRecord) -> None:
        self._add(lawbook_table, lawbook)

    def save(self, lawbook: LawbookRecord) -> None:
        self._save(lawbook_table, lawbook)


class SqlGrants(Rows):
    """Grants; see `interface.Grants`."""

    def get(self, grant: GrantId) -> GrantRecord | None:
        return self._one(GrantRecord, select(grant_table).where(grant_table.c.id == grant))

    def live(self, now: datetime) -> tuple[GrantRecord, ...]:
        t = grant_table
        query = select(t).where(t.c.revoked_at.is_(None), t.c.expires_at > now).order_by(t.c.id)
        return self._all(GrantRecord, query)

    def newest(self, limit: int) -> tuple[GrantRecord, ...]:
        return self._all(
            GrantRecord, select(grant_table).order_by(grant_table.c.at.desc(), grant_table.c.id).limit(limit)
        )

    def add(self, grant: GrantRecord) -> None:
        self._add(grant_table, grant)

    def save(self, grant: GrantRecord) -> None:
        self._save(grant_table, grant)
