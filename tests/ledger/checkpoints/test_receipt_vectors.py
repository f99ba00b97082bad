"""The vectors of tests/fixtures/receipts: they are current, and our verifier comes to what they say."""

import hashlib
import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from concierge.ledger.checkpoints.receipts import (
    ReceiptVerification,
    open_checkpoint,
    trusted_keys,
    verify_consistency_document,
    verify_consistency_receipt,
    verify_receipt,
)
from concierge.ledger.signatures import Keyring

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "tests" / "fixtures" / "receipts"
INDEX = json.loads((FOLDER / "index.json").read_text())
VECTORS = INDEX["vectors"]


def read(name: str) -> Any:
    return json.loads((FOLDER / name).read_text())


def verify(vector: dict[str, Any], document: Any) -> ReceiptVerification:
    ledger, keyring, verifiers = trusted_keys(read("keys.json"))
    if vector["kind"] == "consistency":
        return verify_consistency_receipt(document, verifiers)
    result = verify_receipt(document, keyring, verifiers, trusted_ledger=ledger)
    if "checkpoint" in vector:
        trusted = open_checkpoint((FOLDER / vector["checkpoint"]).read_text(), verifiers)
        assert result.checkpoint is not None
        result.checks.append(verify_consistency_document(read(vector["consistency"]), trusted, result.checkpoint))
    return result


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_a_vector_comes_out_as_stated(vector: dict[str, Any]) -> None:
    result = verify(vector, read(vector["file"]))
    assert result.state == vector["state"]
    assert next((check.name for check in result.checks if not check.passed), None) == vector["failed"]
    assert all(check.passed for check in result.checks[:-1]), "nothing is checked behind a fault"


def test_the_files_are_what_the_generator_makes() -> None:
    made = runpy.run_path(str(ROOT / "tools" / "receipt_vectors.py"))["build"]()
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == made


def test_every_check_is_failed_by_a_vector() -> None:
    """A check that no vector fails would not be tested in any other implementation."""
    passed = {check.name for vector in VECTORS for check in verify(vector, read(vector["file"])).checks}
    never = {name for name in passed if name not in {vector["failed"] for vector in VECTORS}}
    untested = {name for name in never if "later entries" not in name and "continues the one" not in name}
    # The keys of all vectors are those of their ledger.
    assert untested == {"the ledger is the one whose keys are trusted", "the consistency proof is well formed"}


def test_the_steps_between_are_those_of_the_format() -> None:
    """What index.json tells the author of a verifier, made without our code."""
    steps, receipt = INDEX["steps"], read("verified.json")
    content = steps["entryContent"].encode()
    assert hashlib.sha256(b"concierge.ledger.entry.v1\x00" + content).hexdigest() == steps["entryHash"]
    assert steps["entryHash"] == receipt["entry"]["hash"]
    leaf = {"v": 1, "ledger": receipt["ledger"], **{name: receipt["leaf"][name] for name in ("uid", "seq", "hash")}}
    preimage = json.dumps(leaf, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    assert preimage == steps["leafPreimage"]
    assert hashlib.sha256(b"\x00" + preimage.encode()).hexdigest() == steps["leafHash"]
    assert receipt["checkpoint"].startswith(f"{steps['noteText']}\n— {steps['origin']} ")


def test_keys_of_another_ledger_are_not_trusted_for_this_one() -> None:
    _, keyring, verifiers = trusted_keys(read("keys.json"))
    result = verify_receipt(read("verified.json"), keyring, verifiers, trusted_ledger="another")
    assert (result.state, result.checks[-1].name) == ("invalid", "the ledger is the one whose keys are trusted")


@pytest.mark.parametrize("document", [None, 5, "x", [], {}, {"format": "concierge.receipt.v1"}])
def test_what_is_no_receipt_is_invalid_and_raises_nothing(document: Any) -> None:
    assert verify_receipt(document, Keyring(None, []), []).state == "invalid"
    assert verify_consistency_receipt(document, []).state == "invalid"


def test_no_change_of_a_receipt_verifies() -> None:
    """Every value of the verified receipt, replaced by each of many others: none verifies, and none raises."""
    whole = read("verified.json")
    ledger, keyring, verifiers = trusted_keys(read("keys.json"))
    tried = 0
    for path in _paths(whole):
        if path[0] == "keys":
            continue
        for other in (None, True, 0, -1, 2**60, 1.5, "", "\ud800", "A" * 44, [], {}, [[]] * 3):
            changed = json.loads(json.dumps(whole))
            holder = changed
            for key in path[:-1]:
                holder = holder[key]
            if holder[path[-1]] == other:
                continue
            holder[path[-1]] = other
            result = verify_receipt(changed, keyring, verifiers, trusted_ledger=ledger)
            assert result.state == "invalid", (path, other)
            tried += 1
    assert tried > 300


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield (*path, key)
        yield from _paths(child, (*path, key))
