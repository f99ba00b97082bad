"""The Merkle tree of RFC 6962 (section 2.1), its inclusion and consistency proofs, and their verification (RFC 9162,
sections 2.1.3 and 2.1.4).

    MTH({})     = SHA-256()
    MTH({d})    = SHA-256(0x00 || d)
    MTH(D[n])   = SHA-256(0x01 || MTH(D[0:k]) || MTH(D[k:n])), k the largest power of two below n

Proofs are made from stored hashes: a `NodeReader` answers the hash of a perfect subtree by level and index, which is
the one over the leaves [index << level, (index + 1) << level). All hashes are 32 raw bytes.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import reduce

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
_LEAF, _NODE = b"\x00", b"\x01"

NodeReader = Callable[[int, int], bytes]


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(_LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()


def fold(hashes: Iterable[bytes]) -> bytes:
    """The root over neighbouring subtrees, the last of them first: each of the others is the left side of what was
    there before."""
    return reduce(lambda right, left: node_hash(left, right), hashes)


def tree_root(size: int, node: NodeReader) -> bytes:
    """The root over the first `size` leaves."""
    return _range_root(0, size, node) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, node: NodeReader) -> list[bytes]:
    """PATH(index, D[size]): what leads from a leaf to the root. Raises ValueError unless 0 <= index < size."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    begin, end, path = 0, size, list[bytes]()
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(_range_root(middle, end, node))
            end = middle
        else:
            path.append(_range_root(begin, middle, node))
            begin = middle
    return path[::-1]


def consistency_proof(first: int, second: int, node: NodeReader) -> list[bytes]:
    """PROOF(first, D[second]): that the smaller tree is the beginning of the larger one. Raises ValueError unless
    0 <= first <= second. Empty for an empty tree and for two equal ones."""
    if not 0 <= first <= second:
        raise ValueError(f"a tree of {second} leaves has no beginning of {first}")
    if first in (0, second):
        return []
    begin, end, path, whole = 0, second, list[bytes](), True
    while first != end:
        middle = begin + _split(end - begin)
        if first <= middle:
            path.append(_range_root(middle, end, node))
            end = middle
        else:
            path.append(_range_root(begin, middle, node))
            begin, whole = middle, False
    if not whole:
        path.append(_range_root(begin, end, node))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """RFC 9162, section 2.1.3.2, for the hash of a leaf."""
    if not 0 <= index < size:
        return False
    place, last, computed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            computed = node_hash(sibling, computed)
            place, last = _skip_lone_levels(place, last)
        else:
            computed = node_hash(computed, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and computed == root


def verify_consistency(first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]) -> bool:
    """RFC 9162, section 2.1.4.2; an empty tree is the beginning of every tree, and each tree of itself."""
    if not 0 <= first <= second:
        return False
    if first == second:
        return not proof and first_root == second_root
    if first == 0:
        return not proof and first_root == EMPTY_ROOT
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    if not path:
        return False
    place, last = first - 1, second - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            place, last = _skip_lone_levels(place, last)
        else:
            new = node_hash(new, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root


def _skip_lone_levels(place: int, last: int) -> tuple[int, int]:
    """Climbs the levels at which the last node has no sibling and is passed on as it is."""
    while place and not place & 1:
        place, last = place >> 1, last >> 1
    return place, last


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def _range_root(begin: int, end: int, node: NodeReader) -> bytes:
    """The root over the leaves [begin, end), which begin at a multiple of the largest perfect subtree among them."""
    hashes: list[bytes] = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        hashes.append(node(level, begin >> level))
        begin += 1 << level
    return fold(reversed(hashes))
