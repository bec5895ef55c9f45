"""The store in SQL: SQLite in a file or in memory, written so that PostgreSQL can join by its URL.

SQLite: one writer at a time takes our own lock first (its own way of waiting polls) and then BEGIN IMMEDIATE; WAL lets
readers go on meanwhile; `synchronous = FULL` makes a commit durable before it is answered. In memory there is one
connection, so readers take the lock too.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import StaticPool

from kasbah.control.store.sql_access import SqlAnswers, SqlKeys, SqlTokens
from kasbah.control.store.sql_audit import SqlAudit
from kasbah.control.store.sql_law import SqlGrants, SqlLawbooks
from kasbah.control.store.sql_secrets import SqlSecrets
from kasbah.control.store.sql_services import SqlRevisions, SqlRollouts, SqlServices
from kasbah.control.store.sql_sites import SqlInstallations, SqlJoinings, SqlReports, SqlSites, SqlUsage, SqlWakes
from kasbah.errors import Unavailable

LONGEST_WAIT = timedelta(seconds=10)
"""How long a transaction waits for its turn."""

MEMORY = "sqlite://"
HINT = "look at the control plane's disk, and try again"
BUSY_HINT = "another process holds the database, or its disk is slow: find out which (fuser names it), and try again"
SQLITE_BUSY = 5


class SqlTransaction:
    """A transaction on one connection; see `interface.Transaction`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @cached_property
    def installations(self) -> SqlInstallations:
        return SqlInstallations(self._connection)

    @cached_property
    def sites(self) -> SqlSites:
        return SqlSites(self._connection)

    @cached_property
    def joinings(self) -> SqlJoinings:
        return SqlJoinings(self._connection)

    @property
    def reports(self) -> SqlReports:
        return SqlReports(self._connection)

    @cached_property
    def services(self) -> SqlServices:
        return SqlServices(self._connection)

    @cached_property
    def revisions(self) -> SqlRevisions:
        return SqlRevisions(self._connection)

    @cached_property
    def rollouts(self) -> SqlRollouts:
        return SqlRollouts(self._connection)

    @cached_property
    def keys(self) -> SqlKeys:
        return SqlKeys(self._connection)

    @cached_property
    def secrets(self) -> SqlSecrets:
        return SqlSecrets(self._connection)

    @cached_property
    def tokens(self) -> SqlTokens:
        return SqlTokens(self._connection)

    @cached_property
    def wakes(self) -> SqlWakes:
        return SqlWakes(self._connection)

    @cached_property
    def usage(self) -> SqlUsage:
        return SqlUsage(self._connection)

    @cached_property
    def answers(self) -> SqlAnswers:
        return SqlAnswers(self._connection)

    @cached_property
    def lawbooks(self) -> SqlLawbooks:
        return SqlLawbooks(self._connection)

    @cached_property
    def grants(self) -> SqlGrants:
        return SqlGrants(self._connection)

    @cached_property
    def audit(self) -> SqlAudit:
        return SqlAudit(self._connection)


class SqlStore:
    """Transactions on the tables of `schema.py`; see `interface.Store`. `migrate.py` made the tables."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._turn = threading.Lock()
        self._one_connection = isinstance(engine.pool, StaticPool)

    @contextmanager
    def read(self) -> Iterator[SqlTransaction]:
        """A transaction that sees one moment and refuses to write."""
        with ExitStack() as stack:
            if self._one_connection:
                stack.enter_context(self._in_turn())
            connection = stack.enter_context(self._connect(writes=False))
            yield SqlTransaction(connection)

    @contextmanager
    def write(self) -> Iterator[SqlTransaction]:
        """A transaction that is committed, durably, when its block ends."""
        with self._in_turn(), self._connect(writes=True) as connection:
            yield SqlTransaction(connection)

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=LONGEST_WAIT.total_seconds()):
            raise _busy()
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def _connect(self, *, writes: bool) -> Iterator[Connection]:
        try:
            with self.engine.connect().execution_options(writes=writes) as connection, connection.begin():
                yield connection
        except PoolTimeout as error:
            raise _busy() from error
        except OperationalError as error:
            if getattr(error.orig, "sqlite_errorcode", None) == SQLITE_BUSY:
                raise _busy() from error
            raise Unavailable(f"the store does not answer: {error.orig}", hint=HINT, code="store_failed") from error


def open_engine(url: str) -> Engine:
    """The engine for a URL; SQLite's connections are made ours: durable, checked, with plain BEGINs."""
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url)
    in_memory = make_url(url).database in (None, "", ":memory:")
    waits = LONGEST_WAIT.total_seconds()
    connect: dict[str, Any] = {"check_same_thread": False, "timeout": waits}
    if in_memory:
        engine = create_engine(url, poolclass=StaticPool, connect_args=connect)
    else:
        engine = create_engine(url, pool_size=8, max_overflow=40, pool_timeout=waits, connect_args=connect)
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _record: object) -> None:
    """Leave transactions to us (the driver would open them late) and choose safety."""
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", True)
    connection.exec_driver_sql(f"PRAGMA query_only = {'OFF' if writes else 'ON'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _busy() -> Unavailable:
    return Unavailable("the store did not answer in time", hint=BUSY_HINT, code="store_busy")
