"""How the tree is stored: tiles of 256 hashes (C2SP tlog-tiles, https://c2sp.org/tlog-tiles).

A tile at level L holds consecutive hashes of perfect subtrees of 256**L leaves, 32 bytes each: `tile/<L>/<N>`, or
`tile/<L>/<N>.p/<W>` while it has only W of 256, N in groups of three digits (1234067 = `x001/x234/067`). What a path
holds follows from the leaves alone and never changes, so writing a tile again is harmless.

Each size that is published has the partial tiles of its own right edge; full tiles serve all later sizes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from concierge.ledger.checkpoints.merkle import EMPTY_ROOT, HASH_BYTES, fold, node_hash

TILE_WIDTH = 256
_HEIGHT = 8

Read = Callable[[str], bytes | None]


class TileError(Exception):
    """A stored tile is missing or has the wrong length: `path` names it."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path} {message}")
        self.path = path


def tile_path(level: int, number: int, width: int = TILE_WIDTH) -> str:
    """Where the tile is that holds the first `width` hashes of place `number` in a level."""
    assert 0 < width <= TILE_WIDTH
    groups = [f"{number % 1000:03d}"]
    while number := number // 1000:
        groups.append(f"x{number % 1000:03d}")
    partial = "" if width == TILE_WIDTH else f".p/{width}"
    return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"


class TileReader:
    """The hashes of a tree of `size` leaves, read through `read(path) -> bytes`; each tile once.

    `node` is a merkle.NodeReader. Raises TileError; that a hash is the right one is for the caller to prove.
    """

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self._size = size
        self._tiles: dict[str, list[bytes]] = {}

    def node(self, level: int, index: int) -> bytes:
        """The hash of one perfect subtree."""
        tile_level, height = divmod(level, _HEIGHT)
        first = index << height
        hashes = self._tile(tile_level, first // TILE_WIDTH)
        begin = first % TILE_WIDTH
        row = hashes[begin : begin + (1 << height)]
        assert len(row) == 1 << height, "only complete subtrees of the tree are asked for"
        return _perfect_root(row)

    def right_edge(self) -> list[list[bytes]]:
        """The hashes of the last, partial tile of each level; an empty list where the last one is full."""
        return [
            self._tile(level, count // TILE_WIDTH) if count % TILE_WIDTH else []
            for level, count in enumerate(_counts(self._size))
        ]

    def _tile(self, level: int, number: int) -> list[bytes]:
        width = min(TILE_WIDTH, (self._size >> _HEIGHT * level) - number * TILE_WIDTH)
        path = tile_path(level, number, width)
        if path not in self._tiles:
            data = self._read(path)
            if data is None:
                raise TileError(path, "is missing")
            if len(data) != width * HASH_BYTES:
                raise TileError(path, f"has {len(data)} bytes, not {width * HASH_BYTES}")
            self._tiles[path] = [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]
        return self._tiles[path]


@dataclass(frozen=True, slots=True)
class Growth:
    """A tree after an append: its size and root, its right edge, and the tiles to write for it by path."""

    size: int
    root: bytes
    right_edge: list[list[bytes]]
    tiles: Mapping[str, bytes]


def append(size: int, right_edge: Sequence[Sequence[bytes]], leaves: Sequence[bytes]) -> Growth:
    """Adds leaf hashes to a tree of `size` leaves of which the right edge is known; nothing else of it is needed."""
    tiles: dict[str, bytes] = {}
    edge: list[list[bytes]] = []
    new = list(leaves)
    level = 0
    while new or level < len(right_edge):
        before = list(right_edge[level]) if level < len(right_edge) else []
        hashes, number = before + new, (size >> _HEIGHT * level) // TILE_WIDTH
        carried: list[bytes] = []
        while len(hashes) >= TILE_WIDTH:
            full, hashes = hashes[:TILE_WIDTH], hashes[TILE_WIDTH:]
            tiles[tile_path(level, number)] = b"".join(full)
            carried.append(_perfect_root(full))
            number += 1
        if new and hashes:
            tiles[tile_path(level, number, len(hashes))] = b"".join(hashes)
        edge.append(hashes)
        new = carried
        level += 1
    return Growth(size + len(leaves), edge_root(edge), edge, tiles)


def edge_root(right_edge: Sequence[Sequence[bytes]]) -> bytes:
    """The root of the tree with this right edge, which holds every perfect subtree that the root is made of."""
    subtrees: list[bytes] = []
    for hashes in right_edge:
        end = len(hashes)
        # From the right: the perfect subtrees of a range are as large as the bits of its length.
        for width in (1 << bit for bit in range(_HEIGHT) if end >> bit & 1):
            subtrees.append(_perfect_root(hashes[end - width : end]))
            end -= width
    return fold(subtrees) if subtrees else EMPTY_ROOT


def _counts(size: int) -> list[int]:
    """How many hashes each level of tiles holds."""
    counts: list[int] = []
    while size:
        counts.append(size)
        size >>= _HEIGHT
    return counts


def _perfect_root(hashes: Sequence[bytes]) -> bytes:
    """The root over a power of two of neighbouring hashes."""
    row = list(hashes)
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]
