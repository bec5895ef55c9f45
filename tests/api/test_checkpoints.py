"""Checkpoints are C2SP's signed notes, and believed only under the key of their log."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kasbah.api.checkpoints import (
    Checkpoint,
    Note,
    cosign,
    cosigned_at,
    is_signed,
    origin_of,
    read_note,
    sign_checkpoint,
    unknown_lines,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY, WITNESS, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2, 3))
CHECKPOINT = Checkpoint(origin=origin_of("in-1", "control", 1), size=5, root=hashlib.sha256(b"root").digest())
SIGNED = sign_checkpoint(KEY, CHECKPOINT)
COSIGNED = Note(checkpoint=CHECKPOINT, lines=(*SIGNED.lines, cosign(WITNESS, "site/st-1", CHECKPOINT, NOW)))


def test_a_checkpoint_is_written_as_c2sp_writes_them() -> None:
    body, _, lines = SIGNED.text.partition("\n\n")
    root = base64.b64encode(CHECKPOINT.root).decode()
    assert body == f"kasbah/in-1/control/1\n5\n{root}"
    dash, name, signature = lines.rstrip("\n").split(" ")
    raw = base64.b64decode(signature)
    assert (dash, name) == ("—", "kasbah/in-1/control/1")
    public = KEY.public_key().public_bytes_raw()
    assert raw[:4] == hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]
    KEY.public_key().verify(raw[4:], (body + "\n").encode())


def test_a_cosignature_is_a_witness_s_word_with_its_time() -> None:
    line = COSIGNED.lines[1]
    public = WITNESS.public_key().public_bytes_raw()
    assert line.mark == hashlib.sha256(b"site/st-1\n\x04" + public).digest()[:4]
    seconds = int(NOW.timestamp())
    assert int.from_bytes(line.signature[:8], "big") == seconds
    WITNESS.public_key().verify(line.signature[8:], f"cosignature/v1\ntime {seconds}\n".encode() + CHECKPOINT.text)
    assert cosigned_at(COSIGNED, "site/st-1", WITNESS.public_key()) == NOW


def test_it_is_believed_under_the_keys_that_made_it_alone() -> None:
    assert is_signed(SIGNED, KEY.public_key())
    assert not is_signed(SIGNED, OTHER.public_key())
    assert cosigned_at(SIGNED, "site/st-1", WITNESS.public_key()) is None
    assert cosigned_at(COSIGNED, "site/st-1", OTHER.public_key()) is None
    assert cosigned_at(COSIGNED, "site/st-2", WITNESS.public_key()) is None
    assert unknown_lines(COSIGNED, KEY.public_key(), {"site/st-1": WITNESS.public_key()}) == ()
    assert unknown_lines(COSIGNED, KEY.public_key(), {}) == COSIGNED.lines[1:]


def test_it_comes_back_from_its_text() -> None:
    assert read_note(COSIGNED.text) == COSIGNED


@pytest.mark.parametrize("place", range(len(COSIGNED.text)))
def test_no_character_of_it_can_change(place: int) -> None:
    text = COSIGNED.text
    for other in (chr(ord(text[place]) ^ 1), "A" if text[place] != "A" else "B", ""):
        bent = text[:place] + other + text[place + 1 :]
        try:
            note = read_note(bent)
        except ValueError:
            continue
        whole = is_signed(note, KEY.public_key()) and cosigned_at(note, "site/st-1", WITNESS.public_key()) == NOW
        assert not whole or unknown_lines(note, KEY.public_key(), {"site/st-1": WITNESS.public_key()})


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("a\n1\nAAAA\n\n— a AAAAAAA=\n", id="short-root"),
        pytest.param(SIGNED.text.replace("\n5\n", "\n05\n"), id="other-number"),
        pytest.param(SIGNED.text.replace("\n5\n", "\n99999999999999999\n"), id="vast"),
        pytest.param(SIGNED.text.partition("\n\n")[0] + "\n\n", id="unsigned"),
        pytest.param(SIGNED.text + "\n" * 20_000, id="long"),
        pytest.param(SIGNED.text + SIGNED.lines[0].text + "\n" + "x\n", id="no-signature"),
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read_note(text)
