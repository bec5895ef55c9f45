"""Makes a simulated fleet quick in what is not looked at: disks that never lose their power, laws parsed once for all
who hold them, and rows that are read once until they change.

What is read is remembered by table, as the store's own methods gave it. Any write forgets all of it, but for those that
come with every tick: of a site, and of the audit log, which other tables' reads have nothing of.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from kasbah import packs
from kasbah.agent import last_word
from kasbah.control.store import sql_access, sql_audit, sql_law, sql_secrets, sql_services, sql_sites
from kasbah.control.store.rows import Rows
from kasbah.control.store.schema import site as site_table
from kasbah.control.store.sql import SqlStore
from kasbah.control.usecases import law_now
from kasbah.packs import law_of

WRITES = {"add", "save", "put", "drop", "trim", "bump", "append", "regrow", "enter", "keep", "forget_salts"}
ALONE = {sql_sites.SqlSites, sql_audit.SqlAudit}
DOCUMENTS = " documents"
PLAIN = (str, int, datetime, type(None))
"""What questions are asked with that are remembered: nothing that is used up by being read."""


def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """See the module."""
    _remember(monkeypatch)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for module in (law_now, last_word, packs):
        monkeypatch.setattr(module, "law_of", lambda packs: _parsed(tuple(packs)))


_parsed = functools.lru_cache(maxsize=5_000)(law_of)


def seen(tx: Any, sites: set[str], now: datetime) -> None:
    """All these sites were seen now: written at once."""
    if sites:
        connection = tx.sites._connection
        connection.execute(site_table.update().where(site_table.c.id.in_(sorted(sites))).values(seen_at=now))
        _known.get(connection.engine, {}).pop(sql_sites.SqlSites.__name__, None)


# --- rows -------------------------------------------------------------------------------------------------------------

Memory = dict[str, dict[tuple[object, ...], object]]
_known: WeakKeyDictionary[object, Memory] = WeakKeyDictionary()
"""By store."""


def _remember(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = (sql_access, sql_audit, sql_law, sql_secrets, sql_services, sql_sites)
    tables = {
        one for module in modules for one in vars(module).values() if isinstance(one, type) and issubclass(one, Rows)
    }
    for table in tables - {Rows}:
        for name, method in vars(table).items():
            if not name.startswith("_") and callable(method):
                made = _writing if name in WRITES or name.startswith(("add_", "save_", "put_", "drop_")) else _reading
                monkeypatch.setattr(table, name, made(table, method))
    write = SqlStore.write

    @contextmanager
    def writing(store: SqlStore) -> Iterator[Any]:
        try:
            with write(store) as tx:
                yield tx
        except BaseException:
            _known.pop(store.engine, None)
            raise

    monkeypatch.setattr(SqlStore, "write", writing)


def _group(table: type, method: Callable[..., Any]) -> str:
    """What is forgotten together: sites, and what they are told, are two tables."""
    return table.__name__ + DOCUMENTS * (method.__name__ in ("desired", "save_desired", "generation"))


def _reading(table: type, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def read(rows: Any, *asked: Any, **more: Any) -> Any:
        if more or not all(isinstance(one, PLAIN) for one in asked):
            return method(rows, *asked, **more)
        memory = _known.setdefault(rows._connection.engine, {}).setdefault(_group(table, method), {})
        question = (method.__name__, *asked)
        if question not in memory:
            found = method(rows, *asked)
            if isinstance(found, dict):  # which whoever asks might change
                return found
            memory[question] = found
        return memory[question]

    return read


def _writing(table: type, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def write(rows: Any, *said: Any, **more: Any) -> Any:
        try:
            return method(rows, *said, **more)
        finally:  # what it read itself is as it was before
            memory = _known.get(rows._connection.engine, {})
            memory.pop(_group(table, method), None) if table in ALONE else memory.clear()

    return write
