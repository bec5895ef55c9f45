"""What the replays of all traces under all rules add up to: one readable table, and rows as `bench.rows` has them.

Three things are weighed against each other: replicas that run, replicas that are frozen (memory without CPU, which the
kernel may page out) and callers who wait. `cost` puts them on one scale, in seconds of a running replica: a second
frozen counts a tenth, a second that somebody waits counts one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from bench.rows import Row
from bench.scaling.simulation import Figures

OURS = "kasbah"
FROZEN_PRICE, WAIT_PRICE = 0.1, 1.0
TIE_S = 0.01
"""Waits that differ by less are the same: a thaw is half of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One trace, replayed with one start delay under every rule, ours among them."""

    trace: str
    start_ms: int
    figures: dict[str, Figures]

    @property
    def title(self) -> str:
        """What it is called in a row."""
        return f"{self.trace}, starts take {self.start_ms / 1_000:g} s"


def cost(figures: Figures) -> float:
    """See the module."""
    return figures.running_s + FROZEN_PRICE * figures.frozen_s + WAIT_PRICE * figures.waited_s


def no_worse(ours: Figures, other: Figures) -> bool:
    """Whether ours runs no more replicas, and lets nobody in the slowest twentieth or hundredth wait longer."""
    waits = all(ours.wait_s(percent) <= other.wait_s(percent) + TIE_S for percent in (95, 99))
    return waits and ours.running_s <= other.running_s


def summary(results: Sequence[Result]) -> Iterator[Row]:
    """The few rows that say who wins: how often, and what all traces cost together."""
    for rule in _references(results):
        won = sum(no_worse(one.figures[OURS], one.figures[rule]) for one in results)
        yield Row(name="scaling: fewer replicas and no longer waits", ours=won, reference=len(results),
                  reference_name=f"pairs of trace and start, {rule}", ratio=won / len(results), goal=">= 0.5",
                  ok=won * 2 >= len(results))  # fmt: skip
    for start_ms in sorted({one.start_ms for one in results}):
        for rule in _references(results):
            some = [one for one in results if one.start_ms == start_ms]
            title = f"scaling: all traces, starts take {start_ms / 1_000:g} s: cost"
            yield _row(title, "replica s", rule, sum(cost(one.figures[OURS]) for one in some),
                       sum(cost(one.figures[rule]) for one in some))  # fmt: skip


MEASURES: dict[str, tuple[str, Callable[[Figures], float]]] = {
    "replica-seconds": ("s", lambda one: one.running_s),
    "frozen replica-seconds": ("s", lambda one: one.frozen_s),
    "wait p50": ("s", lambda one: one.wait_s(50)),
    "wait p95": ("s", lambda one: one.wait_s(95)),
    "wait p99": ("s", lambda one: one.wait_s(99)),
    "cost": ("replica s", cost),
}


def details(results: Sequence[Result]) -> Iterator[Row]:
    """Every figure of ours beside the same of each reference. What one pair costs has no goal: the sum has."""
    for one in results:
        for rule in _references(results):
            for measure, (unit, of) in MEASURES.items():
                yield _row(f"scaling: {one.title}: {measure}", unit, rule, of(one.figures[OURS]),
                           of(one.figures[rule]), judged=False)  # fmt: skip


def _references(results: Sequence[Result]) -> list[str]:
    return [rule for rule in results[0].figures if not rule.startswith(OURS)]


def _row(name: str, unit: str, rule: str, ours: float, reference: float, *, judged: bool = True) -> Row:
    return Row(name=name, ours=round(ours, 3), reference=round(reference, 3), reference_name=rule, unit=unit,
               ratio=round(ours / reference, 4) if reference else None, goal="<= 1" if judged else "",
               ok=ours <= reference if judged else None)  # fmt: skip


def show(results: Sequence[Result], console: Console) -> None:
    """The whole table, a line for each rule."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("trace", "start", "rule"):
        table.add_column(heading)
    for heading in ("replica s", "frozen s", "p50", "p95", "p99", "waited s", "cold", "most", "cost"):
        table.add_column(heading, justify="right")
    for result in results:
        title, start = result.trace, f"{result.start_ms / 1_000:g} s"
        for rule, one in result.figures.items():
            waits = [f"{one.wait_s(percent):.2f}" for percent in (50, 95, 99)]
            table.add_row(title, start, rule, f"{one.running_s:,.0f}", f"{one.frozen_s:,.0f}", *waits,
                          f"{one.waited_s:,.0f}", f"{one.cold:,}", f"{one.most}", f"{cost(one):,.0f}")  # fmt: skip
            title = start = ""
        table.add_section()
    console.print(table)
