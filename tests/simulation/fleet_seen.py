"""Puts a fault into the real code, and lives until the watch objects."""

from __future__ import annotations

from pathlib import Path

import pytest
from fleet_draw import Theme
from fleet_life import live
from fleet_watch import Seen

STEPS, LIVES = 50, 4


async def seen(folder: Path, monkeypatch: pytest.MonkeyPatch, theme: Theme, *, captured: bool) -> None:
    """The watch objects within a few lives."""
    for seed in range(theme.first, theme.first + LIVES):
        try:
            await live(folder / str(seed), seed, STEPS, monkeypatch, theme=theme, captured=captured)
        except Seen as found:
            print(f"life {seed}: {found}")
            return
    pytest.fail("nothing was seen of it")
