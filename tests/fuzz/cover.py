"""One target, guided by which lines it reaches: `python tests/fuzz/cover.py TARGET SECONDS`; without arguments, the
names of all. Needs atheris.

What it finds is written below .fuzz, as is what it has learnt, so that the next run goes on from there.
"""

from __future__ import annotations

import sys
from pathlib import Path

if len(sys.argv) == 1:
    import targets

    print(*targets.TARGETS)
    sys.exit()

import atheris

MINE = ["kasbah", "targets", "targets_audit", "targets_law", "targets_outside"]
with atheris.instrument_imports(include=MINE):
    import targets

FOUND = Path(__file__).parents[2] / ".fuzz"


def main(name: str, seconds: str) -> None:
    corpus = FOUND / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(targets.SEEDS[name]):
        (corpus / f"seed-{number}").write_bytes(seed)
    flags = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2048", f"-artifact_prefix={FOUND}/{name}-"]
    atheris.Setup([sys.argv[0], str(corpus), *flags, "-max_len=8192", "-print_final_stats=1"], targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
