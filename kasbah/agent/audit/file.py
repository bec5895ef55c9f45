"""Entries in a file that only grows, each synced before it is acknowledged, and the tree above them.

    entries   a line of JSON each
    hashes    for each entry its leaf's hash and where it ends: 40 bytes, so that a start need not read every entry

The second follows from the first and is made again where it falls short. A process that is killed leaves at most one
entry half written, at the end: it was never acknowledged, and is cut.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from kasbah.decide.merkle import HASH_BYTES, leaf_hash
from kasbah.decide.tiles import FULL, WIDTH, grow, top_of
from kasbah.domain.audit import decode

RECORD = HASH_BYTES + 8
CHUNK = 2**20


class EntryFile:
    """The file in `folder`, for one thread at a time. `torn` counts the bytes that were cut when it was opened."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._entries = os.open(folder / "entries", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._hashes = os.open(folder / "hashes", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.size = 0
        self.torn = 0
        self._end = 0
        self._upper: dict[tuple[int, int], bytes] = {}
        self._recover()

    def append(self, *leaves: bytes) -> None:
        """Add entries. They are on the disk when this returns, synced once for all; none is where it raises OSError."""
        try:
            _write(self._entries, b"".join(leaf + b"\n" for leaf in leaves), self._end)
            os.fdatasync(self._entries)
        except OSError:
            os.ftruncate(self._entries, self._end)
            raise
        for leaf in leaves:
            self._note(leaf, self._end + len(leaf) + 1)

    def tile(self, level: int, number: int) -> bytes:
        """The hashes of a tile of the tree: all that there are."""
        if level > 0:
            return self._upper.get((level, number), b"")
        some = min(WIDTH, self.size - number * WIDTH)
        records = os.pread(self._hashes, some * RECORD, number * WIDTH * RECORD)
        return b"".join(records[at : at + HASH_BYTES] for at in range(0, len(records), RECORD))

    def leaves(self) -> Iterator[bytes]:
        """The entries."""
        return (self._leaf(number) for number in range(self.size))

    def newest(self, most: int) -> Iterator[bytes]:
        """The last entries, the newest first."""
        return (self._leaf(number) for number in range(self.size - 1, max(self.size - 1 - most, -1), -1))

    def _leaf(self, number: int) -> bytes:
        start = self._end_of(number - 1)
        return os.pread(self._entries, self._end_of(number) - start - 1, start)

    def close(self) -> None:
        """Close the files."""
        os.close(self._entries)
        os.close(self._hashes)

    def _recover(self) -> None:
        length = os.fstat(self._entries).st_size
        count = os.fstat(self._hashes).st_size // RECORD
        while count and not self._agrees(count - 1, length):
            count -= 1
        os.ftruncate(self._hashes, count * RECORD)
        self.size, self._end = count, self._end_of(count - 1)
        self._grow_upper()
        for leaf in list(self._lines(self._end)):
            if not _is_entry(leaf, self.size):
                break
            self._note(leaf, self._end + len(leaf) + 1)
        self.torn = length - self._end
        if self.torn:
            os.ftruncate(self._entries, self._end)
            os.fsync(self._entries)

    def _agrees(self, number: int, length: int) -> bool:
        """Whether an entry is where its record says."""
        start, end = self._end_of(number - 1), self._end_of(number)
        if not 0 <= start < end <= length:
            return False
        leaf = os.pread(self._entries, end - start, start)
        record = os.pread(self._hashes, HASH_BYTES, number * RECORD)
        return leaf.endswith(b"\n") and leaf_hash(leaf[:-1]) == record

    def _lines(self, place: int) -> Iterator[bytes]:
        """The whole lines from a place on."""
        rest = b""
        while piece := os.pread(self._entries, CHUNK, place):
            place += len(piece)
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines

    def _note(self, leaf: bytes, end: int) -> None:
        found = leaf_hash(leaf)
        tiles = grow(self.size, self.tile, [found])
        self._upper |= {place: tile for place, tile in tiles.items() if place[0] > 0}
        _write(self._hashes, found + end.to_bytes(8, "big"), self.size * RECORD)
        self.size, self._end = self.size + 1, end

    def _grow_upper(self) -> None:
        """The tiles above the first level, from the full tiles of that."""
        tops = [top_of(tile) for number in range(self.size // WIDTH) if len(tile := self.tile(0, number)) == FULL]
        self._upper = {(level + 1, number): tile for (level, number), tile in grow(0, lambda *_: b"", tops).items()}

    def _end_of(self, number: int) -> int:
        if number < 0:
            return 0
        return int.from_bytes(os.pread(self._hashes, 8, number * RECORD + HASH_BYTES), "big")


def _is_entry(leaf: bytes, sequence: int) -> bool:
    try:
        return decode(leaf).sequence == sequence
    except ValueError:
        return False


def _write(descriptor: int, data: bytes, place: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, place)
        data, place = data[written:], place + written
