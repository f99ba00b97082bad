"""How entries and heads are shown outside: in the API, in receipts, exports and backups."""

import base64
from typing import Any

from concierge.ledger.entries import StoredEntry
from concierge.ledger.transfers import Head


def entry_to_json(entry: StoredEntry) -> dict[str, Any]:
    """`{content, hash, keyId, signature}`, content and signature in base64."""
    return {
        "content": base64.b64encode(entry.content).decode(),
        "hash": entry.hash,
        "keyId": entry.key_id,
        "signature": base64.b64encode(entry.signature).decode(),
    }


def head_to_json(head: Head) -> dict[str, Any]:
    """What of a head anybody can check against the entries; amounts in microcredits."""
    return {
        "seq": head.seq,
        "hash": head.hash,
        "postedMicrocredits": head.posted,
        "heldMicrocredits": head.held,
        "debtMicrocredits": head.debt,
        "frozen": head.frozen,
        "countersMicrocredits": dict(head.counters),
    }
