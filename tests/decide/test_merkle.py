"""The Merkle tree against known vectors, a tree written as the RFC words it, and every forgery tried."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kasbah.decide import tiles
from kasbah.decide.merkle import (
    EMPTY,
    is_consistent,
    is_included,
    leaf_hash,
    prove_consistency,
    prove_inclusion,
    root_of,
)

LEAVES = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
"""The trees of Certificate Transparency's own reference tests, of none to eight leaves."""


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


# --- RFC 6962, section 2.1, word for word ---


def split(count: int) -> int:
    found = 1
    while found * 2 < count:
        found *= 2
    return found


def mth(leaves: Sequence[bytes]) -> bytes:
    if not leaves:
        return digest(b"")
    if len(leaves) == 1:
        return digest(b"\x00" + leaves[0])
    k = split(len(leaves))
    return digest(b"\x01" + mth(leaves[:k]) + mth(leaves[k:]))


def path(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: Sequence[bytes], whole: bool) -> list[bytes]:
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


# --- ours, kept in tiles ---


class Kept:
    """A tree that is kept in tiles, and grows as a log does."""

    def __init__(self) -> None:
        self.size = 0
        self.tiles: dict[tuple[int, int], bytes] = {}
        self.nodes = tiles.nodes_in(lambda level, index: self.tiles[level, index])

    def append(self, leaves: Sequence[bytes]) -> None:
        hashes = [leaf_hash(one) for one in leaves]
        self.tiles |= tiles.grow(self.size, lambda level, index: self.tiles[level, index], hashes)
        self.size += len(leaves)


def leaves_of(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


def grown(count: int) -> Kept:
    tree = Kept()
    tree.append(leaves_of(count))
    return tree


@pytest.mark.parametrize("count", range(len(ROOTS)))
def test_roots_are_those_of_the_reference_vectors(count: int) -> None:
    tree = Kept()
    tree.append([bytes.fromhex(one) for one in LEAVES[:count]])
    assert root_of(count, tree.nodes).hex() == ROOTS[count]


@given(st.lists(st.integers(0, 300), max_size=8))
@settings(max_examples=60, deadline=None)
def test_however_it_grew_the_tree_is_that_of_its_leaves(bursts: list[int]) -> None:
    tree = Kept()
    every = leaves_of(sum(bursts))
    for burst in bursts:
        tree.append(every[tree.size : tree.size + burst])
    assert root_of(tree.size, tree.nodes) == mth(every)
    expected = {(level, index): width for level, index, width in tiles.shape(tree.size)}
    assert {place: len(found) // 32 for place, found in tree.tiles.items()} == expected


@given(st.integers(1, 700), st.data())
@settings(max_examples=60, deadline=None)
def test_proofs_are_those_of_the_rfc_and_are_believed(size: int, data: st.DataObject) -> None:
    tree, every = grown(size), leaves_of(size)
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    inclusion, consistency = prove_inclusion(index, size, tree.nodes), prove_consistency(old, size, tree.nodes)
    assert list(inclusion) == path(index, every)
    assert list(consistency) == (subproof(old, every, True) if old < size else [])
    root = mth(every)
    assert is_included(leaf_hash(every[index]), index, size, inclusion, root)
    assert is_consistent(old, size, consistency, mth(every[:old]), root)


SMALL = 20
"""Up to this size every proof, and every way to bend it, is tried."""


def test_every_small_proof_is_believed_where_it_belongs_and_nowhere_else() -> None:
    tree, every = grown(SMALL), leaves_of(SMALL)
    roots = [mth(every[:count]) for count in range(SMALL + 1)]
    for size in range(1, SMALL + 1):
        for index in range(size):
            proof = prove_inclusion(index, size, tree.nodes)
            for claimed in range(-1, SMALL + 2):
                leaf = leaf_hash(every[index])
                assert is_included(leaf, claimed, size, proof, roots[size]) is (claimed == index)
    for new in range(SMALL + 1):
        for old in range(new + 1):
            proof = prove_consistency(old, new, tree.nodes)
            for claimed, root in enumerate(roots):
                assert is_consistent(claimed, new, proof, root, roots[new]) is (
                    claimed == old or (proof == () and claimed in (0, new))
                )


@given(st.integers(2, 200), st.data())
@settings(max_examples=100, deadline=None)
def test_a_bent_proof_is_not_believed(size: int, data: st.DataObject) -> None:
    tree, every = grown(size), leaves_of(size)
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size - 1))
    root, before = mth(every), mth(every[:old])
    inclusion, consistency = prove_inclusion(index, size, tree.nodes), prove_consistency(old, size, tree.nodes)
    for proof, believed in (
        (inclusion, lambda bent: is_included(leaf_hash(every[index]), index, size, bent, root)),
        (consistency, lambda bent: is_consistent(old, size, bent, before, root)),
    ):
        place = data.draw(st.integers(0, len(proof) - 1))
        other = bytearray(proof[place])
        other[data.draw(st.integers(0, 31))] ^= 1 << data.draw(st.integers(0, 7))
        assert believed(proof)
        assert not believed((*proof[:place], bytes(other), *proof[place + 1 :]))
        assert not believed((*proof[:place], *proof[place + 1 :]))
        assert not believed((*proof, proof[0]))


def test_what_never_grew_is_not_taken_for_growth() -> None:
    one, other = Kept(), Kept()
    one.append(leaves_of(300))
    other.append([b"another history", *leaves_of(400)])
    proof = prove_consistency(300, 401, other.nodes)
    assert not is_consistent(300, 401, proof, root_of(300, one.nodes), root_of(401, other.nodes))
    assert not is_consistent(0, 5, (), EMPTY[::-1], one.nodes(0, 0))
    assert not is_consistent(5, 3, proof, EMPTY, EMPTY)


@pytest.mark.parametrize(
    ("index", "width", "expected"),
    [
        pytest.param(0, 256, "tile/entries/000", id="first"),
        pytest.param(999, 5, "tile/entries/999.p/5", id="partial"),
        pytest.param(1_000, 256, "tile/entries/x001/000", id="thousands"),
        pytest.param(1_234_067, 256, "tile/entries/x001/x234/067", id="millions"),
    ],
)
def test_tiles_lie_where_c2sp_says(index: int, width: int, expected: str) -> None:
    assert tiles.tile_path("entries", index, width) == expected


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_bundle_holds_its_entries_and_a_cut_one_is_refused(leaves: list[bytes]) -> None:
    data = tiles.bundle(leaves)
    assert list(tiles.unbundle(data)) == leaves
    if leaves:
        with pytest.raises(ValueError, match="cut"):
            tiles.unbundle(data[:-1])
