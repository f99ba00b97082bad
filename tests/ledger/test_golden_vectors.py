"""Entries that were written by earlier versions verify, and are written the same today."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from concierge.kit.canonical import canonical_bytes
from concierge.ledger.entries import StoredEntry, entry_content, entry_hash
from concierge.ledger.signatures import Keyring
from concierge.ledger.transfers import Head, Movement
from concierge.ledger.verification import verify_chain

VECTORS = json.loads((Path(__file__).parent.parent / "fixtures" / "ledger_v1.json").read_text())


def stored(entry: dict[str, Any]) -> StoredEntry:
    return StoredEntry(entry["content"].encode(), entry["hash"], entry["keyId"], base64.b64decode(entry["signature"]))


def test_golden_entries_verify_under_both_keys() -> None:
    verification = verify_chain(
        [stored(entry) for entry in VECTORS["entries"]],
        ledger_id=VECTORS["ledger"],
        uid=VECTORS["uid"],
        keyring=Keyring.from_text(None, VECTORS["publicKeys"]),
        head=Head(**VECTORS["head"], counters={"opening": -VECTORS["head"]["posted"]}),
    )
    assert verification.findings == []
    assert verification.entries == 14


@pytest.mark.parametrize("vector", VECTORS["entries"])
def test_the_same_movement_gives_the_same_bytes_today(vector: dict[str, Any]) -> None:
    fields = json.loads(vector["content"])
    movement = Movement(fields["kind"], fields["amount"], fields["counter"], fields["postedAfter"], fields["heldAfter"])
    content = entry_content(
        ledger_id=fields["ledger"],
        uid=fields["uid"],
        head=Head(seq=fields["seq"] - 1, hash=fields["prev"]),
        movement=movement,
        op_id=fields["opId"],
        hold_id=fields.get("holdId"),
        at=fields["at"],
    )
    assert content.decode() == vector["content"]
    assert entry_hash(content) == vector["hash"]


def test_canonical_json_is_rfc_8785() -> None:
    """The RFC's own example of key order and string escapes (section 3.2)."""
    value = {
        "peach": "This sorting order",
        "péché": "is wrong according to French",
        "pêche": "but canonicalization MUST",
    }
    assert canonical_bytes(value).decode().startswith('{"peach":')
    assert canonical_bytes({"\u20ac": 1, "\r": 2, "1": 3}) == '{"\\r":2,"1":3,"€":1}'.encode()
    with pytest.raises(ValueError):
        canonical_bytes(float("nan"))
    with pytest.raises(ValueError):
        canonical_bytes(2**53)
