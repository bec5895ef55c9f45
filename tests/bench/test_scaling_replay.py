"""The simulation that judges scaling rules: it loses nobody, repeats itself, and runs the rule that is shipped."""

from __future__ import annotations

import gzip
from datetime import timedelta
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.scaling import results, rules, traces
from bench.scaling.__main__ import RULES, replayed
from bench.scaling.results import OURS
from bench.scaling.rules import UNFROZEN, KeepAlive, KnativeLike, Shipped
from bench.scaling.simulation import CONCURRENCY, EMPTIED_MS, THAW_MS, Figures, Replay
from bench.scaling.traces import Trace
from kasbah.decide import scaling

SECOND, MINUTE = 1_000, 60_000
START = 5 * SECOND


def trace(*requests: tuple[int, int], length: int = 10 * MINUTE) -> Trace:
    arrivals, services = zip(*sorted(requests), strict=True)
    return Trace(name="a test", arrivals=arrivals, services=services, length=length)


def replay(given: Trace, rule=None, **options) -> Figures:
    return Replay(given, rule or Shipped(START), start_ms=START, **options).run()


GAPS = st.just(0) | st.integers(1, 2_000) | st.integers(1, 5 * MINUTE)
REQUESTS = st.lists(st.tuples(GAPS, st.integers(1, 20_000)), min_size=1, max_size=40)
MADE = st.sampled_from(sorted(RULES))
STARTS = st.sampled_from((100, 1_000, 5_000, 20_000))


def from_gaps(requests: list[tuple[int, int]]) -> Trace:
    arrivals = tuple(accumulate(gap for gap, _ in requests))
    return Trace(name="drawn", arrivals=arrivals, services=tuple(took for _, took in requests), length=arrivals[-1])


# --- what every replay keeps ------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(REQUESTS, MADE, STARTS)
def test_everybody_is_served_once_and_never_more_at_once_than_there_is_room(requests, name: str, start_ms: int) -> None:
    drawn = from_gaps(requests)
    whole = Replay(drawn, RULES[name](start_ms), start_ms=start_ms)
    figures = whole.run()
    assert sorted(whole.served_at) == list(range(len(requests)))
    assert len(figures.waits) == len(requests)
    assert min(figures.waits) >= 0
    begins = [whole.served_at[one] for one in range(len(requests))]
    ends = [at + took for at, took in zip(begins, drawn.services, strict=True)]
    edges = sorted([(at, 1) for at in begins] + [(at, -1) for at in ends])
    assert max(accumulate(change for _, change in edges)) <= figures.most * CONCURRENCY
    busy = sum(took for _, took in requests) / SECOND
    assert figures.running_s * CONCURRENCY >= busy, "work is done by replicas that run"


@settings(deadline=None, max_examples=60)
@given(REQUESTS, MADE, STARTS)
def test_reports_that_say_nothing_new_may_be_put_off(requests, name: str, start_ms: int) -> None:
    drawn = from_gaps(requests)
    short, whole = (
        Replay(drawn, RULES[name](start_ms), start_ms=start_ms, every_report=every).run() for every in (False, True)
    )
    assert short == whole


@pytest.mark.parametrize("name", RULES)
def test_a_recorded_trace_replayed_twice_gives_the_same_figures(name: str) -> None:
    recorded = traces.recorded("azure-code").first(3 * MINUTE)
    first, second, all_reports = (
        replay(recorded, RULES[name](START), every_report=every) for every in (False, False, True)
    )
    assert first == second == all_reports


# --- what is charged and waited, by hand ------------------------------------------------------------------------------


def test_one_request_costs_a_start_its_service_and_the_time_to_sleep() -> None:
    figures = replay(trace((0, 2 * SECOND)))
    assert figures.waits == (START,)
    asleep = 5 + 2 + 60 + EMPTIED_MS / SECOND  # the start, the service, `freeze_after`, the drain
    assert figures.running_s == pytest.approx(asleep, abs=0.2)
    assert figures.frozen_s == pytest.approx(600 - asleep, abs=0.2)
    assert (figures.cold, figures.most) == (1, 1)


def test_who_finds_no_place_waits_for_the_first_that_is_free() -> None:
    calls = [(0, 8 * SECOND)] * CONCURRENCY + [(6 * SECOND, SECOND)]
    figures = replay(trace(*calls))
    assert figures.waits[:CONCURRENCY] == (START,) * CONCURRENCY
    assert figures.waits[CONCURRENCY] == 5 * SECOND, "a second replica takes until 11 s, the first until 13 s"
    assert figures.most == 2


def test_the_second_peak_thaws_what_the_first_started() -> None:
    peak = [(0, SECOND)] * (3 * CONCURRENCY)
    later = [(at + 2 * MINUTE, took) for at, took in peak]
    figures = replay(trace(*peak, *later))
    assert figures.waits[len(peak) :] == (THAW_MS,) * len(later)
    assert figures.most == 3
    never = replay(trace(*peak, *later), Shipped(START, UNFROZEN))
    assert never.frozen_s == 0
    assert max(never.waits[len(peak) :]) > THAW_MS


# --- the rules --------------------------------------------------------------------------------------------------------


def test_the_rule_in_the_table_is_the_one_that_is_shipped(monkeypatch) -> None:
    asked = []

    def watched(*positional, **named):
        asked.append(named["now"])
        return scaling.scale(*positional, **named)

    assert rules.scale is scaling.scale
    monkeypatch.setattr(rules, "scale", watched)
    result = replayed(trace((0, SECOND)), START)
    assert asked
    assert next(iter(result.figures)) == OURS
    assert RULES[OURS] is Shipped


def test_keep_alive_keeps_each_replica_for_its_time_after_its_last_use() -> None:
    burst = [(0, SECOND)] * (2 * CONCURRENCY)
    figures = replay(trace(*burst, (30 * SECOND, SECOND)), KeepAlive(MINUTE))
    assert figures.frozen_s == 0
    assert figures.running_s == pytest.approx((6 + 60) + (31 + 60), abs=1)


def test_knative_ends_the_last_replica_after_its_window_and_its_grace() -> None:
    figures = replay(trace((0, SECOND)), KnativeLike())
    assert figures.running_s == pytest.approx(6 + 60 + 30, abs=5)
    assert figures.waits == (START,)


def test_knative_panics_at_twice_what_there_is() -> None:
    steady = [(at * SECOND, SECOND) for at in range(60)]
    burst = [(60 * SECOND, 20 * SECOND)] * (6 * CONCURRENCY)
    figures = replay(trace(*steady, *burst), KnativeLike())
    assert 4 <= figures.most <= 10


# --- traces and figures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", traces.everything(), ids=lambda one: one.name)
def test_traces_are_in_order_and_end_before_they_are_over(one: Trace) -> None:
    assert list(one.arrivals) == sorted(one.arrivals)
    assert len(one.arrivals) == len(one.services) > 500
    assert 0 <= one.arrivals[0] <= one.arrivals[-1] < one.length
    assert min(one.services) > 0


def test_the_kept_traces_are_small_and_packed_without_a_date() -> None:
    files = sorted(traces.DATA.glob("*.csv.gz"))
    assert [one.name for one in files] == sorted(f"{name}.csv.gz" for name in traces.RECORDED)
    assert sum(one.stat().st_size for one in files) < 300_000
    for one in files:
        assert one.read_bytes()[4:8] == bytes(4), "the same command makes the same bytes"
        assert gzip.decompress(one.read_bytes())


def test_percentiles_are_waits_that_somebody_had() -> None:
    figures = Figures(running_s=0, frozen_s=0, waits=tuple(range(100, 0, -1)), cold=0, most=1)
    assert [figures.wait_s(percent) * SECOND for percent in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert figures.waited_s == pytest.approx(5.05)


def test_results_become_rows() -> None:
    found = [replayed(trace((0, SECOND), (MINUTE, SECOND)), start_ms) for start_ms in (100, START)]
    rows = [*results.summary(found), *results.details(found)]
    assert {row.reference_name.split(", ")[-1] for row in rows} == {name for name in RULES if not name.startswith(OURS)}
    for row in rows:
        assert row.ours is not None
        if row.ratio is not None and row.reference and row.goal == "<= 1":
            assert row.ok is (row.ours <= row.reference)


def test_no_worse_means_in_replicas_and_in_both_waits() -> None:
    best = Figures(running_s=10, frozen_s=99, waits=(0, 0, 0, 100), cold=0, most=1)
    assert results.no_worse(best, best)
    assert not results.no_worse(Figures(running_s=11, frozen_s=0, waits=best.waits, cold=0, most=1), best)
    assert not results.no_worse(Figures(running_s=9, frozen_s=0, waits=(0, 0, 0, 200), cold=0, most=1), best)
    assert results.cost(best) == pytest.approx(10 + 9.9 + 0.1)


def test_a_shorter_trace_is_the_beginning_of_the_longer() -> None:
    whole = trace((0, 1), (10, 2), (20, 3))
    assert whole.first(20) == Trace(name="a test", arrivals=(0, 10), services=(1, 2), length=20)
    assert timedelta(milliseconds=whole.length) == timedelta(minutes=10)
