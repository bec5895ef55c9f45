"""Another process holds the database: callers wait for a while, and are then told so; nobody's change is half made."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from installed import START

from kasbah.clock import ManualClock
from kasbah.control.app import build
from kasbah.control.store import sql
from kasbah.settings import ControlSettings

LONGEST = timedelta(seconds=1)


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setattr(sql, "LONGEST_WAIT", LONGEST)
    control = build(ControlSettings(data_dir=tmp_path), ManualClock(START))
    headers = {"authorization": f"Bearer {control.folder.admin_token.read_text().strip()}"}
    transport = httpx.ASGITransport(app=control.asgi)
    async with (
        control.started(),
        httpx.AsyncClient(transport=transport, base_url="http://api/api/v1", headers=headers) as client,
    ):
        yield client
    control.close()


@contextmanager
def held(tmp_path: Path, let_go: threading.Event) -> Iterator[None]:
    """Another connection writes, until it is told to let go."""
    holding = threading.Event()

    def hold() -> None:
        with sqlite3.connect(tmp_path / "control/kasbah.db", isolation_level=None, timeout=20) as other:
            other.execute("BEGIN IMMEDIATE")
            holding.set()
            let_go.wait(20)
            other.execute("ROLLBACK")

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert holding.wait(20)
        yield
    finally:
        let_go.set()
        holder.join()


async def test_a_short_hold_is_waited_for(api: httpx.AsyncClient, tmp_path: Path) -> None:
    let_go = threading.Event()
    with held(tmp_path, let_go):
        timer = threading.Timer(LONGEST.total_seconds() / 4, let_go.set)
        timer.start()
        made = await api.post("/keys", json={"name": "patient"})
        timer.join()
    assert made.status_code == 201, made.text


async def test_a_long_hold_is_told(api: httpx.AsyncClient, tmp_path: Path) -> None:
    with held(tmp_path, threading.Event()):
        refused = await api.post("/keys", json={"name": "later"})
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "store_busy"
        assert "another process holds the database" in refused.text
        assert int(refused.headers["retry-after"]) >= 1
        assert (await api.get("/keys")).status_code == 200, "who only reads is not kept waiting"
    made = await api.post("/keys", json={"name": "later"})
    assert made.status_code == 201, made.text
