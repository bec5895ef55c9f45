"""Each fault of `fleet_faults.py`, put into the real code, is seen by the watch over simulated fleets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fleet_faults import HONEST, UNGUARDED, asks_nobody
from fleet_quick import quickly
from fleet_seen import seen

Fault = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quickly(monkeypatch)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", HONEST, ids=lambda fault: fault.__name__)
async def test_each_fault_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    fault(monkeypatch)
    await seen(tmp_path, monkeypatch, HONEST[fault], captured=False)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", UNGUARDED, ids=lambda fault: fault.__name__)
async def test_each_fault_of_a_site_s_last_word_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    asks_nobody(monkeypatch)
    fault(monkeypatch)
    await seen(tmp_path, monkeypatch, UNGUARDED[fault], captured=True)
