"""The audit log in SQL: entries as rows, its tree as tiles. Writes come one by one, so that sequences have no gap."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, or_, select, update

from kasbah.control.store.audit_logs import AuditLog, LogBreak
from kasbah.control.store.records import AuditTile, LoggedEntry
from kasbah.control.store.rows import Rows, values
from kasbah.control.store.schema import audit_entry, audit_log, audit_tile, log_break
from kasbah.decide.merkle import leaf_hash
from kasbah.decide.tiles import grow

AT_ONCE = 16_384
"""Entries that are read at a time."""


class SqlAudit(Rows):
    """The log; see `interface.Audit`."""

    def size(self) -> int:
        last = self._connection.scalar(select(func.max(audit_entry.c.sequence)))
        return 0 if last is None else int(last) + 1

    def append(self, entries: Sequence[LoggedEntry]) -> None:
        if not entries:
            return
        size = self.size()
        if [one.sequence for one in entries] != list(range(size, size + len(entries))):
            raise ValueError(f"the log has {size} entries: the next cannot be number {entries[0].sequence}")
        self._connection.execute(audit_entry.insert(), [values(one) for one in entries])
        self._grow(size, [one.leaf for one in entries])

    def get(self, sequence: int) -> LoggedEntry | None:
        return self._one(LoggedEntry, select(audit_entry).where(audit_entry.c.sequence == sequence))

    def page(
        self, *, before: int | None, limit: int, since: datetime | None = None, actor: str = "", act: str = ""
    ) -> tuple[LoggedEntry, ...]:
        t = audit_entry.c
        query = select(audit_entry).order_by(t.sequence.desc()).limit(limit)
        query = query if before is None else query.where(t.sequence < before)
        query = query if since is None else query.where(t.at >= since)
        query = query.where(or_(t.actor == actor, t.credential == actor)) if actor else query
        return self._all(LoggedEntry, query.where(t.act == act) if act else query)

    def leaves(self, first: int, count: int) -> tuple[bytes, ...]:
        t = audit_entry.c
        query = select(t.leaf).where(t.sequence >= first, t.sequence < first + count).order_by(t.sequence)
        return tuple(self._connection.scalars(query))

    def tile(self, level: int, number: int) -> bytes:
        t = audit_tile.c
        found = self._connection.scalar(select(t.hashes).where(t.level == level, t.number == number))
        return b"" if found is None else bytes(found)

    def regrow(self) -> None:
        self._connection.execute(delete(audit_tile))
        t = audit_entry.c
        for first in range(0, size := self.size(), AT_ONCE):
            rows = self._connection.execute(
                select(t.sequence, t.leaf).where(t.sequence >= first, t.sequence < first + AT_ONCE)
            )
            there = {int(sequence): bytes(leaf) for sequence, leaf in rows}
            self._grow(first, [there.get(number, b"") for number in range(first, min(first + AT_ONCE, size))])

    def _grow(self, size: int, leaves: Sequence[bytes]) -> None:
        for (level, number), tile in grow(size, self.tile, [leaf_hash(one) for one in leaves]).items():
            self._put(audit_tile, AuditTile(level=level, number=number, hashes=tile))

    def forget_salts(self, before: datetime) -> int:
        t = audit_entry.c
        return self._connection.execute(
            update(audit_entry).where(t.at < before, t.salt.is_not(None)).values(salt=None)
        ).rowcount

    def logs(self) -> tuple[AuditLog, ...]:
        return self._all(AuditLog, select(audit_log).order_by(audit_log.c.log))

    def put_log(self, log: AuditLog) -> None:
        self._put(audit_log, log)

    def breaks(self) -> tuple[LogBreak, ...]:
        return self._all(LogBreak, select(log_break).order_by(log_break.c.log, log_break.c.number))

    def add_break(self, one: LogBreak) -> None:
        self._connection.execute(log_break.insert(), [values(one)])
