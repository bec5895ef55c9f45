"""The course of a demonstration, with a stand-in for the command line that fails or hangs where it is told to."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from pathlib import Path

import pytest
from rich.console import Console

from demo.installation import Failed, Installation, eventually
from demo.report import Screen
from demo.run import INTERRUPTED, Demonstration, Told

pytestmark = pytest.mark.real

STAND_IN = """#!/bin/sh
echo "$1" >> "{asked}"
case "$1" in
    up) {up}; echo '{{"gateway": "127.0.0.1:1"}}'; echo "is up" >> "{asked}" ;;
    keys) echo '{{"key": "kb_key"}}' ;;
    deploy) {deploy} ;;
esac
"""


class Stage:
    """A repository with one example, and the stand-in."""

    def __init__(
        self, root: Path, deploy: str, *, up: str = ":", needs: str = "kasbah.yaml", story: Told | None = None
    ) -> None:
        self.asked = root / "asked"
        self.out = io.StringIO()
        example, binary = root / "examples" / "web", root / ".venv" / "bin" / "kasbah"
        for folder in (example, binary.parent):
            folder.mkdir(parents=True)
        for name in ("kasbah.yaml", needs):
            (example / name).touch()
        binary.write_text(STAND_IN.format(asked=self.asked, up=up, deploy=deploy))
        binary.chmod(0o755)
        self.demonstration = Demonstration(
            root, Screen(Console(file=self.out, width=120)), Installation(binary, root / ".kasbah" / "demo"), story
        )

    def commands(self) -> list[str]:
        return self.asked.read_text().splitlines() if self.asked.exists() else []

    async def reaches(self, command: str) -> None:
        async def reached() -> bool:
            return command in self.commands()

        assert await eventually(reached, 10)


async def test_a_deploy_that_fails_is_told_with_its_last_lines_and_everything_is_taken_down(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "echo the compiler is unhappy >&2; exit 1")
    assert await stage.demonstration.run(oneshot=True) == 1
    assert stage.commands() == ["up", "is up", "deploy", "keys", "down"]
    report = stage.out.getvalue().partition("apps deployed")[2]
    assert "FAILED deploy web" in report
    assert "| the compiler is unhappy" in report


async def test_an_example_that_the_machine_cannot_run_is_skipped_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, "exit 1", needs="package.json")
    monkeypatch.setattr("shutil.which", lambda program: None)
    await stage.demonstration.run(oneshot=True)
    assert "deploy" not in stage.commands()
    assert "Skipped:  web (needs node and npm, which this machine lacks)" in stage.out.getvalue()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_interrupted_in_the_middle_it_takes_everything_down(tmp_path: Path, number: signal.Signals) -> None:
    stage = Stage(tmp_path, "sleep 60")
    running = asyncio.create_task(stage.demonstration.run(oneshot=True))
    await stage.reaches("deploy")
    os.kill(os.getpid(), number)
    assert await asyncio.wait_for(running, 20) == INTERRUPTED
    assert stage.commands() == ["up", "is up", "deploy", "down"]


async def test_interrupted_while_it_starts_it_is_up_before_it_goes_down(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "exit 1", up=f"while [ ! -e {tmp_path}/go ]; do sleep 0.01; done")
    running = asyncio.create_task(stage.demonstration.run(oneshot=True))
    await stage.reaches("up")
    os.kill(os.getpid(), signal.SIGINT)
    (tmp_path / "go").touch()
    assert await asyncio.wait_for(running, 20) == INTERRUPTED
    assert stage.commands() == ["up", "is up", "down"]


async def test_where_down_fails_so_does_the_demonstration(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "exit 0 ;; down) echo it will not end >&2; exit 1")
    assert await stage.demonstration.run(oneshot=True) == 1
    assert "| it will not end" in stage.out.getvalue()


class Stories:
    """A second act that ends as it is told to."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.begun = asyncio.Event()
        self.ends = 0

    async def tell(self) -> None:
        self.begun.set()
        if self.fails:
            raise Failed("Virginia was let in")
        await asyncio.Event().wait()

    async def end(self) -> None:
        self.ends += 1


async def test_a_story_that_does_not_hold_is_a_failure_and_its_sites_are_ended(tmp_path: Path) -> None:
    story = Stories(fails=True)
    stage = Stage(tmp_path, "exit 1", story=story)
    assert await stage.demonstration.run(oneshot=True) == 1
    assert "FAILED the story of several sites: Virginia was let in" in stage.out.getvalue()
    assert story.ends == 2, "what an earlier one left, and its own"
    assert stage.commands()[-1] == "down"


async def test_interrupted_in_the_story_it_is_no_good_end_and_everything_goes_down(tmp_path: Path) -> None:
    story = Stories()
    stage = Stage(tmp_path, "exit 1", story=story)
    running = asyncio.create_task(stage.demonstration.run(oneshot=False))
    await asyncio.wait_for(story.begun.wait(), 10)
    os.kill(os.getpid(), signal.SIGINT)
    assert await asyncio.wait_for(running, 20) == INTERRUPTED
    assert (story.ends, stage.commands()[-1]) == (2, "down")
