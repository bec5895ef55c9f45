"""Keys, tokens and kept answers, in SQL."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, or_, select

from kasbah.control.store.interface import Cursor
from kasbah.control.store.records import KeptAnswer, KeyRecord, TokenRecord
from kasbah.control.store.rows import Rows, page_of
from kasbah.control.store.schema import answer as answer_table
from kasbah.control.store.schema import key as key_table
from kasbah.control.store.schema import token as token_table
from kasbah.domain.ids import ProjectId, TokenId


class SqlKeys(Rows):
    """Keys; see `interface.Keys`."""

    def all(self) -> tuple[KeyRecord, ...]:
        t = key_table
        return self._all(KeyRecord, select(t).where(t.c.revoked_at.is_(None)).order_by(t.c.id))

    def find(self, project: ProjectId, name_or_id: str) -> KeyRecord | None:
        t = key_table.c
        live_name = (t.name == name_or_id) & t.revoked_at.is_(None)
        return self._one(KeyRecord, select(key_table).where(t.project == project, or_(t.id == name_or_id, live_name)))

    def known(self, sha256: str) -> bool:
        return self._one(KeyRecord, select(key_table).where(key_table.c.sha256 == sha256)) is not None

    def page(self, project: ProjectId, after: Cursor | None, limit: int, *, revoked: bool) -> tuple[KeyRecord, ...]:
        query = page_of(key_table, after, limit).where(key_table.c.project == project)
        return self._all(KeyRecord, query if revoked else query.where(key_table.c.revoked_at.is_(None)))

    def add(self, key: KeyRecord) -> None:
        self._add(key_table, key)

    def save(self, key: KeyRecord) -> None:
        self._save(key_table, key)


class SqlTokens(Rows):
    """Tokens; see `interface.Tokens`."""

    def by_sha256(self, sha256: str) -> TokenRecord | None:
        return self._one(TokenRecord, select(token_table).where(token_table.c.sha256 == sha256))

    def find(self, name_or_id: str) -> TokenRecord | None:
        t = token_table.c
        live_name = (t.name == name_or_id) & t.revoked_at.is_(None)
        return self._one(TokenRecord, select(token_table).where(or_(t.id == name_or_id, live_name)))

    def all(self) -> tuple[TokenRecord, ...]:
        t = token_table
        return self._all(TokenRecord, select(t).where(t.c.revoked_at.is_(None)).order_by(t.c.id))

    def page(self, after: Cursor | None, limit: int, *, revoked: bool) -> tuple[TokenRecord, ...]:
        query = page_of(token_table, after, limit)
        return self._all(TokenRecord, query if revoked else query.where(token_table.c.revoked_at.is_(None)))

    def add(self, token: TokenRecord) -> None:
        self._add(token_table, token)

    def save(self, token: TokenRecord) -> None:
        self._save(token_table, token)


class SqlAnswers(Rows):
    """Kept answers; see `interface.Answers`."""

    def get(self, token: TokenId, key: str) -> KeptAnswer | None:
        t = answer_table
        return self._one(KeptAnswer, select(t).where(t.c.token == token, t.c.key == key))

    def add(self, answer: KeptAnswer) -> None:
        self._add(answer_table, answer)

    def drop_before(self, moment: datetime) -> None:
        self._connection.execute(delete(answer_table).where(answer_table.c.at < moment))
