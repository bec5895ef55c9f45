"""Brings a database to this version's tables, a copy of it first; refuses one that a newer Kasbah has written.

Alembic is imported only where there is something to do: a start that finds its tables costs nothing.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import structlog
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import DatabaseError

from kasbah.clock import Clock
from kasbah.errors import Conflict

log = structlog.get_logger()

MIGRATIONS = Path(__file__).parent / "migrations"

KNOWN = tuple(sorted(step.name[1:5] for step in (MIGRATIONS / "versions").glob("v[0-9]*.py")))
"""Every migration this version knows, oldest first: the number in its file's name."""

HEAD = KNOWN[-1]
BACKUPS_KEPT = 5
SPOILT = frozenset({"SQLITE_NOTADB", "SQLITE_CORRUPT"})


def migrate(engine: Engine, *, clock: Clock) -> None:
    """Bring the database to HEAD."""
    found = _revision(engine)
    if found == HEAD:
        return
    if found is not None and found not in KNOWN:
        raise Conflict(
            f"the database {engine.url.database} was written by a newer version of Kasbah (its tables are at {found}, "
            f"ours at {HEAD})",
            hint="install that version again, or restore a backup made before the upgrade",
            code="database_newer",
        )
    if found is not None:
        _back_up(engine, found, clock)
    _upgrade(engine)


def _revision(engine: Engine) -> str | None:
    """Where its tables are; None where it has none. Raises Conflict where the file is no database."""
    try:
        if not inspect(engine).has_table("alembic_version"):
            return None
        with engine.connect() as connection:
            found = connection.scalar(text("SELECT version_num FROM alembic_version"))
            return None if found is None else str(found)
    except DatabaseError as error:
        if engine.dialect.name != "sqlite" or getattr(error.orig, "sqlite_errorname", "") not in SPOILT:
            raise
        raise Conflict(
            f"the database {engine.url.database} is damaged: {error.orig}",
            hint=f"put back a copy from {Path(engine.url.database or '').parent / 'backups'}, or `kasbah restore FILE`",
            code="database_damaged",
        ) from error


def _upgrade(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _back_up(engine: Engine, found: str, clock: Clock) -> None:
    """Copy an SQLite file beside itself; where the database is a server, its owner backs it up."""
    database = engine.url.database
    if engine.dialect.name != "sqlite" or not database or database == ":memory:":
        return
    source = Path(database)
    folder = source.parent / "backups"
    folder.mkdir(mode=0o700, exist_ok=True)
    copy = folder / f"{source.stem}-{found}-{clock.now():%Y%m%dT%H%M%S%f}.db"
    copy.touch(mode=0o600)
    with sqlite3.connect(source) as old, sqlite3.connect(copy) as new:
        old.backup(new)
    log.info("database copied before its tables change", copy=str(copy), tables=found)
    for stale in sorted(folder.glob(f"{source.stem}-*.db"))[:-BACKUPS_KEPT]:
        stale.unlink()
