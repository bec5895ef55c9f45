"""Checkpoints: what a log was at a moment, signed, and cosigned by those who saw that it only grew.

They are C2SP's: a tlog-checkpoint (origin, size, root) in a signed note, with an Ed25519 signature of the log's own
and cosignatures of witnesses (`cosignature/v1`, with the time). Tools that others wrote read them. Each line below it
names its key by a name and the first bytes of the key's digest; only what verifies under a key that one has counts.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from kasbah.decide.merkle import HASH_BYTES

LOG_KEY, WITNESS_KEY = b"\1", b"\4"
"""The kinds of keys, as C2SP numbers them: plain Ed25519, and Ed25519 for cosignatures."""
DASH = "\u2014"
SIZE = re.compile(r"0|[1-9][0-9]{0,15}")
ORIGIN = re.compile(r"[\x21-\x2a\x2c-\x7e]{1,200}")
"""No space and no plus, as a name of a key may hold neither."""
LONGEST = 16_384
MOST_LINES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The log called `origin` had `size` entries, under this root."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> bytes:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One signature below a checkpoint: the key's name, its mark, and what was signed with it."""

    name: str
    mark: bytes
    signature: bytes

    @property
    def text(self) -> str:
        return f"{DASH} {self.name} {base64.b64encode(self.mark + self.signature).decode()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A checkpoint and the signatures below it."""

    checkpoint: Checkpoint
    lines: tuple[Line, ...]

    @property
    def text(self) -> str:
        """The note as it travels."""
        return self.checkpoint.text.decode() + "\n" + "".join(f"{line.text}\n" for line in self.lines)


def origin_of(installation: str, log: str, life: int) -> str:
    """What a log is called. A log that was cut goes on under its next life: what was signed before stays true."""
    return f"kasbah/{installation}/{log}/{life}"


def life_of(origin: str) -> int:
    """Which life of its log an origin names. Raises ValueError where it names none."""
    return int(origin.rpartition("/")[2])


def sign_checkpoint(key: Ed25519PrivateKey, checkpoint: Checkpoint) -> Note:
    """The checkpoint, signed by its log."""
    mark = _mark(checkpoint.origin, LOG_KEY, key.public_key())
    line = Line(name=checkpoint.origin, mark=mark, signature=key.sign(checkpoint.text))
    return Note(checkpoint=checkpoint, lines=(line,))


def cosign(key: Ed25519PrivateKey, name: str, checkpoint: Checkpoint, now: datetime) -> Line:
    """A witness's word, at this time, that the log only grew to this."""
    seconds = int(now.timestamp())
    signature = key.sign(_cosigned(checkpoint, seconds))
    return Line(
        name=name, mark=_mark(name, WITNESS_KEY, key.public_key()), signature=seconds.to_bytes(8, "big") + signature
    )


def is_signed(note: Note, key: Ed25519PublicKey) -> bool:
    """Whether the log whose key this is signed the checkpoint."""
    mark = _mark(note.checkpoint.origin, LOG_KEY, key)
    lines = [one for one in note.lines if (one.name, one.mark) == (note.checkpoint.origin, mark)]
    return bool(lines) and all(_verifies(key, one.signature, note.checkpoint.text) for one in lines)


def cosigned_at(note: Note, name: str, key: Ed25519PublicKey) -> datetime | None:
    """When the witness cosigned the checkpoint; None where no such word of his is there, or one is not his."""
    mark = _mark(name, WITNESS_KEY, key)
    times = []
    for line in note.lines:
        if (line.name, line.mark) != (name, mark):
            continue
        seconds = int.from_bytes(line.signature[:8], "big")
        if not _verifies(key, line.signature[8:], _cosigned(note.checkpoint, seconds)):
            return None
        times.append(seconds)
    return datetime.fromtimestamp(max(times), UTC) if times and max(times) < 2**35 else None


def unknown_lines(note: Note, log: Ed25519PublicKey, witnesses: Mapping[str, Ed25519PublicKey]) -> tuple[Line, ...]:
    """The lines below a checkpoint that none of these keys made."""
    known = {(note.checkpoint.origin, _mark(note.checkpoint.origin, LOG_KEY, log))}
    known |= {(name, _mark(name, WITNESS_KEY, key)) for name, key in witnesses.items()}
    return tuple(line for line in note.lines if (line.name, line.mark) not in known)


def read_note(text: str) -> Note:
    """The note in `text`. Raises ValueError where it is none, or is not written as we write it."""
    if len(text) > LONGEST:
        raise ValueError("it is too long for a checkpoint")
    body, parted, below = text.partition("\n\n")
    fields = body.split("\n")
    if not parted or len(fields) != 3 or not ORIGIN.fullmatch(fields[0]) or not SIZE.fullmatch(fields[1]):
        raise ValueError("it does not begin with an origin, a size and a root")
    root = _bytes(fields[2])
    if len(root) != HASH_BYTES:
        raise ValueError(f"a root has {HASH_BYTES} bytes")
    checkpoint = Checkpoint(origin=fields[0], size=int(fields[1]), root=root)
    lines = below.split("\n")
    if not 2 <= len(lines) <= MOST_LINES or lines[-1]:
        raise ValueError("it has no signature, or too many")
    note = Note(checkpoint=checkpoint, lines=tuple(_line(one) for one in lines[:-1]))
    if note.text != text:
        raise ValueError("it is not written as checkpoints are")
    return note


def _line(text: str) -> Line:
    dash, _, rest = text.partition(" ")
    name, _, encoded = rest.partition(" ")
    if dash != DASH or not ORIGIN.fullmatch(name):
        raise ValueError("a line below a checkpoint is no signature")
    raw = _bytes(encoded)
    if len(raw) <= 4:
        raise ValueError("a signature is too short")
    return Line(name=name, mark=raw[:4], signature=raw[4:])


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("it holds what is not base64") from error


def _mark(name: str, kind: bytes, key: Ed25519PublicKey) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + kind + key.public_bytes_raw()).digest()[:4]


def _cosigned(checkpoint: Checkpoint, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n".encode() + checkpoint.text


def _verifies(key: Ed25519PublicKey, signature: bytes, text: bytes) -> bool:
    try:
        key.verify(signature, text)
    except InvalidSignature:
        return False
    return True
