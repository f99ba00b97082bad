"""The Merkle tree: the vectors of Certificate Transparency's reference tree, and all proofs against the definition."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concierge.ledger.checkpoints import merkle, tiles

# The reference tree of Certificate Transparency (certificate-transparency, merkle_tree_test.cc).
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


# The definitions of RFC 6962, section 2.1, word by word.


def split(size: int) -> int:
    k = 1
    while k * 2 < size:
        k *= 2
    return k


def mth(data: Sequence[bytes]) -> bytes:
    if not data:
        return hashlib.sha256().digest()
    if len(data) == 1:
        return hashlib.sha256(b"\x00" + data[0]).digest()
    k = split(len(data))
    return hashlib.sha256(b"\x01" + mth(data[:k]) + mth(data[k:])).digest()


def path(m: int, data: Sequence[bytes]) -> list[bytes]:
    if len(data) == 1:
        return []
    k = split(len(data))
    return [*path(m, data[:k]), mth(data[k:])] if m < k else [*path(m - k, data[k:]), mth(data[:k])]


def subproof(m: int, data: Sequence[bytes], whole: bool) -> list[bytes]:
    if m == len(data):
        return [] if whole else [mth(data)]
    k = split(len(data))
    if m <= k:
        return [*subproof(m, data[:k], whole), mth(data[k:])]
    return [*subproof(m - k, data[k:], False), mth(data[:k])]


def stored(data: Sequence[bytes]) -> merkle.NodeReader:
    """The hashes of all perfect subtrees."""
    return lambda level, index: mth(data[index << level : (index + 1) << level])


def leaves_of(size: int) -> list[bytes]:
    return [number.to_bytes(4, "big") for number in range(size)]


def test_the_reference_tree() -> None:
    for size, root in enumerate(ROOTS):
        assert merkle.tree_root(size, stored(LEAVES)).hex() == root


@pytest.mark.parametrize(
    ("index", "size", "proof"),
    [
        (0, 1, []),
        (
            0,
            8,
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            5,
            8,
            [
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    ],
)
def test_reference_inclusion_proofs(index: int, size: int, proof: list[str]) -> None:
    hashes = [bytes.fromhex(text) for text in proof]
    assert merkle.inclusion_proof(index, size, stored(LEAVES)) == hashes
    root = bytes.fromhex(ROOTS[size])
    assert merkle.verify_inclusion(merkle.leaf_hash(LEAVES[index]), index, size, hashes, root)


@pytest.mark.parametrize(
    ("first", "second", "proof"),
    [
        (1, 1, []),
        (
            1,
            8,
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            6,
            8,
            [
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            5,
            [
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ],
)
def test_reference_consistency_proofs(first: int, second: int, proof: list[str]) -> None:
    hashes = [bytes.fromhex(text) for text in proof]
    assert merkle.consistency_proof(first, second, stored(LEAVES)) == hashes
    roots = [bytes.fromhex(ROOTS[size]) for size in (first, second)]
    assert merkle.verify_consistency(first, second, *roots, hashes)


def test_every_proof_of_every_small_tree_is_the_definition_and_verifies() -> None:
    data = leaves_of(33)
    roots = [mth(data[:size]) for size in range(34)]
    node = stored(data)
    for size in range(1, 34):
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, node)
            assert proof == path(index, data[:size])
            assert merkle.verify_inclusion(merkle.leaf_hash(data[index]), index, size, proof, roots[size])
        for first in range(size + 1):
            proof = merkle.consistency_proof(first, size, node)
            assert proof == (subproof(first, data[:size], True) if first else [])
            assert merkle.verify_consistency(first, size, roots[first], roots[size], proof)


@settings(deadline=None)
@given(st.data())
def test_no_wrong_inclusion_verifies(draw: st.DataObject) -> None:
    size = draw.draw(st.integers(1, 40))
    index = draw.draw(st.integers(0, size - 1))
    data = leaves_of(size)
    proof, root, leaf = path(index, data), mth(data), merkle.leaf_hash(data[index])
    assert merkle.verify_inclusion(leaf, index, size, proof, root)
    other = draw.draw(st.integers(-1, size + 2).filter(lambda number: number != index))
    assert not merkle.verify_inclusion(leaf, other, size, proof, root)
    assert not merkle.verify_inclusion(merkle.leaf_hash(b"other"), index, size, proof, root)
    assert not merkle.verify_inclusion(leaf, index, size, proof, mth([*data, b"more"]))
    assert not merkle.verify_inclusion(leaf, index, size, [*proof, root], root)
    if proof:
        assert not merkle.verify_inclusion(leaf, index, size, proof[:-1], root)
        place = draw.draw(st.integers(0, len(proof) - 1))
        changed = [*proof[:place], bytes(32), *proof[place + 1 :]]
        assert not merkle.verify_inclusion(leaf, index, size, changed, root)


@settings(deadline=None)
@given(st.data())
def test_no_wrong_consistency_verifies(draw: st.DataObject) -> None:
    second = draw.draw(st.integers(2, 40))
    first = draw.draw(st.integers(1, second - 1))
    data = leaves_of(second)
    old, new = mth(data[:first]), mth(data)
    proof = subproof(first, data, True)
    assert merkle.verify_consistency(first, second, old, new, proof)
    assert not merkle.verify_consistency(first, second, bytes(32), new, proof)
    assert not merkle.verify_consistency(first, second, old, bytes(32), proof)
    assert not merkle.verify_consistency(second, first, new, old, proof)
    assert not merkle.verify_consistency(first, first, old, new, proof)
    assert not merkle.verify_consistency(0, second, old, new, proof)
    assert not merkle.verify_consistency(first, second, old, new, [])
    assert not merkle.verify_consistency(first, second, old, new, proof[:-1])
    assert not merkle.verify_consistency(first, second, old, new, [*proof, new])
    place = draw.draw(st.integers(0, len(proof) - 1))
    assert not merkle.verify_consistency(first, second, old, new, [*proof[:place], bytes(32), *proof[place + 1 :]])
    # A tree with another history.
    forked = [b"forged", *data[1:]]
    assert not merkle.verify_consistency(first, second, old, mth(forked), subproof(first, forked, True))


def test_equal_and_empty_trees() -> None:
    root = mth(leaves_of(3))
    assert merkle.verify_consistency(3, 3, root, root, [])
    assert not merkle.verify_consistency(3, 3, root, bytes(32), [])
    assert not merkle.verify_consistency(3, 3, root, root, [root])
    assert merkle.verify_consistency(0, 3, merkle.EMPTY_ROOT, root, [])
    assert not merkle.verify_consistency(0, 3, bytes(32), root, [])


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_there_is_no_proof_of_what_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="leaf"):
        merkle.inclusion_proof(index, size, stored(LEAVES))
    with pytest.raises(ValueError, match="beginning"):
        merkle.consistency_proof(size + 1, size, stored(LEAVES))


# The same tree, stored in tiles.


class Bucket(dict[str, bytes]):
    """Tiles by path."""

    def grow(self, size: int, leaves: Sequence[bytes]) -> tiles.Growth:
        growth = tiles.append(size, tiles.TileReader(self.get, size).right_edge(), leaves)
        for name, data in growth.tiles.items():
            assert self.setdefault(name, data) == data, "a tile never changes"
        return growth


def fast_root(hashes: Sequence[bytes]) -> bytes:
    """The definition over leaf hashes, level by level: a node without a sibling moves up as it is."""
    row = list(hashes)
    while len(row) > 1:
        paired = [merkle.node_hash(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)]
        row = paired + (row[-1:] if len(row) % 2 else [])
    return row[0] if row else merkle.EMPTY_ROOT


@settings(deadline=None)
@given(st.lists(st.integers(1, 700), max_size=6), st.data())
def test_a_tree_in_tiles_grows_and_proves_as_the_definition(appends: list[int], draw: st.DataObject) -> None:
    bucket, hashes, published = Bucket(), list[bytes](), [(0, merkle.EMPTY_ROOT)]
    for count in appends:
        new = [merkle.leaf_hash(number.to_bytes(4, "big")) for number in range(len(hashes), len(hashes) + count)]
        growth = bucket.grow(len(hashes), new)
        hashes += new
        assert (growth.size, growth.root) == (len(hashes), fast_root(hashes))
        reader = tiles.TileReader(bucket.get, growth.size)
        assert growth.right_edge == reader.right_edge()
        assert tiles.edge_root(growth.right_edge) == growth.root == merkle.tree_root(growth.size, reader.node)
        published.append((growth.size, growth.root))
    size, root = published[-1]
    if size:
        reader = tiles.TileReader(bucket.get, size)
        index = draw.draw(st.integers(0, size - 1))
        proof = merkle.inclusion_proof(index, size, reader.node)
        assert merkle.verify_inclusion(hashes[index], index, size, proof, root)
    for old_size, old_root in published:
        proof = merkle.consistency_proof(old_size, size, tiles.TileReader(bucket.get, size).node)
        assert merkle.verify_consistency(old_size, size, old_root, root, proof)


def test_three_levels_of_tiles() -> None:
    bucket, hashes = Bucket(), [merkle.leaf_hash(number.to_bytes(4, "big")) for number in range(65536 + 300)]
    assert bucket.grow(0, hashes[:65530]).root == fast_root(hashes[:65530])
    growth = bucket.grow(65530, hashes[65530:])
    assert growth.root == fast_root(hashes)
    assert {"tile/0/255", "tile/0/256", "tile/0/257.p/44", "tile/1/000", "tile/1/001.p/1", "tile/2/000.p/1"} <= set(
        bucket
    )
    reader = tiles.TileReader(bucket.get, growth.size)
    for index in (0, 255, 256, 65535, 65536, 65835):
        proof = merkle.inclusion_proof(index, growth.size, reader.node)
        assert merkle.verify_inclusion(hashes[index], index, growth.size, proof, growth.root)


@pytest.mark.parametrize(
    ("level", "number", "width", "expected"),
    [
        (0, 0, 256, "tile/0/000"),
        (0, 0, 1, "tile/0/000.p/1"),
        (3, 999, 256, "tile/3/999"),
        (1, 1234067, 256, "tile/1/x001/x234/067"),
        (0, 1000, 17, "tile/0/x001/000.p/17"),
    ],
)
def test_tile_paths_are_those_of_tlog_tiles(level: int, number: int, width: int, expected: str) -> None:
    assert tiles.tile_path(level, number, width) == expected


def test_a_tile_that_is_not_as_it_must_be_is_named() -> None:
    bucket = Bucket()
    bucket.grow(0, [bytes(32)] * 300)
    short = {**bucket, "tile/0/001.p/44": bytes(32)}
    with pytest.raises(tiles.TileError, match=r"tile/0/001\.p/44 has 32 bytes, not 1408"):
        tiles.TileReader(short.get, 300).right_edge()
    del short["tile/0/001.p/44"]
    with pytest.raises(tiles.TileError, match=r"tile/0/001\.p/44 is missing"):
        tiles.TileReader(short.get, 300).right_edge()
