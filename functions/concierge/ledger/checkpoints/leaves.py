"""A leaf is the head of one account at one checkpoint, and a leaf file all leaves that one checkpoint added.

    preimage    = RFC 8785 JSON of {v: 1, ledger, uid, seq, hash}; the leaf's hash is SHA-256(0x00 || preimage)
    leaf file   = one line of JSON for each leaf, {v, ledger, uid, seq, hash, posted, counters}, sorted by uid, so in
                  the order of their indices in the tree

`posted` and `counters` are what the account had at that entry, in microcredits: an auditor can add up every
checkpoint's totals from these files alone. They are no part of the leaf, so that receipts do not show them.
"""

import json
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from concierge.kit.canonical import canonical_bytes
from concierge.ledger.checkpoints.merkle import leaf_hash

LEAF_VERSION = 1


@dataclass(frozen=True, slots=True)
class Leaf:
    """The entry `seq` of an account, whose hash is `hash` (hexadecimal), was its newest."""

    ledger: str
    uid: str
    seq: int
    hash: str

    @property
    def fields(self) -> dict[str, Any]:
        return {"v": LEAF_VERSION, "ledger": self.ledger, "uid": self.uid, "seq": self.seq, "hash": self.hash}

    @property
    def digest(self) -> bytes:
        """The hash of the leaf in the tree."""
        return leaf_hash(canonical_bytes(self.fields))


@dataclass(frozen=True, slots=True)
class LeafLine:
    """One line of a leaf file."""

    leaf: Leaf
    posted: int
    counters: Mapping[str, int]

    def to_bytes(self) -> bytes:
        fields = {**self.leaf.fields, "posted": self.posted, "counters": dict(self.counters)}
        # Not the canonical form, which is many times slower to make: nothing but the file itself is hashed over this.
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, line: bytes) -> "LeafLine":
        """Raises ValueError, KeyError or TypeError for what is no such line."""
        fields = json.loads(line)
        if fields["v"] != LEAF_VERSION:
            raise ValueError(f"version {fields['v']} of a leaf is not known")
        leaf = Leaf(fields["ledger"], fields["uid"], fields["seq"], fields["hash"])
        return cls(leaf, fields["posted"], fields["counters"])


def leaf_file(lines: Iterable[LeafLine]) -> bytes:
    """The file of these leaves, which come sorted by uid."""
    return b"".join(line.to_bytes() + b"\n" for line in lines)


def read_leaf_file(data: bytes) -> list[LeafLine]:
    return [LeafLine.from_bytes(line) for line in data.splitlines()]


def find_leaf(data: bytes, uid: str) -> tuple[int, Leaf] | None:
    """(place in the file, leaf) of an account, by bisection; None if the checkpoint did not touch it."""
    lines = data.splitlines()
    place = bisect_left(lines, uid, key=lambda line: str(json.loads(line)["uid"]))
    if place == len(lines):
        return None
    leaf = LeafLine.from_bytes(lines[place]).leaf
    return (place, leaf) if leaf.uid == uid else None
