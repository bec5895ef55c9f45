"""Each fault of `fleet_call_faults.py` and `fleet_place_faults.py` is seen by the watch over simulated fleets.

`make simulate` puts them in; a normal run has those of `test_fleet_faults.py`, and takes long enough.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fleet_call_faults import HONEST_CALLS, UNGUARDED_CALLS
from fleet_faults import asks_nobody
from fleet_place_faults import HONEST_PLACES
from fleet_quick import quickly
from fleet_seen import seen

pytestmark = pytest.mark.skipif("STEPS" not in os.environ, reason="`make simulate` runs it")
Fault = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quickly(monkeypatch)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", HONEST_CALLS, ids=lambda fault: fault.__name__)
async def test_each_fault_of_calls_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    fault(monkeypatch)
    await seen(tmp_path, monkeypatch, HONEST_CALLS[fault], captured=False)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", UNGUARDED_CALLS, ids=lambda fault: fault.__name__)
async def test_each_fault_of_calls_of_a_site_s_last_word_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    asks_nobody(monkeypatch)
    fault(monkeypatch)
    await seen(tmp_path, monkeypatch, UNGUARDED_CALLS[fault], captured=True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", HONEST_PLACES, ids=lambda fault: fault.__name__)
async def test_each_fault_of_places_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    fault(monkeypatch)
    await seen(tmp_path, monkeypatch, HONEST_PLACES[fault], captured=False)
