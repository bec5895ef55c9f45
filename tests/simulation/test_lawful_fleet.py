"""Random fleets, laws, labels and misfortunes: nothing is ever at, or passes through, a place that is not lawful for
it, and what may be somewhere and fits is there.

The oracle is `lawful_oracle.py`, which shares no code with what it judges. That it sees faults is in
`test_fleet_faults.py`. `make simulate` lives longer lives, and more of them (STEPS, SEEDS).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fleet_faults import asks_nobody
from fleet_life import live
from fleet_quick import quickly

STEPS, SEEDS = int(os.environ.get("STEPS", "60")), int(os.environ.get("SEEDS", "4"))
"""The steps of a life, and the lives: half as many again under a control plane that asks nobody."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quickly(monkeypatch)


@pytest.mark.timeout(0 if STEPS > 60 else 900)
@pytest.mark.parametrize("seed", range(SEEDS))
async def test_nothing_is_where_it_may_not_be_and_all_that_may_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    life = await live(tmp_path, seed, STEPS, monkeypatch)
    assert life.fleet.watch.checked > STEPS, "there was nothing to look at"


@pytest.mark.timeout(0 if STEPS > 60 else 900)
@pytest.mark.parametrize("seed", range(SEEDS // 2))
async def test_a_control_plane_that_asks_nobody_puts_nothing_where_it_may_not_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """What each site was told by its owner suffices it."""
    asks_nobody(monkeypatch)
    life = await live(tmp_path, seed, STEPS, monkeypatch, captured=True)
    assert life.fleet.watch.checked > STEPS, "there was nothing to look at"
