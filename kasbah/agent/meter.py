"""Counts what was served, from the gateway's own log, losing nothing and counting nothing twice.

The place reached in the log is committed in one transaction with the usage read up to it, so that an agent killed at
any moment goes on where it was. Usage leaves in numbered batches; a batch stays until control has acknowledged it.
The log is rotated by renaming: the cursor follows the file, not the name, to its end.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple
from datetime import datetime, timedelta
from pathlib import Path

from kasbah.api.agent import USAGE_BATCH
from kasbah.decide.metering import meter
from kasbah.domain.ids import KeyId, RevisionId, ServiceId, SiteId
from kasbah.domain.observed import UsageBatch
from kasbah.domain.usage import EntryKey, Usage, UsageKey

CHUNK = 4 * 2**20
SCHEMA = """
CREATE TABLE IF NOT EXISTS cursor (
  id INTEGER PRIMARY KEY CHECK (id = 1), inode INTEGER NOT NULL, position INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS usage (
  service TEXT NOT NULL, revision TEXT NOT NULL, caller TEXT NOT NULL, minute TEXT NOT NULL,
  requests INTEGER NOT NULL, failed INTEGER NOT NULL, bytes_in INTEGER NOT NULL, bytes_out INTEGER NOT NULL,
  milliseconds INTEGER NOT NULL, PRIMARY KEY (service, revision, caller, minute));
CREATE TABLE IF NOT EXISTS entry (
  service TEXT NOT NULL, site TEXT NOT NULL, hour TEXT NOT NULL, requests INTEGER NOT NULL,
  PRIMARY KEY (service, site, hour));
CREATE TABLE IF NOT EXISTS batch (sequence INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
"""
ADD = """
INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET requests = requests + excluded.requests,
  failed = failed + excluded.failed, bytes_in = bytes_in + excluded.bytes_in,
  bytes_out = bytes_out + excluded.bytes_out, milliseconds = milliseconds + excluded.milliseconds
"""

ENTER = "INSERT INTO entry VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET requests = requests + excluded.requests"
MOST_ROWS = 5_000
"""Of a batch: what there is more goes with the next."""


class Meter:
    """The log at `log` and what was read of it, in the database at `database`. Blocking: call it from a thread. `tell`
    is told of each piece of the log, by file and place, before it is counted."""

    def __init__(self, log: Path, database: Path) -> None:
        self.tell: Callable[[int, int, list[bytes]], object] = lambda *_: None
        self._log = log
        self._old = log.with_suffix(".1")
        self._database = sqlite3.connect(database, check_same_thread=False, isolation_level=None, timeout=10)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.executescript(SCHEMA)
        self.unreadable = 0

    def read(self, behind: timedelta = timedelta()) -> int:
        """Count what is new in the log, which was written by a clock so far `behind`; the number of lines."""
        counted = 0
        while (lines := self._read_chunk(behind)) is not None:
            counted += lines
        return counted

    def oversized(self, limit: int) -> bool:
        """Whether the log should be rotated: it is above `limit`, and the last rotation is dealt with."""
        try:
            return self._log.stat().st_size > limit and not self._old.exists()
        except OSError:
            return False

    def set_aside(self) -> None:
        """Rename the log. The gateway must then be told to open a new one."""
        self._log.rename(self._old)

    @property
    def missing(self) -> bool:
        """Whether the log was set aside and the gateway has not opened a new one yet."""
        return self._old.exists() and not self._log.exists()

    def next_batch(self) -> UsageBatch | None:
        """The oldest batch not yet acknowledged, made from what was counted where there is none."""
        with self._transaction() as database:
            row = database.execute("SELECT sequence, body FROM batch ORDER BY sequence LIMIT 1").fetchone()
            if row is None:
                row = self._make_batch(database)
        if row is None:
            return None
        body = json.loads(row[1])
        said = {"usage": body} if isinstance(body, list) else body  # as a meter wrote it that knew of no entries
        return USAGE_BATCH.validate_python({"sequence": row[0], **said})

    def acknowledge(self, sequence: int) -> None:
        """Control has this batch."""
        self._database.execute("DELETE FROM batch WHERE sequence = ?", (sequence,))

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _make_batch(self, database: sqlite3.Connection) -> tuple[int, str] | None:
        found = [_parse_row(row) for row in database.execute("SELECT * FROM usage LIMIT ?", (MOST_ROWS,))]
        entered = [_parse_entry(row) for row in database.execute("SELECT * FROM entry LIMIT ?", (MOST_ROWS,))]
        if not found and not entered:
            return None
        batch = UsageBatch(sequence=0, usage=tuple(found), entries=tuple(entered))
        body = json.dumps(USAGE_BATCH.dump_python(batch, mode="json", exclude={"sequence"}))
        sequence = database.execute("INSERT INTO batch (body) VALUES (?)", (body,)).lastrowid
        database.executemany(
            "DELETE FROM usage WHERE service = ? AND revision = ? AND caller = ? AND minute = ?",
            [_key_row(key) for key, _ in found],
        )
        database.executemany(
            "DELETE FROM entry WHERE service = ? AND site = ? AND hour = ?", [_entry_row(key) for key, _ in entered]
        )
        assert sequence is not None
        return sequence, body

    def _read_chunk(self, behind: timedelta) -> int | None:
        """Count some lines; None where there are no more."""
        with self._transaction() as database:
            row = database.execute("SELECT inode, position FROM cursor").fetchone()
            inode, position = row or (None, 0)
            path, position = self._find(inode, position)
            if path is None:
                return None
            is_over = path == self._old and self._log.exists() and self._log.stat().st_size > 0
            lines, length = _whole_lines(path, position)
            if not lines:
                return self._leave(database) if is_over else None
            self.tell(path.stat().st_ino, position, lines)  # once it is logged; lines that are read again are known
            metered = meter(lines, behind)
            self.unreadable += metered.unreadable
            database.executemany(ADD, [(*_key_row(key), *astuple(one)) for key, one in metered.usage.items()])
            database.executemany(ENTER, [(*_entry_row(key), count) for key, count in metered.entries.items()])
            database.execute("INSERT OR REPLACE INTO cursor VALUES (1, ?, ?)", (path.stat().st_ino, position + length))
            return len(lines)

    def _find(self, inode: int | None, position: int) -> tuple[Path | None, int]:
        """The file to go on with and where: the one left off in, by its inode, else the oldest there is."""
        there = [path for path in (self._old, self._log) if path.exists()]
        for path in there:
            found = path.stat()
            if found.st_ino == inode:
                return path, position if position <= found.st_size else 0
        return (there[0], 0) if there else (None, 0)

    def _leave(self, database: sqlite3.Connection) -> int:
        """The gateway wrote the new log before the old one was read to its end: the old one goes, and the cursor with
        it, since a later log may be given the same inode."""
        os.unlink(self._old)
        database.execute("INSERT OR REPLACE INTO cursor VALUES (1, ?, 0)", (self._log.stat().st_ino,))
        return 0

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield self._database
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")


def _whole_lines(path: Path, position: int) -> tuple[list[bytes], int]:
    """The complete lines from `position`, and their length: a line still being written waits."""
    with path.open("rb") as file:
        file.seek(position)
        data = file.read(CHUNK)
    end = data.rfind(b"\n") + 1
    return data[:end].splitlines(), end


def _key_row(key: UsageKey) -> tuple[str, str, str, str]:
    return (key.service, key.revision, key.key or "", key.minute.isoformat())


def _parse_row(row: tuple[str, str, str, str, int, int, int, int, int]) -> tuple[UsageKey, Usage]:

    service, revision, caller, minute, *counts = row
    key = UsageKey(
        service=ServiceId(service),
        revision=RevisionId(revision),
        key=KeyId(caller) if caller else None,
        minute=datetime.fromisoformat(minute),
    )
    requests, failed, bytes_in, bytes_out, milliseconds = counts
    return key, Usage(
        requests=requests, failed=failed, bytes_in=bytes_in, bytes_out=bytes_out, milliseconds=milliseconds
    )


def _entry_row(key: EntryKey) -> tuple[str, str, str]:
    return (key.service, key.site, key.hour.isoformat())


def _parse_entry(row: tuple[str, str, str, int]) -> tuple[EntryKey, int]:
    service, site, hour, requests = row
    return EntryKey(service=ServiceId(service), site=SiteId(site), hour=datetime.fromisoformat(hour)), requests
