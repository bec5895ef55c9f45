"""What the reader sees: progress while it happens, and the report at the end. Decides nothing.

On a terminal the step under way spins and its output passes above it; anywhere else every line is plain and stays.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from demo.load import Tally

PLAIN_WIDTH = 120
PHASES = ("queue", "start", "ready", "first_byte")


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A scene that was played. `wake` is the id of the waking it caused, if it caused one; `log` is what the app wrote
    last, where a request failed."""

    title: str
    app: str
    tally: Tally
    wake: str | None = None
    shown: str = ""
    log: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Report:
    """Everything that happened. `wakes` are by id, `problems` are what failed besides requests."""

    deployed: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    played: list[Played] = field(default_factory=list)
    wakes: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return sum(scene.tally.requests for scene in self.played)

    @property
    def failed(self) -> int:
        """How many of them failed."""
        return sum(scene.tally.failed for scene in self.played)

    @property
    def well(self) -> bool:
        """Whether something was shown and nothing failed."""
        return bool(self.deployed) and bool(self.played) and not self.failed and not self.problems


class Screen:
    """Where progress and report are written."""

    def __init__(self, console: Console | None = None) -> None:
        probe = console or Console(highlight=False)
        self.console = probe if probe.is_terminal or console else Console(highlight=False, width=PLAIN_WIDTH)
        self._under_way: list[str] = []
        self._spinner = self.console.status("")

    def say(self, text: str, style: str = "") -> None:
        """A line of text, as it is."""
        self.console.print(Text(text, style=style), soft_wrap=True)

    def output(self, line: str) -> None:
        """A line that a command wrote."""
        if line.strip():
            self.say(f"    {line}", "dim")

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show that something is under way, and how long it took; a step that fails says so. Several may be at once."""
        started = time.perf_counter()
        if not self.console.is_terminal:
            self.say(f"{title} ...")
        try:
            with self._shown(title):
                yield
        except BaseException:
            self.say(f"  not done: {title}, after {time.perf_counter() - started:.1f} s", "red")
            raise
        self.say(f"  done: {title}, {time.perf_counter() - started:.1f} s", "green")

    @contextmanager
    def _shown(self, title: str) -> Iterator[None]:
        """One line that moves, for all that is under way."""
        self._under_way.append(title)
        self._spinner.update(Text("; ".join(self._under_way)))
        self._spinner.start()
        try:
            yield
        finally:
            self._under_way.remove(title)
            if self._under_way:
                self._spinner.update(Text("; ".join(self._under_way)))
            else:
                self._spinner.stop()

    def report(self, report: Report) -> None:
        """The report."""
        self.console.print()
        self.say(_headline(report), "bold green" if report.well else "bold red")
        self.console.print()
        self.say(f"Deployed: {', '.join(report.deployed) or 'nothing'}")
        for name, reason in report.skipped.items():
            self.say(f"Skipped:  {name} ({reason})", "yellow")
        self.console.print()
        self.console.print(_scenes(report.played))
        for line in _answers(report.played):
            self.say(line)
        self.console.print()
        self.console.print(_wakes(report))
        for line in _failures(report):
            self.say(line, "red")


def _headline(report: Report) -> str:
    verdict = "nothing failed" if report.well else f"{report.failed} failed"
    if report.problems:
        verdict += f", {len(report.problems)} other problem(s)"
    return (
        f"{len(report.deployed)} apps deployed, {report.requests:,} requests sent, {verdict}, "
        f"{report.seconds:.0f} s in all"
    )


def _scenes(played: Sequence[Played]) -> Table:
    table = _table("What was done", "app")
    for column in ("requests", "failed", "slowest ms"):
        table.add_column(column, justify="right")
    for scene in played:
        tally = scene.tally
        row = (scene.title, scene.app, f"{tally.requests:,}", str(tally.failed), f"{tally.slowest_ms:,.0f}")
        table.add_row(*row, style="red" if tally.failed else "")
    return table


def _answers(played: Sequence[Played]) -> list[str]:
    return [scene.shown for scene in played if scene.shown]


def _wakes(report: Report) -> Table:
    """Each wake by phase. A phase that the installation has not reported is a dash."""
    table = _table("Waking", "from")
    for column in (*PHASES, "total", "held"):
        table.add_column(column.replace("_", " "), justify="right")
    for scene in report.played:
        wake = report.wakes.get(scene.wake or "")
        if wake is not None:
            phases = [_milliseconds(wake["phases"].get(phase)) for phase in PHASES]
            cells = (*phases, _milliseconds(wake["total_ms"]), str(wake["held"]))
            table.add_row(f"{scene.app}: {scene.title}", str(wake["rung"]), *cells)
    table.caption = "milliseconds; held: callers that waited for it"
    return table


def _failures(report: Report) -> list[str]:
    lines = []
    for scene in report.played:
        if scene.tally.failed:
            kinds = ", ".join(f"{count} x {fault.value}" for fault, count in scene.tally.faults.most_common())
            lines.append(f"FAILED {scene.app}, {scene.title}: {kinds}; the first: {scene.tally.example}")
            lines += [f"  | {line}" for line in scene.log]
    return lines + [f"FAILED {problem}" for problem in report.problems]


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"
