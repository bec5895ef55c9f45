from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.api.quantities import LONGEST, format_duration, format_size, parse_duration, parse_size, write_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("1m30s", 90), ("1.5h", 5_400), ("2d", 172_800), ("0s", 0), ("1h0m5s", 3_605)],
)
def test_durations_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "90", "s", "1 m", "-1s", "1w", "1M", "m1", "1s ", "1e3s", "never", "1m-", 90, None, True, 1.5, "٣x"]
)
def test_what_is_no_duration_is_told_how_one_is_written(text: object) -> None:
    with pytest.raises(ValueError, match="such as 500ms, 30s"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["3651d", "9" * 400 + "d", "9" * 30 + "s"])
def test_a_duration_beyond_reason_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="too long"):
        parse_duration(text)


@given(st.integers(0, int(LONGEST.total_seconds()) * 1_000))
def test_a_duration_written_is_read_back(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("text", "size"),
    [("512Mi", 512 * 2**20), ("8Gi", 8 * 2**30), ("500M", 500 * 10**6), ("1k", 1_000), ("1.5Gi", 3 * 2**29),
     ("100", 100), ("100B", 100), ("1KiB", 1_024), (4_096, 4_096), (0, 0)],
)  # fmt: skip
def test_sizes_as_people_write_them(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "Mi", "512 Mi", "-1Mi", "512mi", "512Zi", -1, True, None, 1.5, "1e9"])
def test_what_is_no_size_is_told_how_one_is_written(text: object) -> None:
    with pytest.raises(ValueError, match="such as 512Mi"):
        parse_size(text)


@pytest.mark.parametrize("text", ["9" * 400 + "Ti", "1048576Ti", 2**60, 10**400])
def test_a_size_beyond_reason_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="too large"):
        parse_size(text)


@pytest.mark.parametrize("text", ["9" * 1_000_000, "1" * 1_000_000 + "."], ids=["digits", "a point"])
def test_a_megabyte_is_refused_without_being_searched(text: str) -> None:
    with pytest.raises(ValueError, match="no duration") as refused:
        parse_duration(text)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("text", ["9" * 5_000, "9" * 5_000 + "Gi", 10**5_000], ids=["digits", "with a unit", "number"])
def test_what_python_does_not_write_out_is_refused_in_our_words(text: object) -> None:
    with pytest.raises(ValueError, match="must be below"):
        parse_size(text)


@given(st.integers(0, 2**60 - 1))
def test_a_size_written_is_read_back(size: int) -> None:
    assert parse_size(write_size(size)) == size


@pytest.mark.parametrize(("size", "text"), [(0, "0"), (2**30, "1Gi"), (1_500_000_000, "1500M"), (1_025, "1025")])
def test_a_size_is_written_in_the_largest_unit_that_fits(size: int, text: str) -> None:
    assert write_size(size) == text


@pytest.mark.parametrize(("size", "text"), [(0, "0B"), (1_023, "1023B"), (2**20, "1Mi"), (3 * 2**29, "1.5Gi")])
def test_sizes_are_shown_in_the_largest_unit(size: int, text: str) -> None:
    assert format_size(size) == text
