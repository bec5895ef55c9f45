"""What every test shares: golden files, and that tests marked `root` are skipped, by name, without it.

Golden files are text in, text out; `pytest --rewrite-golden` writes them anew and drops those no test asked for.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import structlog
from golden_files import Golden
from hypothesis import HealthCheck, settings
from quick_tables import copied_tables

from kasbah.control import app

GOLDEN = Path(__file__).parent / "golden"
# How long an example takes says nothing of what is tested: on a crowded machine the first one, which loads what others
# find loaded, takes longer than hypothesis allows by itself, and a test would fail that has found nothing.
settings.register_profile("kasbah", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kasbah")
# By itself structlog draws a traceback with all that every frame holds, which takes seconds where that is an agent.
PLAIN = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
structlog.configure(processors=[*structlog.get_config()["processors"][:-1], PLAIN])

ASKED = pytest.StashKey[set[Path]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="write tests/golden anew, drop the stale files")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ASKED] = set()


LONGEST = (
    "system/test_partitions.py",
    "system/test_installation_life.py",
    "cli/test_up.py",
    "simulation/test_fleet_faults.py",
    "control/test_process.py",
    "system/test_bad_input.py",
    "system/test_survival.py",
    "simulation/test_lawful_life.py",
    "docs/test_docs_run.py",
    "system/test_joining_live.py",
    "system/test_strangers.py",
    "system/test_zero_failures.py",
    "control/test_audit_log.py",
    "system/test_rollouts_live.py",
    "system/test_sources_live.py",
    "system/test_restore.py",
    "simulation/test_misadventures.py",
    "system/test_upgrade.py",
    "simulation/test_lawful_fleet.py",
)
"""Files that take more than a minute, the longest first: begun last, each would keep one worker while others have
nothing left."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first. Without root, tests that need it are skipped, each by its name."""
    items.sort(key=lambda item: _turn(item.path))
    if os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("root"):
                item.add_marker(pytest.mark.skip(reason=f"{item.name} needs root"))


def _turn(path: Path) -> int:
    return next((turn for turn, name in enumerate(LONGEST) if path.as_posix().endswith(f"/{name}")), len(LONGEST))


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: the garbage collector need not look through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _quick_tables() -> Iterator[None]:
    with mock.patch.object(app, "migrate", copied_tables):
        yield


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """The golden files of this test module: the folder that its `GOLDEN` names."""
    config = request.config
    return Golden(
        GOLDEN / request.module.GOLDEN,
        rewrite=config.getoption("--rewrite-golden"),
        asked=config.stash[ASKED],
    )


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Drop the stale files, but only where the whole of their module has run and passed."""
    config = session.config
    narrowed = config.option.keyword or config.option.markexpr or any("::" in one for one in config.args)
    if not config.getoption("--rewrite-golden") or narrowed or exitstatus != 0:
        return
    asked = config.stash[ASKED]
    folders = {GOLDEN / module.GOLDEN for module in _modules(session) if hasattr(module, "GOLDEN")}
    for path in (one for folder in folders for one in folder.rglob("*") if one.is_file()):
        if path not in asked:
            path.unlink()


def _modules(session: pytest.Session) -> set[object]:
    return {item.module for item in session.items if isinstance(item, pytest.Function)}
