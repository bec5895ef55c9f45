"""The demonstration from start to end: up, deploy everything, put it to sleep and call it, report, tell the story of
several sites, down.

What fails is noted and the rest still runs, so that one look at the report shows everything. However it ends, by
itself, by Ctrl-C or by an error, what was started is taken down.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
import traceback
from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol

from demo.installation import Failed, Installation, eventually, run, together
from demo.load import Tally, Target
from demo.report import Played, Report, Screen
from demo.scenes import Scene, scenes
from demo.story import Story

COMPILE_SECONDS = 60.0
WAKE_REPORTED_SECONDS = 10.0
PHASES_REPORTED_SECONDS = 15.0
INTERRUPTED = 130


def main(root: Path, *, oneshot: bool) -> int:
    """Run it; the exit code is 0 only where nothing failed."""
    screen = Screen()
    installation = Installation(root / ".venv" / "bin" / "kasbah", root / ".kasbah" / "demo")
    story = Story(installation, screen, root / ".kasbah" / "demo-sites")
    return asyncio.run(Demonstration(root, screen, installation, story).run(oneshot=oneshot))


class Told(Protocol):
    """A story that is told once everything is up, and ended however that went."""

    async def tell(self) -> None:
        """All of it. Raises Failed at the first step that does not hold."""

    async def end(self) -> None:
        """End what it started, now or in an earlier run."""


class Demonstration:
    """One run, from the repository at `root`; with a story, that is the second act."""

    def __init__(self, root: Path, screen: Screen, installation: Installation, story: Told | None = None) -> None:
        self._examples = root / "examples"
        self._installation = installation
        self._story = story
        self._screen = screen
        self._report = Report()
        self._told = False
        self._started = time.perf_counter()

    async def run(self, *, oneshot: bool) -> int:
        """Show everything, then take it down, whatever happened."""
        showing = asyncio.create_task(self._show(oneshot=oneshot))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupt, showing)
        code = await self._outcome(showing)
        if self._story is not None and not await self._tried("take the other sites down", self._story.end()):
            code = code or 1
        return code if await self._tried("take everything down", self._installation.down()) else code or 1

    def _interrupt(self, showing: asyncio.Task[None]) -> None:
        self._screen.say("\nTaking everything down; this takes a moment.")
        showing.cancel()

    async def _outcome(self, showing: asyncio.Task[None]) -> int:
        """How it went. Being interrupted while it only stays up is a good end."""
        await asyncio.wait({showing})
        if showing.cancelled() and not self._told:
            return INTERRUPTED
        if not showing.cancelled() and showing.exception() is not None:
            self._tell(showing.exception())
            return 1
        return 0 if self._report.well else 1

    def _tell(self, error: BaseException | None) -> None:
        """What ended it early: in a sentence where it is expected, with everything where it is a bug of ours."""
        if not isinstance(error, Failed):
            traceback.print_exception(error)
        self._screen.say(f"FAILED {error}", "bold red")

    async def _show(self, *, oneshot: bool) -> None:
        await self._start()
        await together(*(self._deploy(path.parent) for path in sorted(self._examples.glob("*/kasbah.yaml"))))
        self._report.deployed.sort()
        key = await self._installation.create_key("demo")
        self._screen.say("Traffic, to apps that were put to sleep:")
        for scene in scenes(self._report.deployed):
            await self._tried(f"{scene.app}, {scene.asleep}: {scene.title}", self._play(scene, key))
        await self._complete_wakes()
        self._report.seconds = time.perf_counter() - self._started
        self._screen.report(self._report)
        await self._second_act()
        self._told = True
        if not oneshot:
            await self._stay(key)

    async def _second_act(self) -> None:
        """The story, which shows its own steps; one that does not hold ends it and is a failure."""
        try:
            if self._story is not None:
                await self._story.tell()
        except Failed as error:
            self._report.problems.append(f"the story of several sites: {error}")
            self._screen.say(f"FAILED the story of several sites: {error}", "bold red")

    async def _start(self) -> None:
        with self._screen.step("take down what an earlier demonstration left"):
            if self._story is not None:
                await self._story.end()
            await self._installation.take_down_leftover()
        with self._screen.step("start Kasbah: control plane, agent and gateway"):
            await self._installation.up()

    async def _deploy(self, folder: Path) -> None:
        missing = _missing(folder)
        if missing:
            self._report.skipped[folder.name] = f"needs {' and '.join(missing)}, which this machine lacks"
            self._screen.say(f"  skipped: {folder.name}, {self._report.skipped[folder.name]}", "yellow")
            return
        if await self._tried(f"deploy {folder.name}", self._build_and_deploy(folder)):
            self._report.deployed.append(folder.name)

    async def _build_and_deploy(self, folder: Path) -> None:
        if (folder / "Makefile").exists():
            await run(["make", "--silent", "-C", str(folder)], on_line=self._screen.output, seconds=COMPILE_SECONDS)
        await self._installation.deploy(folder, self._screen.output)

    async def _play(self, scene: Scene, key: str) -> None:
        """Put the app to sleep, send what the scene sends, and find the wake it caused."""
        await self._installation.sleep(scene.app, scene.asleep)
        before = await self._installation.describe(scene.app)
        known = {wake["id"] for wake in before["wakes"]}
        target = Target(address=before["address"], host=before["host"], key=key if scene.with_key else None)
        tally = await scene.play(target)
        if scene.wakes:
            wake = await self._new_wake(scene.app, known)
        else:
            wake = None
            await self._installation.reaches(scene.app, scene.asleep)
        await self._note(scene, tally, wake)

    async def _note(self, scene: Scene, tally: Tally, wake: str | None) -> None:
        """Keep what came of a scene; where requests failed, with what the app wrote last."""
        log: list[str] = []
        if tally.failed:
            self._screen.say(f"    {tally.failed} of {tally.requests} failed: {tally.example}", "red")
            log = await self._installation.last_lines(scene.app)
        shown = scene.show(tally.body) if scene.show and not tally.failed else ""
        title = f"{scene.title} ({scene.asleep})"
        played = Played(title=title, app=scene.app, tally=tally, wake=wake, shown=shown, log=tuple(log))
        self._report.played.append(played)

    async def _new_wake(self, app: str, known: set[str]) -> str | None:
        """The id of the wake that was not there before, once it is reported."""
        fresh: list[str] = []

        async def reported() -> bool:
            wakes = (await self._installation.describe(app))["wakes"]
            self._report.wakes.update({wake["id"]: wake for wake in wakes})
            fresh[:] = [wake["id"] for wake in wakes if wake["id"] not in known]
            return bool(fresh)

        if not await eventually(reported, WAKE_REPORTED_SECONDS):
            self._report.problems.append(f"{app} answered, but no wake was reported for it")
            return None
        return fresh[0]

    async def _complete_wakes(self) -> None:
        """Read every wake once more: the last phase is known only when the gateway's log has told."""
        played = {scene.app for scene in self._report.played if scene.wake}

        async def complete() -> bool:
            for app in played:
                found = (await self._installation.describe(app))["wakes"]
                self._report.wakes.update({wake["id"]: wake for wake in found})
            ids = [scene.wake for scene in self._report.played if scene.wake]
            return all(self._report.wakes[wake]["phases"].get("first_byte") is not None for wake in ids)

        await eventually(complete, PHASES_REPORTED_SECONDS)

    async def _tried(self, title: str, work: Awaitable[None]) -> bool:
        """Whether a step worked; one that did not is noted with the last lines it wrote."""
        try:
            with self._screen.step(title):
                await work
        except Failed as error:
            self._report.problems.append(f"{title}: {error}")
            self._screen.say(f"  {error}", "red")
            return False
        return True

    async def _stay(self, key: str) -> None:
        """Stay up, and say where, until somebody ends it."""
        self._screen.say("\nIt stays up until you press Ctrl-C. The apps:", "bold")
        for app in self._report.deployed:
            self._screen.say(f"  {(await self._installation.describe(app))['url']}")
        self._screen.say(f"Where a key is asked for: curl -H 'Authorization: Bearer {key}' URL")
        self._screen.say(f"To look around: KASBAH_CONTEXT={self._installation.context} .venv/bin/kasbah ps")
        await asyncio.Event().wait()


def _missing(folder: Path) -> list[str]:
    """The programs that an example needs and this machine lacks."""
    needs: list[str] = []
    if (folder / "package.json").exists():
        needs += ["node", "npm"]
    if (folder / "Makefile").exists():
        needs += ["make", "cc"]
    return [program for program in needs if shutil.which(program) is None]
