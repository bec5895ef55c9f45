"""The tables of a new store, copied instead of migrated: what the migrations make is made once a process.

That they make what the code expects is in `tests/control/test_migrations.py`; whole processes migrate as ever.
"""

from __future__ import annotations

import functools
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from kasbah.clock import Clock, ManualClock
from kasbah.control.store.migrate import migrate
from kasbah.control.store.sql import open_engine


def copied_tables(engine: Any, *, clock: Clock) -> None:
    """As `migrate`, but quicker where there is nothing yet."""
    with closing(engine.raw_connection()) as connection:
        if not connection.driver_connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            with closing(sqlite3.connect(":memory:")) as new:
                new.deserialize(_tables())
                new.backup(connection.driver_connection)
            return
    migrate(engine, clock=clock)


@functools.cache
def _tables() -> bytes:
    engine = open_engine("sqlite://")
    migrate(engine, clock=ManualClock(datetime(2026, 3, 1, tzinfo=UTC)))
    with closing(engine.raw_connection()) as connection:
        found: bytes = connection.driver_connection.serialize()  # type: ignore[union-attr]
    engine.dispose()
    return found
