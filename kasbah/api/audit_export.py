"""An audit log in one file, which anybody can verify with nothing but the log's public key.

    README.md                       how to read it
    key                             the log's public key
    checkpoint                      how large the log was, under which root; signed
    cosigned                        the newest checkpoint that witnesses have cosigned; empty where none has
    witnesses                       NAME KEY, a line each
    tile/entries/000 ...            the entries, 256 in a bundle, each after its length
    tile/0/000, tile/1/000 ...      the tree's hashes

The layout below is C2SP's tlog-tiles, in a tar that has one spelling. A byte that is changed anywhere is found, and
where it is: in which entry, tile or checkpoint.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from kasbah.api.archive import Damaged, Reader, pack
from kasbah.api.checkpoints import Checkpoint, Note, cosigned_at, is_signed, read_note, unknown_lines
from kasbah.api.signing import parse_public
from kasbah.decide.merkle import HASH_BYTES, leaf_hash, root_of
from kasbah.decide.tiles import WIDTH, bundle, grow, nodes_in, shape, tile_path, unbundle
from kasbah.domain.audit import decode

README = """# An audit log of Kasbah

`key` is the log's public key. `checkpoint` says how many entries the log had and under which root, and is signed by
that key. Entries are JSON, one spelling each; they lie in `tile/entries`, 256 in a file, each after its length in two
bytes. Their hashes are the tree of RFC 6962 in `tile/0` and up, as C2SP tlog-tiles lays it out. `cosigned` is the
newest checkpoint that others have cosigned, with the keys in `witnesses`.

Verify it, offline, with the public key that you were given before:

    kasbah audit verify FILE --key ed25519:...
"""

MOST_FINDINGS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What an export begins with, as text."""

    key: str
    checkpoint: str
    cosigned: str = ""
    witnesses: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was signed: where, and what."""

    where: str
    problem: str


@dataclass(slots=True)
class Verified:
    """What a verification found; sound where there is no finding. `cosigned` counts what witnesses vouch for."""

    origin: str = ""
    size: int = 0
    cosigned_size: int = 0
    cosigned_by: tuple[str, ...] = ()
    findings: list[Finding] = field(default_factory=list)

    def note(self, where: str, problem: str) -> None:
        """Add a finding, while there are not too many."""
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(where, problem))


def write_export(head: Head, leaves: Iterable[bytes]) -> Iterator[bytes]:
    """The file, piece by piece. `leaves` are the entries that the checkpoint counts."""
    return pack(_files(head, leaves))


def _files(head: Head, leaves: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    yield from _head_files(head)
    size = read_note(head.checkpoint).checkpoint.size
    several, hashes = iter(leaves), list[bytes]()
    for number in range(-(-size // WIDTH)):
        some = list(itertools.islice(several, min(WIDTH, size - number * WIDTH)))
        hashes += [leaf_hash(one) for one in some]
        yield tile_path("entries", number, len(some)), bundle(some)
    tiles = grow(0, lambda *_: b"", hashes)
    for level, number, width in shape(size):
        yield tile_path(level, number, width), tiles[level, number]


def _head_files(head: Head) -> Iterator[tuple[str, bytes]]:
    yield "README.md", README.encode()
    yield "key", f"{head.key}\n".encode()
    yield "checkpoint", head.checkpoint.encode()
    yield "cosigned", head.cosigned.encode()
    yield "witnesses", "".join(f"{name} {key}\n" for name, key in sorted(head.witnesses.items())).encode()


def verify_export(file: IO[bytes], key: Ed25519PublicKey, key_text: str) -> Verified:
    """Read a whole export, and say what in it is not as the owner of this key signed it."""
    found = Verified()
    try:
        _verify(Reader(file), key, key_text, found)
    except Damaged as damage:
        found.note(damage.where, damage.problem)
    return found


def _verify(reader: Reader, key: Ed25519PublicKey, key_text: str, found: Verified) -> None:
    if (there := reader.take("README.md")) != README.encode():
        found.note(
            "README.md", f"it is not the page of this format, from byte {_first_difference(there, README.encode())} on"
        )
    if reader.take("key") != f"{key_text}\n".encode():
        found.note("key", "the export names another key than the one you gave")
    note = _checkpoint("checkpoint", reader.take("checkpoint"), key)
    checkpoint = note.checkpoint
    found.origin, found.size = checkpoint.origin, checkpoint.size
    if unknown_lines(note, key, {}):
        found.note("checkpoint", "it has a signature of somebody unknown")
    cosigned, witnesses = reader.take("cosigned"), _witnesses(reader.take("witnesses"), found)
    entries = _Entries(checkpoint)
    for number in range(-(-checkpoint.size // WIDTH)):
        entries.take(number, reader, found)
    _compare_tiles(reader, entries, found)
    if cosigned:
        _cosigned(_checkpoint("cosigned", cosigned, key), key, witnesses, entries, found)
    elif witnesses:
        found.note("witnesses", "nobody has cosigned, and yet there are witnesses")
    reader.end()


class _Entries:
    """The entries' hashes as they are read, and the tree above them."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.hashes: list[bytes] = []
        self.unread: dict[int, str] = {}

    def take(self, number: int, reader: Reader, found: Verified) -> None:
        """Read the next bundle. Where one entry's length is wrong, those behind it are not told apart."""
        first = number * WIDTH
        width = min(WIDTH, self.checkpoint.size - first)
        path = tile_path("entries", number, width)
        leaves, whole = _leaves(reader.take(path))
        broken, wrong = not whole or len(leaves) != width, False
        for place in range(width):
            leaf = leaves[place] if place < len(leaves) else b""
            self.hashes.append(leaf_hash(leaf))
            problem = "" if broken and wrong else _problem(leaf, first + place)
            if problem:
                wrong, self.unread[first + place] = True, problem
        if broken and not wrong:
            found.note(path, f"it does not end after its {width} entries")

    def root(self, size: int) -> bytes:
        """The root over the first entries."""
        tiles = grow(0, lambda *_: b"", self.hashes[:size])
        return root_of(size, nodes_in(lambda level, number: tiles[level, number]))


def _leaves(data: bytes) -> tuple[tuple[bytes, ...], bool]:
    """The entries of a bundle, and whether it is whole; where it is cut, those before."""
    try:
        return unbundle(data), True
    except ValueError:
        found, place = [], 0
        while (end := place + 2 + int.from_bytes(data[place : place + 2], "big")) <= len(data) > place + 1:
            found.append(data[place + 2 : end])
            place = end
        return tuple(found), False


def _problem(leaf: bytes, sequence: int) -> str:
    """Why this is not the entry with that number; empty where it may be."""
    try:
        return "" if decode(leaf).sequence == sequence else "it is the entry of another place"
    except ValueError as error:
        return str(error)


def _compare_tiles(reader: Reader, entries: _Entries, found: Verified) -> None:
    """Hold the tiles against the entries, and both against the signed root, which says who of them is wrong."""
    size = entries.checkpoint.size
    tiles = grow(0, lambda *_: b"", entries.hashes)
    sound = entries.root(size) == entries.checkpoint.root
    accused: set[int] = set()
    for level, number, width in shape(size):
        path = tile_path(level, number, width)
        there, made = reader.take(path), tiles[level, number]
        if there == made:
            continue
        place = _first_difference(there, made) // HASH_BYTES + number * WIDTH
        if sound or len(there) != len(made):
            found.note(path, f"hash {place % WIDTH} is not that of what is below it")
        elif level == 0:
            accused.add(place)
            found.note(_bundle_of(place, size), f"entry {place} is not the one that was signed")
    for sequence, problem in entries.unread.items():
        if sequence not in accused:
            found.note(_bundle_of(sequence, size), f"entry {sequence}: {problem}")
    if not sound and not accused:
        found.note("checkpoint", "its root is not that of the entries: the log was written anew, or is another's")


def _bundle_of(sequence: int, size: int) -> str:
    number = sequence // WIDTH
    return tile_path("entries", number, min(WIDTH, size - number * WIDTH))


def _checkpoint(where: str, data: bytes, key: Ed25519PublicKey) -> Note:
    try:
        note = read_note(data.decode())
    except ValueError as error:
        raise Damaged(where, f"it is no checkpoint: {error}") from None
    if not is_signed(note, key):
        raise Damaged(where, "it is not signed by the key you gave")
    return note


def _witnesses(data: bytes, found: Verified) -> dict[str, Ed25519PublicKey]:
    witnesses = {}
    try:
        lines = [line.split(" ") for line in data.decode().splitlines()]
        witnesses = {name: parse_public(text) for name, text in lines}
        canonical = "".join(f"{name} {text}\n" for name, text in sorted(lines))
    except ValueError:
        canonical = ""
    if canonical.encode() != data or (data and not witnesses):
        found.note("witnesses", "it does not list names and keys")
    return witnesses


def _cosigned(
    note: Note, key: Ed25519PublicKey, witnesses: dict[str, Ed25519PublicKey], entries: _Entries, found: Verified
) -> None:
    """Hold what was cosigned against the entries. A life of the log that was cut may have been longer."""
    who = tuple(name for name, one in witnesses.items() if cosigned_at(note, name, one) is not None)
    if missing := [name for name in witnesses if name not in who]:
        found.note("cosigned", f"the word of {', '.join(missing)} is not there, or was not given for this")
    if unknown_lines(note, key, witnesses):
        found.note("cosigned", "it has a signature of somebody unknown")
    size = note.checkpoint.size
    found.cosigned_size, found.cosigned_by = size, who
    if size <= entries.checkpoint.size:
        if not found.findings and entries.root(size) != note.checkpoint.root:
            found.note("cosigned", f"the first {size} entries are not those that were cosigned")
    elif note.checkpoint.origin == entries.checkpoint.origin:
        found.note("cosigned", f"{size} entries were cosigned, and the log has {entries.checkpoint.size}")


def _first_difference(one: bytes, other: bytes) -> int:
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
