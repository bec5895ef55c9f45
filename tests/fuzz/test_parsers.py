"""Every reader of foreign bytes, given what it knows, parts of that with other bytes between, and noise."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from targets import SEEDS, TARGETS

JUNK = st.sampled_from(
    [b"\0", b"\r\n", b"\xff\xfe", b"\xed\xa0\x80", b"..", b"/", b'"', b"\\", b"9" * 5_000, b"[" * 2_000, b": "]
)


@st.composite
def twisted(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A seed with something cut out of it and something else put there, a few times over."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)))
        between = draw(JUNK | st.binary(max_size=12) | st.just(data[start:end] * 2))
        data = data[:start] + between + data[end:]
    return data


@pytest.mark.parametrize("name", TARGETS)
def test_what_it_knows(name: str) -> None:
    for seed in SEEDS[name]:
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
def test_what_nobody_expects(name: str) -> None:
    @settings(max_examples=25, derandomize=True, database=None)
    @given(st.binary(max_size=200) | twisted(SEEDS[name]))
    def holds(data: bytes) -> None:
        TARGETS[name](data)

    holds()
