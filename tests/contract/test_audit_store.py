"""What a store's audit log must hold to: it only grows, in the transaction that wrote, and its tree is its entries'."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kasbah.clock import ManualClock
from kasbah.control.store.audit_logs import AuditLog
from kasbah.control.store.interface import Store
from kasbah.control.store.migrate import migrate
from kasbah.control.store.records import LoggedEntry
from kasbah.control.store.sql import MEMORY, SqlStore, open_engine
from kasbah.decide.merkle import leaf_hash, root_of
from kasbah.decide.tiles import grow, nodes_in

NOW = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)


@pytest.fixture(params=["memory", "file"])
def logs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = opened(MEMORY if request.param == "memory" else f"sqlite:///{tmp_path / 'kasbah.db'}")
    yield made
    made.close()


def opened(url: str) -> SqlStore:
    engine = open_engine(url)
    migrate(engine, clock=ManualClock(NOW))
    return SqlStore(engine)


def logged(sequence: int, **more: object) -> LoggedEntry:
    plain = {
        "at": NOW + timedelta(seconds=sequence),
        "actor": "zahra" if sequence % 2 else "kasbah",
        "credential": "tk-1" if sequence % 2 else "",
        "act": "scale" if sequence % 3 else "publish",
        "object": f"services/{sequence}",
        "leaf": f"leaf {sequence}".encode(),
        "salt": b"s" * 16 if sequence % 2 else None,
    }
    return LoggedEntry(sequence=sequence, **(plain | more))  # type: ignore[arg-type]


def root_in_memory(leaves: list[bytes]) -> bytes:
    tiles = grow(0, lambda *_: b"", [leaf_hash(one) for one in leaves])
    return root_of(len(leaves), nodes_in(lambda level, number: tiles[level, number]))


def test_entries_come_back_as_they_were_written(logs: Store) -> None:
    with logs.write() as tx:
        assert tx.audit.size() == 0
        tx.audit.append([logged(0), logged(1)])
    with logs.read() as tx:
        assert tx.audit.size() == 2
        assert tx.audit.get(1) == logged(1)
        assert tx.audit.get(2) is None
        assert tx.audit.leaves(1, 5) == (b"leaf 1",)


@pytest.mark.parametrize("bursts", [[1] * 5, [255, 1, 1], [256], [300, 300, 1]], ids=str)
def test_the_tree_is_that_of_the_entries(logs: Store, bursts: list[int]) -> None:
    size = 0
    for burst in bursts:
        with logs.write() as tx:
            tx.audit.append([logged(size + number) for number in range(burst)])
        size += burst
    with logs.read() as tx:
        assert root_of(size, nodes_in(tx.audit.tile)) == root_in_memory(list(tx.audit.leaves(0, size)))


def test_a_gap_and_a_second_entry_of_a_number_are_refused(logs: Store) -> None:
    with logs.write() as tx:
        tx.audit.append([logged(0)])
    for wrong in ([logged(2)], [logged(0)], [logged(1), logged(3)]):
        with pytest.raises(ValueError, match="cannot be number"), logs.write() as tx:
            tx.audit.append(wrong)
    with logs.read() as tx:
        assert tx.audit.size() == 1


def test_what_is_undone_is_in_no_tree(logs: Store) -> None:
    def write() -> None:
        with logs.write() as tx:
            tx.audit.append([logged(0)])
            tx.audit.append([logged(5)])

    with pytest.raises(ValueError, match="cannot be number"):
        write()
    with logs.read() as tx:
        assert (tx.audit.size(), tx.audit.tile(0, 0)) == (0, b"")


def test_pages_are_the_newest_first_and_narrowed_by_what_is_asked(logs: Store) -> None:
    with logs.write() as tx:
        tx.audit.append([logged(number) for number in range(10)])
    with logs.read() as tx:
        page = tx.audit.page

        def numbers(**asked: object) -> list[int]:
            return [one.sequence for one in page(**({"before": None, "limit": 50} | asked))]  # type: ignore[arg-type]

        assert numbers(limit=3) == [9, 8, 7]
        assert numbers(before=7, limit=3) == [6, 5, 4]
        assert numbers(actor="zahra") == numbers(actor="tk-1") == [9, 7, 5, 3, 1]
        assert numbers(act="publish") == [9, 6, 3, 0]
        assert numbers(act="publish", actor="kasbah") == [6, 0]
        assert numbers(since=NOW + timedelta(seconds=8)) == [9, 8]


def test_salts_are_erased_and_the_entries_stay(logs: Store) -> None:
    with logs.write() as tx:
        tx.audit.append([logged(number) for number in range(4)])
        before = [tx.audit.tile(0, 0)]
        assert tx.audit.forget_salts(NOW + timedelta(seconds=3)) == 1
        assert tx.audit.get(1) == replace(logged(1), salt=None)
        assert tx.audit.get(3) == logged(3)
        assert [tx.audit.tile(0, 0)] == before


def test_what_is_known_of_a_log_is_written_over(logs: Store) -> None:
    first = AuditLog(log="control", public_key="ed25519:x", note="note", size=3, signed_at=NOW)
    with logs.write() as tx:
        tx.audit.put_log(first)
        tx.audit.put_log(replace(first, log="st-1"))
        tx.audit.put_log(replace(first, size=4))
        assert tx.audit.logs() == (replace(first, size=4), replace(first, log="st-1"))


WRITER = """
import sys
from test_audit_store import logged, opened
store = opened(sys.argv[1])
for number in range(100_000):
    with store.write() as tx:
        tx.audit.append([logged(number)])
    print(number, flush=True)
"""


@pytest.mark.real
def test_what_was_acknowledged_survives_kill_9_tree_and_all(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'kasbah.db'}"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", WRITER, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as writer:
        assert writer.stdout is not None
        acknowledged = -1
        while acknowledged < 300:
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        told = writer.stdout.read().split()
        acknowledged = max(acknowledged, *map(int, told)) if told else acknowledged
    store = opened(url)
    with store.read() as tx:
        size = tx.audit.size()
        assert size > acknowledged
        assert root_of(size, nodes_in(tx.audit.tile)) == root_in_memory(list(tx.audit.leaves(0, size)))
    store.close()
