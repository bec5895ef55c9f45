"""The benchmark's own arithmetic, and what it writes and prints. What it measures is measured elsewhere."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bench import load
from bench.errors import Unmeasured
from bench.figures import middle_ratio, percentile, ratios, spread
from bench.rows import Row, figure, from_json, show, skipped, to_json, write

MEASURED = Row(
    name="warm gateway, 16 connections: requests/s",
    ours=9_500.0,
    reference=10_000.0,
    reference_name="Envoy, written by hand",
    ratio=0.95,
    goal=">= 0.9 x",
    ok=True,
    spread=(0.91, 0.99),
)


def test_rows_survive_the_file(tmp_path: Path) -> None:
    rows = (MEASURED, skipped("beside nginx", "nginx is not installed: apt-get install nginx-light"))
    write(tmp_path / "results" / "gateway.json", rows)
    assert from_json((tmp_path / "results" / "gateway.json").read_text()) == rows


def test_the_file_has_what_readers_of_it_expect() -> None:
    (found,) = json.loads(to_json([MEASURED]))
    assert {"name", "ours", "reference", "reference_name", "ratio", "goal", "ok"} <= found.keys()


def test_a_file_of_a_later_version_is_read() -> None:
    (found,) = json.loads(to_json([MEASURED]))
    assert from_json(json.dumps([{**found, "weather": "fine"}])) == (MEASURED,)


def test_the_table_tells_met_missed_and_skipped_apart() -> None:
    missed = Row(name="wake", ours=21.0, unit="ms", goal="<= 15 ms", ok=False)
    told = Row(name="Envoy killed", ours=4.0, goal="told, no goal")
    out = io.StringIO()
    show([MEASURED, missed, told, skipped("LiteLLM", "it cannot be installed")], Console(file=out, width=200))
    lines = out.getvalue().splitlines()[1:]
    assert [line.split()[-1] for line in lines] == ["met", "missed", "goal", "skipped"]
    assert "0.91..0.99" in lines[0]
    assert "it cannot be installed" in lines[3]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (0.0, "0"), (0.0123, "0.0123"), (2.345, "2.35"), (46.24, "46.2"), (12345.6, "12,346")],
)
def test_figures_for_people(value: float | None, shown: str) -> None:
    assert figure(value) == shown


def test_percentiles() -> None:
    values = [float(one) for one in range(1, 101)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.95, 0.99, 1.0)] == [1, 50, 95, 99, 100]
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1), st.floats(0, 1))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(one <= found for one in values) >= math.floor(share * len(values))


def test_ratios_are_taken_pair_by_pair() -> None:
    assert ratios([10, 30], [20, 20]) == [0.5, 1.5]
    assert middle_ratio([10, 30, 90], [20, 20, 100]) == 0.9
    assert middle_ratio([1.0], [0.0]) is None
    assert spread([3.0, 1.0, 2.0]) == (1.0, 3.0)


WRK = """Running 2s test @ http://127.0.0.1:9/
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.21ms    2.00ms  30.00ms   95.00%
  4000 requests in 2.00s, 1.00MB read
Requests/sec:   2000.00
"""
FIGURES = {"requests": 4_000, "microseconds": 2_000_000, "p50": 812, "p99": 4_480}
ERRORS = {"connect": 0, "read": 1, "write": 0, "status": 2, "timeout": 3}


def test_what_wrk_prints_is_read() -> None:
    output = f"{WRK}{load.MARK}{json.dumps(FIGURES | ERRORS)}\n"
    assert load.parse(output) == load.Run(requests=4_000, per_second=2_000.0, p50_ms=0.812, p99_ms=4.48, failed=6)


@pytest.mark.parametrize("output", ["", "unable to connect to 127.0.0.1:9 Connection refused", "bench-figures {}"])
def test_wrk_that_found_nothing_is_told(output: str) -> None:
    with pytest.raises(Unmeasured, match="no figures"):
        load.parse(output)


def test_the_key_is_in_the_script_and_text_cannot_break_out_of_it() -> None:
    order = load.Order(port=1, headers={"Authorization": "Bearer k"}, body='{"a": "b\\n"}')
    script = load.script(order)
    assert 'wrk.headers["Authorization"] = "Bearer k"' in script
    assert r'wrk.body = "{\"a\": \"b\\n\"}"' in script
    assert 'wrk.method = "POST"' in script
