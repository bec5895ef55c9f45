"""Random fleets, laws, labels and misfortunes: nothing is ever at, or passes through, a place that is not lawful for
it, and what may be somewhere and fits is there.

The oracle is `lawful_oracle.py`, which shares no code with what it judges. Each fault of `fleet_faults.py`, put into
the real code, must be seen by it. `make simulate` lives longer lives, and more of them (STEPS, SEEDS).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fleet_draw import Theme
from fleet_faults import HONEST, UNGUARDED, asks_nobody
from fleet_life import live
from fleet_quick import quickly
from fleet_watch import Seen

STEPS, SEEDS = int(os.environ.get("STEPS", "60")), int(os.environ.get("SEEDS", "4"))
FAULT_STEPS, FAULT_SEEDS = 50, 4

Fault = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quickly(monkeypatch)


@pytest.mark.timeout(0 if STEPS > 60 else 600)
@pytest.mark.parametrize("seed", range(SEEDS))
async def test_nothing_is_where_it_may_not_be_and_all_that_may_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    life = await live(tmp_path, seed, STEPS, monkeypatch)
    assert life.fleet.watch.checked > STEPS, "there was nothing to look at"


@pytest.mark.timeout(0 if STEPS > 60 else 600)
@pytest.mark.parametrize("seed", range(SEEDS // 2))
async def test_a_control_plane_that_asks_nobody_puts_nothing_where_it_may_not_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """What each site was told by its owner suffices it."""
    asks_nobody(monkeypatch)
    life = await live(tmp_path, seed, STEPS, monkeypatch, captured=True)
    assert life.fleet.watch.checked > STEPS, "there was nothing to look at"


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


async def seen(folder: Path, monkeypatch: pytest.MonkeyPatch, theme: Theme, *, captured: bool) -> None:
    """The watch objects within a few lives."""
    for seed in range(theme.first, theme.first + FAULT_SEEDS):
        try:
            await live(folder / str(seed), seed, FAULT_STEPS, monkeypatch, theme=theme, captured=captured)
        except Seen as found:
            print(f"life {seed}: {found}")
            return
    pytest.fail("nothing was seen of it")
