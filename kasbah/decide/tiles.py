"""How a Merkle tree is kept: in tiles of 256 hashes, as C2SP tlog-tiles lays them out.

Tile (level, index) holds the hashes of the complete subtrees of 256^level leaves from number 256 * index on. Only the
last tile of a level grows; a full one never changes. So an append writes one tile a level, and a proof reads a few.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kasbah.decide.merkle import HASH_BYTES, Nodes, node_hash

HEIGHT = 8
WIDTH = 1 << HEIGHT
FULL = WIDTH * HASH_BYTES
"""A full tile's bytes."""

Tile = Callable[[int, int], bytes]
"""The hashes of the tile (level, index), one after another: all that there are."""


def grow(size: int, tile: Tile, leaves: Sequence[bytes]) -> dict[tuple[int, int], bytes]:
    """The tiles that change when leaves with these hashes are appended to a tree of `size` leaves."""
    changed: dict[tuple[int, int], bytes] = {}
    level, there, fresh = 0, size, list(leaves)
    while fresh:
        first = there // WIDTH
        hashes = (tile(level, first) if there % WIDTH else b"") + b"".join(fresh)
        fresh = []
        for number, start in enumerate(range(0, len(hashes), FULL)):
            piece = hashes[start : start + FULL]
            changed[level, first + number] = piece
            if len(piece) == FULL:
                fresh.append(top_of(piece))
        level, there = level + 1, first
    return changed


def nodes_in(tile: Tile) -> Nodes:
    """The nodes of the tree that is kept in these tiles."""

    def node(level: int, index: int) -> bytes:
        height, within = divmod(level, HEIGHT)
        first, count = index << within, 1 << within
        start = first % WIDTH * HASH_BYTES
        found = tile(height, first // WIDTH)[start : start + count * HASH_BYTES]
        if len(found) != count * HASH_BYTES:
            raise LookupError(f"tile {height}/{first // WIDTH} lacks hashes from {first % WIDTH} on")
        return top_of(found)

    return node


def top_of(hashes: bytes) -> bytes:
    """The hash above a power of two of hashes."""
    row = [hashes[start : start + HASH_BYTES] for start in range(0, len(hashes), HASH_BYTES)]
    while len(row) > 1:
        row = [node_hash(row[one], row[one + 1]) for one in range(0, len(row), 2)]
    return row[0]


def shape(size: int) -> tuple[tuple[int, int, int], ...]:
    """Every tile of a tree of `size` leaves: its level, its index, and how many hashes it has."""
    found: list[tuple[int, int, int]] = []
    level, there = 0, size
    while there:
        full, rest = divmod(there, WIDTH)
        found += [(level, index, WIDTH) for index in range(full)]
        found += [(level, full, rest)] if rest else []
        level, there = level + 1, full
    return tuple(found)


def tile_path(level: int | str, index: int, width: int = WIDTH) -> str:
    """Where a tile lies; with `entries` for the level, where the bundle of its entries does.

    >>> tile_path(0, 1234067), tile_path("entries", 5, 3)
    ('tile/0/x001/x234/067', 'tile/entries/005.p/3')
    """
    digits = f"{index % 1_000:03}"
    while index >= 1_000:
        index //= 1_000
        digits = f"x{index % 1_000:03}/{digits}"
    return f"tile/{level}/{digits}" + (f".p/{width}" if width < WIDTH else "")


def bundle(leaves: Sequence[bytes]) -> bytes:
    """At most 256 leaves in one file, each after its length in two bytes."""
    return b"".join(len(one).to_bytes(2, "big") + one for one in leaves)


def unbundle(data: bytes) -> tuple[bytes, ...]:
    """The leaves of a bundle. Raises ValueError where it is cut."""
    found: list[bytes] = []
    place = 0
    while place < len(data):
        end = place + 2 + int.from_bytes(data[place : place + 2], "big")
        if end > len(data) or place + 2 > len(data):
            raise ValueError(f"it is cut in the entry after its first {len(found)}")
        found.append(data[place + 2 : end])
        place = end
    return tuple(found)
