"""An entry has one spelling, and what does not have it is no entry."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasbah.domain.audit import Entry, Outcome, commit, decode, encode

NOW = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
WHOLE = Entry(
    sequence=7,
    at=NOW,
    actor="zahra",
    credential="tk-1",
    act="change_scale",
    object="projects/default/services/web",
    outcome=Outcome.REFUSED,
    reason="it may not: « non »",
    details=(("max", "3"), ("min", "1")),
    commitment=commit(bytes(16), b"what was sent"),
)


def test_an_entry_comes_back_from_its_bytes() -> None:
    assert decode(encode(WHOLE)) == WHOLE
    least = Entry(sequence=0, at=NOW, actor="kasbah", act="begin", object="installation")
    assert decode(encode(least)) == least
    assert b"reason" not in encode(least)


texts = st.text(max_size=300)


@given(st.integers(0, 2**53), texts, texts, st.dictionaries(texts, texts, max_size=20))
def test_whatever_it_says_it_fits_a_bundle_and_has_one_spelling(
    sequence: int, actor: str, reason: str, details: dict[str, str]
) -> None:
    entry = Entry(
        sequence=sequence,
        at=NOW,
        actor=actor,
        act="a",
        object="o",
        reason=reason * 10,
        details=tuple(sorted(details.items())),
    )
    leaf = encode(entry)
    assert len(leaf) < 2**16
    assert leaf.isascii()
    assert b"\n" not in leaf
    assert encode(decode(leaf)) == leaf


@pytest.mark.parametrize("place", range(0, len(encode(WHOLE)), 5))
def test_a_cut_entry_is_none(place: int) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # of whatever kind: it is refused
        decode(encode(WHOLE)[:place])


@pytest.mark.parametrize(
    "leaf",
    [
        pytest.param(b"[]", id="list"),
        pytest.param(b"{}", id="empty"),
        pytest.param(b"\xff", id="no-text"),
        pytest.param(encode(WHOLE).replace(b'"v":1', b'"v":2'), id="newer"),
        pytest.param(encode(WHOLE) + b"\n", id="line"),
        pytest.param(json.dumps(json.loads(encode(WHOLE))).encode(), id="spaces"),
        pytest.param(encode(WHOLE).replace(b'"sequence":7', b'"sequence":"7"'), id="text-for-number"),
        pytest.param(encode(WHOLE).replace(b'"refused"', b'"maybe"'), id="outcome"),
        pytest.param(encode(WHOLE).replace(b'"zahra"', b'["zahra"]'), id="list-for-text"),
        pytest.param(encode(WHOLE).replace(b'"v":1', b'"v":1,"x":1'), id="unknown-key"),
        pytest.param(b"[" * 100_000, id="deep"),
    ],
)
def test_what_is_no_entry_is_refused(leaf: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        decode(leaf)


def test_a_commitment_is_opened_by_its_salt_and_value_alone() -> None:
    salt = bytes(range(16))
    assert commit(salt, b"value") == commit(salt, b"value")
    assert len({commit(salt, b"value"), commit(salt, b"valuf"), commit(bytes(16), b"value")}) == 3
    with pytest.raises(ValueError, match="16 bytes"):
        commit(b"short", b"value")
