from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.domain.ids import ALPHABET, PREFIXES, make_id
from kasbah.domain.revision import revision_id

ENTROPY = st.binary(min_size=10, max_size=10)


@given(st.sampled_from(sorted(PREFIXES)), ENTROPY, ENTROPY)
def test_an_id_says_its_kind_and_keeps_every_bit_of_its_entropy(kind: str, first: bytes, second: bytes) -> None:
    made = make_id(kind, first)
    prefix, _, letters = made.partition("-")
    assert (prefix, len(letters)) == (PREFIXES[kind], 16)
    assert set(letters) <= set(ALPHABET)
    assert (made == make_id(kind, second)) == (first == second)


@pytest.mark.parametrize("entropy", [b"", bytes(9), bytes(11)])
def test_less_or_more_entropy_is_refused(entropy: bytes) -> None:
    with pytest.raises(ValueError, match="10 bytes"):
        make_id("site", entropy)


def test_kinds_have_prefixes_of_their_own() -> None:
    assert len(set(PREFIXES.values())) == len(PREFIXES)


@given(st.binary(), st.binary())
def test_a_revision_is_named_by_its_contents(first: bytes, second: bytes) -> None:
    assert (revision_id(first) == revision_id(second)) == (first == second)
    assert revision_id(first).startswith("rv-")
