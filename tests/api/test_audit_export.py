"""An export is verified with the public key alone, and no byte of it can change without being found where it is."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kasbah.api.audit_export import Head, Verified, verify_export, write_export
from kasbah.api.checkpoints import Checkpoint, Note, cosign, origin_of, sign_checkpoint
from kasbah.api.signing import public_text
from kasbah.decide.merkle import leaf_hash, root_of
from kasbah.decide.tiles import grow, nodes_in
from kasbah.domain.audit import Entry, encode

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY, WITNESS, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2, 3))
ORIGIN = origin_of("in-1", "control", 1)


def leaves_of(count: int) -> list[bytes]:
    return [
        encode(Entry(sequence=number, at=NOW, actor="zahra", act="scale", object=f"services/{number}"))
        for number in range(count)
    ]


def checkpoint(leaves: Sequence[bytes], origin: str = ORIGIN) -> Checkpoint:
    tiles = grow(0, lambda *_: b"", [leaf_hash(one) for one in leaves])
    root = root_of(len(leaves), nodes_in(lambda level, number: tiles[level, number]))
    return Checkpoint(origin=origin, size=len(leaves), root=root)


def cosigned(signed: Checkpoint) -> Note:
    lines = (*sign_checkpoint(KEY, signed).lines, cosign(WITNESS, "site/st-1", signed, NOW))
    return Note(checkpoint=signed, lines=lines)


def export(leaves: Sequence[bytes], vouched: int = 0, signed: Checkpoint | None = None) -> bytes:
    head = Head(
        key=public_text(KEY),
        checkpoint=sign_checkpoint(KEY, signed or checkpoint(leaves)).text,
        cosigned=cosigned(checkpoint(leaves[:vouched])).text if vouched else "",
        witnesses={"site/st-1": public_text(WITNESS)} if vouched else {},
    )
    return b"".join(write_export(head, leaves))


def verify(data: bytes, key: Ed25519PrivateKey = KEY) -> Verified:
    return verify_export(io.BytesIO(data), key.public_key(), public_text(key))


@pytest.mark.parametrize("count", [1, 2, 5, 256, 257, 600])
def test_an_export_is_sound_and_says_how_far_others_vouch_for_it(count: int) -> None:
    found = verify(export(leaves_of(count), vouched=max(count - 1, 1)))
    assert found.findings == []
    assert (found.origin, found.size) == (ORIGIN, count)
    assert (found.cosigned_size, found.cosigned_by) == (max(count - 1, 1), ("site/st-1",))


def test_any_tar_program_reads_it() -> None:
    with tarfile.open(fileobj=io.BytesIO(export(leaves_of(3)))) as tar:
        assert "tile/entries/000.p/3" in tar.getnames()
        member = tar.extractfile("checkpoint")
        assert member is not None
        assert member.read().startswith(ORIGIN.encode())


def test_another_s_key_does_not_verify_it() -> None:
    where = {one.where for one in verify(export(leaves_of(3)), OTHER).findings}
    assert where == {"key", "checkpoint"}


SMALL = export(leaves_of(5), vouched=3)
LARGE = export(leaves_of(600), vouched=300)


def regions(data: bytes) -> Iterator[tuple[str, int, int]]:
    """Every part of an archive: a file's header, its bytes, what pads it, and the end."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar.getmembers():
            end = member.offset_data + member.size
            yield f"header of {member.name}", member.offset, member.offset_data
            yield member.name, member.offset_data, end
            yield f"behind {member.name}", end, end + -end % 512
        yield "end", end + -end % 512, len(data)


def part_of(data: bytes, place: int) -> str:
    return next(name for name, start, end in regions(data) if start <= place < end)


def test_every_byte_of_a_small_export_is_watched_and_found_where_it_is() -> None:
    parts = {place: name for name, start, end in regions(SMALL) for place in range(start, end)}
    assert len(parts) == len(SMALL)
    for place, part in parts.items():
        bent = bytearray(SMALL)
        bent[place] ^= 1 << place % 8
        findings = verify(bytes(bent)).findings
        assert findings, f"byte {place}, in {part}"
        name = part.removeprefix("header of ").removeprefix("behind ")
        told = " ".join(f"{one.where}: {one.problem}" for one in findings)
        expected = ("byte",) if name == "end" else ("witnesses", "cosigned") if name == "witnesses" else (name,)
        assert any(one in told for one in expected), f"byte {place}, in {part}: {told}"


def test_the_entry_that_was_changed_is_named() -> None:
    leaves = leaves_of(600)
    start = LARGE.index(leaves[300])
    for place in (start, start + 10, start + len(leaves[300]) - 1, start - 1):
        bent = bytearray(LARGE)
        bent[place] ^= 1
        (finding,) = verify(bytes(bent)).findings
        assert finding.where == "tile/entries/001"
        assert "entry 300" in finding.problem, finding


def test_the_hash_that_was_changed_is_named() -> None:
    with tarfile.open(fileobj=io.BytesIO(LARGE)) as tar:
        places = {one.name: one.offset_data for one in tar.getmembers() if one.name.startswith("tile/")}
    for tile, number in (("tile/0/001", 44), ("tile/0/002.p/88", 87), ("tile/1/000.p/2", 1)):
        bent = bytearray(LARGE)
        bent[places[tile] + 32 * number + 5] ^= 1
        (finding,) = verify(bytes(bent)).findings
        assert (finding.where, finding.problem) == (tile, f"hash {number} is not that of what is below it")


@pytest.mark.parametrize("seed", range(3))
def test_a_sample_of_every_part_of_a_larger_export_is_watched(seed: int) -> None:
    chance = Random(seed)
    for name, start, end in regions(LARGE):
        for place in {start, end - 1, *(chance.randrange(start, end) for _ in range(4))} if end > start else ():
            bent = bytearray(LARGE)
            bent[place] ^= 1 << chance.randrange(8)
            assert verify(bytes(bent)).findings, f"byte {place}, in {name}"


def test_a_history_that_was_written_anew_is_found() -> None:
    leaves = leaves_of(10)
    (other,) = [encode(Entry(sequence=4, at=NOW, actor="nobody", act="scale", object="services/4"))]
    rewritten = export([*leaves[:4], other, *leaves[5:]], signed=checkpoint(leaves))
    (finding,) = verify(rewritten).findings
    assert finding.where == "checkpoint"
    assert "written anew" in finding.problem


def test_growth_that_denies_what_was_cosigned_is_found() -> None:
    leaves = leaves_of(10)
    (other,) = [encode(Entry(sequence=2, at=NOW, actor="nobody", act="scale", object="services/2"))]
    head = Head(
        key=public_text(KEY),
        checkpoint=sign_checkpoint(KEY, checkpoint([*leaves[:2], other, *leaves[3:]])).text,
        cosigned=cosigned(checkpoint(leaves[:5])).text,
        witnesses={"site/st-1": public_text(WITNESS)},
    )
    data = b"".join(write_export(head, [*leaves[:2], other, *leaves[3:]]))
    (finding,) = verify(data).findings
    assert finding.where == "cosigned"
    assert "not those that were cosigned" in finding.problem


@pytest.mark.parametrize("kept", [0, 1, 511, 600, 5_000, len(SMALL) - 1])
def test_an_export_that_is_cut_is_found(kept: int) -> None:
    assert verify(SMALL[:kept]).findings


def test_what_is_appended_is_found() -> None:
    (finding,) = verify(SMALL + b"\0").findings
    assert "end" in finding.problem
