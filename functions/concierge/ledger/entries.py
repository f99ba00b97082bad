"""One entry: its canonical bytes, its hash, its place in the chain.

    bytes = RFC 8785 JSON of {v, ledger, uid, seq, prev, kind, amount, postedAfter, heldAfter, opId, holdId?, counter,
                              memoHash?, at}
    hash  = SHA-256("concierge.ledger.entry.v1" + NUL + bytes), hexadecimal

The stored bytes are what was hashed: they are parsed to be read, and never serialised again.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from concierge.kit.canonical import canonical_bytes
from concierge.ledger.transfers import Head, Movement

ENTRY_VERSION = 1
HASH_DOMAIN = b"concierge.ledger.entry.v1\x00"


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry as it is kept: `content` is the canonical bytes, `hash` hexadecimal, `signature` 64 bytes over the
    32 raw bytes of the hash. `place` is the number under which it is stored, 0 where that is not known."""

    content: bytes
    hash: str
    key_id: str
    signature: bytes
    place: int = 0

    def fields(self) -> dict[str, Any]:
        """The parsed entry. Raises ValueError if the bytes are not a JSON object."""
        parsed = json.loads(self.content)
        if not isinstance(parsed, dict):
            raise ValueError("an entry is a JSON object")
        return parsed


def entry_hash(content: bytes) -> str:
    """The hash of canonical bytes, hexadecimal."""
    return hashlib.sha256(HASH_DOMAIN + content).hexdigest()


def entry_content(
    *,
    ledger_id: str,
    uid: str,
    head: Head,
    movement: Movement,
    op_id: str,
    at: str,
    hold_id: str | None = None,
    memo_hash: str | None = None,
) -> bytes:
    """The canonical bytes of the entry that follows `head`. `at` is RFC 3339 in UTC with milliseconds."""
    fields: dict[str, Any] = {
        "v": ENTRY_VERSION,
        "ledger": ledger_id,
        "uid": uid,
        "seq": head.seq + 1,
        "prev": head.hash,
        "kind": movement.kind,
        "amount": movement.amount,
        "postedAfter": movement.posted_after,
        "heldAfter": movement.held_after,
        "opId": op_id,
        "counter": movement.counter,
        "at": at,
    }
    if hold_id is not None:
        fields["holdId"] = hold_id
    if memo_hash is not None:
        fields["memoHash"] = memo_hash
    return canonical_bytes(fields)
