"""More targets, for `targets.py`: what is read of audit logs."""

from __future__ import annotations

import io
from contextlib import suppress
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError
from registry import any_text, target, temporary

from kasbah.agent.audit.file import EntryFile
from kasbah.api.agent import AUDIT_ANSWER, AUDIT_WORD
from kasbah.api.audit_export import Head, verify_export, write_export
from kasbah.api.checkpoints import Checkpoint, read_note, sign_checkpoint
from kasbah.api.signing import public_text
from kasbah.decide.merkle import leaf_hash
from kasbah.domain.audit import Entry, decode, encode

KEY = Ed25519PrivateKey.from_private_bytes(b"a" * 32)
LEAF = encode(Entry(sequence=0, at=datetime(2026, 3, 1, tzinfo=UTC), actor="kasbah", act="begin", object="it"))
NOTE = sign_checkpoint(KEY, Checkpoint(origin="kasbah/in-1/control/1", size=1, root=leaf_hash(LEAF))).text
EXPORT = b"".join(write_export(Head(key=public_text(KEY), checkpoint=NOTE), [LEAF]))


@target(LEAF, LEAF.replace(b'"begin"', b"[]"), b"[" * 5_000, b'{"v":1,"sequence":1e999}')
def audit_entry(data: bytes) -> None:
    with suppress(ValueError):
        entry = decode(data)
        assert encode(entry) == data
        assert all(isinstance(one, str) for one in (entry.actor, entry.act, entry.object, entry.reason))


@target(NOTE.encode(), NOTE.encode() * 2, "— a —".encode())
def checkpoint(data: bytes) -> None:
    with suppress(ValueError):
        assert read_note(any_text(data)).text == any_text(data)


@target(EXPORT, EXPORT[:700])
def audit_export(data: bytes) -> None:
    found = verify_export(io.BytesIO(data), KEY.public_key(), public_text(KEY))
    assert found.findings or data == EXPORT


@target(b'{"public_key":"x","checkpoint":"y","told":0,"proof":[],"seen":0,"cosigned":""}', b"[" * 500)
def audit_words(data: bytes) -> None:
    for shape in (AUDIT_WORD, AUDIT_ANSWER):
        with suppress(ValidationError):
            shape.validate_json(data)


@target(LEAF + b"\n" + b"\0" + b"h" * 40, LEAF + b"\n" + LEAF + b"\n", LEAF[:9], b"\n\n")
def entry_file(data: bytes) -> None:
    entries, _, hashes = data.partition(b"\0")
    with temporary() as folder:
        (folder / "entries").write_bytes(entries)
        (folder / "hashes").write_bytes(hashes)
        file = EntryFile(folder)
        assert list(file.leaves()) in ([], [LEAF])
        file.close()
