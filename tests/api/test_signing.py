"""Signatures and tickets: what is ours passes, and nothing that was changed, mixed up, or is too old does."""

from __future__ import annotations

import base64
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from kasbah.api.signing import (
    DESIRED,
    TICKET,
    Ticket,
    load_or_make_key,
    parse_public,
    public_text,
    read_ticket,
    sign,
    verify,
    write_ticket,
)
from kasbah.domain.ids import SiteId
from kasbah.errors import Denied

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
LEAVE = Ticket(
    act="blob.put", object="sha256:aa", site=SiteId("st-1"), expires_at=NOW + timedelta(minutes=1), limit=100
)


def test_a_key_is_made_once_and_is_for_this_user_s_eyes(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "key.pem"
    made = load_or_make_key(path)
    assert public_text(load_or_make_key(path)) == public_text(made)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_public_key_travels_as_text() -> None:
    assert public_text(KEY).startswith("ed25519:")
    assert verify(parse_public(public_text(KEY) + "\n"), DESIRED, b"body", sign(KEY, DESIRED, b"body"))


@pytest.mark.parametrize("text", ["", "ed25519", "rsa:AAAA", "ed25519:not base64", "ed25519:AAAA"])
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_public(text)


@given(st.binary(), st.binary())
def test_a_signature_is_of_these_bytes_in_this_context_by_this_key(body: bytes, other: bytes) -> None:
    signature = sign(KEY, DESIRED, body)
    assert verify(KEY.public_key(), DESIRED, body, signature)
    assert verify(KEY.public_key(), DESIRED, other, signature) == (body == other)
    assert not verify(KEY.public_key(), TICKET, body, signature)
    assert not verify(OTHER.public_key(), DESIRED, body, signature)


@given(st.text(max_size=100))
def test_no_text_is_a_signature_by_accident(text: str) -> None:
    assert not verify(KEY.public_key(), DESIRED, b"body", text)


def test_a_ticket_is_read_as_it_was_written() -> None:
    assert read_ticket(KEY.public_key(), write_ticket(KEY, LEAVE), now=NOW) == LEAVE


def test_a_ticket_dies_on_its_second() -> None:
    text = write_ticket(KEY, LEAVE)
    assert read_ticket(KEY.public_key(), text, now=LEAVE.expires_at - timedelta(seconds=1))
    with pytest.raises(Denied, match="expired") as caught:
        read_ticket(KEY.public_key(), text, now=LEAVE.expires_at)
    assert caught.value.code == "ticket_expired"


def test_another_s_ticket_is_refused() -> None:
    with pytest.raises(Denied, match="not valid"):
        read_ticket(KEY.public_key(), write_ticket(OTHER, LEAVE), now=NOW)


def test_the_parts_of_two_tickets_make_none() -> None:
    payload = write_ticket(KEY, replace(LEAVE, limit=10**12)).partition(".")[0]
    signature = write_ticket(KEY, LEAVE).partition(".")[2]
    with pytest.raises(Denied):
        read_ticket(KEY.public_key(), f"{payload}.{signature}", now=NOW)


def test_a_desired_state_s_signature_makes_no_ticket() -> None:
    payload = base64.urlsafe_b64decode(write_ticket(KEY, LEAVE).partition(".")[0] + "==")
    signature = sign(KEY, DESIRED, payload).replace("+", "-").replace("/", "_").rstrip("=")
    with pytest.raises(Denied):
        read_ticket(KEY.public_key(), f"{write_ticket(KEY, LEAVE).partition('.')[0]}.{signature}", now=NOW)


@given(st.text(max_size=80) | st.integers(0, 200).map(lambda cut: write_ticket(KEY, LEAVE)[:cut]))
def test_garbage_is_denied_and_never_anything_else(text: str) -> None:
    with pytest.raises(Denied):
        read_ticket(KEY.public_key(), text, now=NOW)


@given(st.integers(0, 10_000), st.sampled_from("AZaz09-_"))
def test_a_ticket_changed_in_one_letter_is_denied(place: int, letter: str) -> None:
    text = write_ticket(KEY, LEAVE)
    place %= len(text) - 1  # the last letter carries bits that no byte has
    changed = text[:place] + letter + text[place + 1 :]
    if changed == text or text[place] == "." or place == text.index(".") - 1:
        return
    with pytest.raises(Denied):
        read_ticket(KEY.public_key(), changed, now=NOW)
