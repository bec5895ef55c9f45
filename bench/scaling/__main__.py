"""`python -m bench.scaling [--quick] [--json FILE] [--trace FILE]`: replay traces under each rule, print what comes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from bench import rows
from bench.scaling import reduce, results, traces
from bench.scaling.results import OURS, Result
from bench.scaling.rules import UNFROZEN, KeepAlive, KnativeLike, Shipped
from bench.scaling.simulation import Replay, Rule
from bench.scaling.traces import Trace

MINUTE_MS = 60_000
STARTS_MS = (100, 1_000, 5_000, 20_000)
QUICK_STARTS_MS = (1_000, 20_000)
QUICK = {"azure-code": 20 * MINUTE_MS, "mooncake-conversation": 20 * MINUTE_MS, "servegen-quiet": 24 * 60 * MINUTE_MS}
"""How much of which traces a quick run replays."""

RULES: dict[str, Callable[[int], Rule]] = {
    OURS: Shipped,
    "kasbah, never frozen": lambda start_ms: Shipped(start_ms, UNFROZEN),
    "knative-like": lambda _: KnativeLike(),
    "keep-alive 60 s": lambda _: KeepAlive(60_000),
    "keep-alive 600 s": lambda _: KeepAlive(600_000),
}


def measure(*, quick: bool, others: Sequence[Path] = ()) -> Iterator[Result]:
    """Each trace with each start delay, under every rule; `others` are traces to replay instead of our own."""
    short = (traces.recorded(name).first(length) for name, length in QUICK.items())
    for trace in [reduce.read(path) for path in others] or (short if quick else traces.everything()):
        for start_ms in QUICK_STARTS_MS if quick else STARTS_MS:
            yield replayed(trace, start_ms)


def replayed(trace: Trace, start_ms: int) -> Result:
    """One trace with one start delay, under every rule."""
    figures = {name: Replay(trace, rule(start_ms), start_ms=start_ms).run() for name, rule in RULES.items()}
    return Result(trace=trace.name, start_ms=start_ms, figures=figures)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the beginning of three traces, two start delays")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows that say who wins")
    parser.add_argument("--details", type=Path, metavar="FILE", help="write every figure beside its references")
    parser.add_argument(
        "--trace", type=Path, action="append", default=[], metavar="FILE",
        help="replay this instead: .csv with Azure's columns, or .jsonl with Mooncake's",
    )  # fmt: skip
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 130)
    found = list(measure(quick=options.quick, others=options.trace))
    results.show(found, console)
    rows.show(list(results.summary(found)), console)
    if options.json:
        rows.write(options.json, results.summary(found))
    if options.details:
        rows.write(options.details, results.details(found))


if __name__ == "__main__":
    main()
