"""Each fault of `fleet_faults.py`, put into the real code, is seen by the watch over simulated fleets. Every second of
them, and those of `fleet_call_faults.py` and `fleet_place_faults.py`, are put in by `make simulate`: a normal run takes
long enough."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from fleet_call_faults import HONEST_CALLS, UNGUARDED_CALLS
from fleet_callers import UNGUARDED_CALLERS
from fleet_faults import HONEST, UNGUARDED, asks_nobody
from fleet_place_faults import HONEST_PLACES
from fleet_quick import quickly
from fleet_seen import seen

Fault = Callable[[pytest.MonkeyPatch], None]
LATER = pytest.mark.skipif("STEPS" not in os.environ, reason="`make simulate` runs it")


def put_in(faults: Iterable[Fault], *later: Iterable[Fault]) -> list[object]:
    """Every second of these always, the others and those that come `later` where there is time."""
    first = list(faults)
    always, late = first[::2], [*first[1::2], *(fault for several in later for fault in several)]
    return [
        *(pytest.param(fault, id=fault.__name__) for fault in always),
        *(pytest.param(fault, id=fault.__name__, marks=LATER) for fault in late),
    ]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quickly(monkeypatch)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", put_in(HONEST, HONEST_CALLS, HONEST_PLACES))
async def test_each_fault_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    fault(monkeypatch)
    await seen(tmp_path, monkeypatch, {**HONEST, **HONEST_CALLS, **HONEST_PLACES}[fault], captured=False)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", put_in([*UNGUARDED, *UNGUARDED_CALLERS], UNGUARDED_CALLS))
async def test_each_fault_of_a_site_s_last_word_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    asks_nobody(monkeypatch)
    fault(monkeypatch)
    await seen(tmp_path, monkeypatch, {**UNGUARDED, **UNGUARDED_CALLERS, **UNGUARDED_CALLS}[fault], captured=True)
