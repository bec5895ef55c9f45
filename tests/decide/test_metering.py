"""Usage read from the gateway's log, whole lines and torn ones."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.decide.metering import first_bytes, meter
from kasbah.domain.ids import KeyId, RevisionId, ServiceId, WakeId
from kasbah.domain.usage import Usage, UsageKey

LINE: dict[str, Any] = {
    "at": 1_772_366_437,
    "cluster": "sv-1/rv-1",
    "key": "ky-1",
    "status": 200,
    "flags": "-",
    "milliseconds": 12,
    "bytes_in": 5,
    "bytes_out": 700,
}
KEY = UsageKey(
    service=ServiceId("sv-1"),
    revision=RevisionId("rv-1"),
    key=KeyId("ky-1"),
    minute=datetime(2026, 3, 1, 12, 0, tzinfo=UTC),
)


def line(**changes: Any) -> bytes:
    fields = {**LINE, **changes}
    return "\t".join("-" if value is None else str(value) for value in fields.values()).encode()


def older(**changes: Any) -> bytes:
    """A line of a gateway of before."""
    return json.dumps({**LINE, **changes}).encode()


def test_a_line_counts_for_its_service_revision_key_and_minute() -> None:
    metered = meter([line()])
    assert metered.usage == {KEY: Usage(requests=1, bytes_in=5, bytes_out=700, milliseconds=12)}
    assert metered.unreadable == 0


def test_what_another_site_sent_entered_there_and_the_rest_here() -> None:
    sent = b"1772366437\tsv-1/rv-1\tky-1\t200\t-\tspiffe://in-1/site/st-paris\t12\t5\t700"
    metered = meter([line(), sent, sent, line(at=LINE["at"] + 3_600), line(status=401), older()])
    assert metered.usage[KEY].requests == 4, "wherever it entered, it is counted where it was served"
    hour = KEY.minute.replace(minute=0)
    counts = {(key.site, (key.hour - hour).seconds): count for key, count in metered.entries.items()}
    assert counts == {("", 0): 2, ("", 3_600): 1, ("st-paris", 0): 2}
    assert metered.unreadable == 0


def test_lines_of_one_minute_add_up_and_others_stand_apart() -> None:
    usage = meter([line(), line(status=503), line(at=LINE["at"] + 60), line(key=None)]).usage
    assert len(usage) == 3
    assert usage[KEY] == Usage(requests=2, failed=1, bytes_in=10, bytes_out=1_400, milliseconds=24)


@pytest.mark.parametrize("hours", [1, -1])
def test_books_are_kept_by_the_control_planes_clock(hours: int) -> None:
    """Of a gateway whose machine's is an hour behind or ahead: what failed just now is found among what failed now."""
    written = line(at=LINE["at"] - hours * 3_600)
    assert meter([written], timedelta(hours=hours)) == meter([line()]) != meter([written])


def test_no_minute_is_before_there_were_any() -> None:
    (key,) = meter([line(at=5)], timedelta(hours=-1)).usage
    assert key.minute == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(("status", "failed"), [(0, 0), (200, 0), (404, 0), (429, 0), (499, 0), (500, 1), (503, 1)])
def test_failures_are_the_answers_of_500_and_above(status: int, failed: int) -> None:
    (usage,) = meter([line(status=status)]).usage.values()
    assert usage.failed == failed


@pytest.mark.parametrize(
    ("status", "flags", "failed"),
    [(200, "-", 0), (200, "UC", 1), (200, "UPE", 1), (200, "UR,DC", 1), (200, "DC", 0), (101, "UC", 0), (200, None, 0)],
)
def test_an_answer_that_the_replica_broke_off_has_failed(status: int, flags: str | None, failed: int) -> None:
    (usage,) = meter([line(status=status, flags=flags)]).usage.values()
    assert usage.failed == failed


@pytest.mark.parametrize("changes", [{"cluster": None}, {"cluster": "door"}, {"status": 401}, {"status": 403}])
def test_what_reached_no_service_is_nobody_s_usage(changes: dict[str, Any]) -> None:
    metered = meter([line(**changes)])
    assert (metered.usage, metered.unreadable) == ({}, 0)


def test_a_line_of_an_older_gateway_counts_the_same() -> None:
    mixed = [line(), older(at="1772366437.25", status="200"), older(key=None, flags=None, at=1_772_366_437.25)]
    assert meter(mixed) == meter([line(), line(), line(key=None)])


GARBAGE = {
    "nothing": b"",
    "torn": line()[:-6],
    "two in one": line() + line(),
    "one field": b"sv-1/rv-1",
    "one more field": b"1\t" + line(),
    "not UTF-8": b"\xff\xfe\x00",
    "not UTF-8 in a field": line(key="?").replace(b"?", b"\xff"),
    "no status": line(status=None),
    "a status in words": line(status="ok"),
    "bytes below nothing": line(bytes_in=-1),
    "more bytes than there are": line(bytes_out=10**30),
    "part of a byte": line(bytes_out=1.5),
    "time without end": line(at="inf"),
    "no number for a time": line(at="nan"),
    "a time beyond the calendar": line(at=10**15),
    "digits without end": line(bytes_out="9" * 5_000),
    "older: torn": older()[:-20],
    "older: two in one": older() + older(),
    "older: another object": b'{"sv-1": "rv-1"}',
    "older: a status in words": older(status="ok"),
    "older: time without end": older(at=float("inf")),
    "older: no number for a time": older(at=float("nan")),
    "older: a time beyond the machine": older(at=1e300),
    "older: a number that is no float": older(at=10**400),
    "older: digits without end": b'{"at": ' + b"9" * 5_000 + b"}",
    "older: nested without end": b'{"at": ' + b"[" * 100_000,
}


@pytest.mark.parametrize("torn", GARBAGE.values(), ids=GARBAGE)
def test_a_line_that_cannot_be_read_counts_nothing_and_is_counted(torn: bytes) -> None:
    metered = meter([line(), torn, line()])
    assert metered.unreadable == 1
    assert metered.usage == meter([line(), line()]).usage
    assert first_bytes([torn]) == ()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from(["sv-1/rv-1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
FIELDS = [*LINE, "wake", "first_byte_milliseconds"]
CHANGES = st.dictionaries(st.sampled_from(FIELDS), VALUES)
LOGGED = CHANGES.map(lambda changes: line(**changes)) | CHANGES.map(lambda changes: older(**changes))


@given(st.lists(st.binary(max_size=60) | LOGGED, max_size=20))
def test_nothing_in_a_log_ever_raises(lines: list[bytes]) -> None:
    metered = meter(lines)
    counted = sum(one.requests for one in metered.usage.values())
    assert counted + metered.unreadable <= len(lines)
    assert all(one.bytes_in >= 0 and one.bytes_out >= 0 and one.milliseconds >= 0 for one in metered.usage.values())
    first_bytes(lines)


REQUESTS = st.builds(
    line,
    at=st.integers(1_772_366_400, 1_772_367_000),
    cluster=st.sampled_from(["sv-1/rv-1", "sv-1/rv-2", "sv-2/rv-3", "door", None]),
    key=st.sampled_from([None, "ky-1", "ky-2"]),
    status=st.sampled_from([0, 200, 401, 404, 500]),
    milliseconds=st.integers(0, 10**6),
    bytes_in=st.integers(0, 10**9),
)


@given(st.lists(REQUESTS, max_size=30), st.randoms(use_true_random=False), st.integers(0, 30))
def test_sums_depend_neither_on_the_order_nor_on_where_a_reader_stopped(
    lines: list[bytes], chance: random.Random, cut: int
) -> None:
    whole = meter(lines).usage
    shuffled = chance.sample(lines, len(lines))
    assert meter(shuffled).usage == whole
    first, second = meter(lines[:cut]).usage, meter(lines[cut:]).usage
    assert {key: first.get(key, Usage()) + second.get(key, Usage()) for key in first | second} == whole


def test_first_bytes_tell_whose_waking_they_ended() -> None:
    waited = json.dumps({"at": 100.5, "wake": "wk-1", "first_byte_milliseconds": 250}).encode()
    nobody = json.dumps({"at": 100.5, "wake": None, "first_byte_milliseconds": 250}).encode()
    silent = json.dumps({"at": 100.5, "wake": "wk-1", "first_byte_milliseconds": None}).encode()
    (found,) = first_bytes([nobody, waited, silent])
    assert (found.wake, found.at) == (WakeId("wk-1"), 100.75)
