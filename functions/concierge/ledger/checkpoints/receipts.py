"""`concierge.receipt.v1`: the proof of one entry that a person keeps, and its verification without any service. Pure.

    {format, ledger,
     entry: {content, hash, keyId, signature}, chain: [the account's entries behind it, up to the leaf's],
     leaf: {uid, seq, hash, index} | null, inclusion: {treeSize, hashes} | null, checkpoint: the note | null,
     keys: {ledger: {keyId: public key}, checkpoint: [vkey]}}

Hashes are hexadecimal; contents, signatures and public keys base64. While no checkpoint covers the entry, leaf,
inclusion and checkpoint are null: the receipt is pending. docs/receipts.md has the verification step by step.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal
from urllib.parse import quote

from concierge.ledger.checkpoints.leaves import Leaf
from concierge.ledger.checkpoints.merkle import verify_consistency, verify_inclusion
from concierge.ledger.checkpoints.notes import Checkpoint, Verifier, open_note
from concierge.ledger.entries import ENTRY_VERSION, StoredEntry, entry_hash
from concierge.ledger.json_forms import entry_to_json
from concierge.ledger.signatures import Keyring

RECEIPT_FORMAT = "concierge.receipt.v1"
CONSISTENCY_FORMAT = "concierge.consistency.v1"
TRUSTED_LEDGER = "the ledger is the one whose keys are trusted"
_HASH = re.compile(r"[0-9a-f]{64}")
# JSON numbers are exact up to here for everybody who may verify.
_NUMBER_MAX = 2**53 - 1


class ReceiptError(ValueError):
    """A document that is not what it should be; the message says in which part."""


@dataclass(frozen=True, slots=True)
class Inclusion:
    """Where a leaf is in a tree, the hashes that lead from it to the root, and the note that signs the root."""

    leaf: Leaf
    index: int
    tree_size: int
    hashes: Sequence[bytes]
    note: str


@dataclass(frozen=True, slots=True)
class Check:
    """One step of a verification: what was checked, and what is wrong, empty if nothing is."""

    name: str
    fault: str = ""

    @property
    def passed(self) -> bool:
        return not self.fault


@dataclass(slots=True)
class ReceiptVerification:
    """`checks` in their order, as far as they could be made; `fields` are the entry's, once its signature is known to
    be right; `checkpoint` is the one that covers it, once its signature is."""

    checks: list[Check] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    pending: bool = False

    @property
    def state(self) -> Literal["verified", "pending", "invalid"]:
        if not all(check.passed for check in self.checks):
            return "invalid"
        return "pending" if self.pending else "verified"


def origin_of(ledger_id: str) -> str:
    """What checkpoints of a ledger call their log, and the name of their key."""
    return f"concierge.ledger/{quote(ledger_id, safe='')}"


def build_receipt(
    ledger_id: str,
    entry: StoredEntry,
    chain: Iterable[StoredEntry],
    inclusion: Inclusion | None,
    ledger_keys: Mapping[str, str],
    vkeys: Sequence[str],
) -> dict[str, Any]:
    """The document. Without an inclusion it is a pending one."""
    document: dict[str, Any] = {
        "format": RECEIPT_FORMAT,
        "ledger": ledger_id,
        "entry": entry_to_json(entry),
        "chain": [entry_to_json(later) for later in chain],
        "leaf": None,
        "inclusion": None,
        "checkpoint": None,
        "keys": {"ledger": dict(ledger_keys), "checkpoint": list(vkeys)},
    }
    if inclusion is not None:
        leaf = inclusion.leaf
        document["leaf"] = {"uid": leaf.uid, "seq": leaf.seq, "hash": leaf.hash, "index": inclusion.index}
        document["inclusion"] = {
            "treeSize": inclusion.tree_size,
            "hashes": [digest.hex() for digest in inclusion.hashes],
        }
        document["checkpoint"] = inclusion.note
    return document


def keys_in(document: Any) -> tuple[Keyring, list[Verifier]]:
    """The keys that a receipt names itself. They prove no more than that
    it agrees with itself: whoever forges one can name keys of his own. Raises ReceiptError."""
    try:
        keys = _object(_object(document)["keys"])
        ledger_keys = [_text(key) for key in _object(keys["ledger"]).values()]
        verifiers = [Verifier.from_vkey(_text(vkey)) for vkey in _list(keys["checkpoint"])]
        return Keyring.from_text(None, ledger_keys), verifiers
    except (KeyError, ValueError) as error:
        raise ReceiptError(f"the keys of the receipt: {_reason(error)}") from error


def trusted_keys(document: Any) -> tuple[str, Keyring, list[Verifier]]:
    """(ledger, its keys, the keys of its checkpoints) of the answer to GET /api/v1/ledger/keys. Raises ReceiptError."""
    try:
        published = _object(document)
        ledger_keys = [_text(key) for key in _object(published["keys"]).values()]
        verifiers = [Verifier.from_vkey(_text(vkey)) for vkey in _list(published["checkpointKeys"])]
        return _text(published["ledger"]), Keyring.from_text(None, ledger_keys), verifiers
    except (KeyError, ValueError) as error:
        raise ReceiptError(f"the trusted keys: {_reason(error)}") from error


def open_checkpoint(note: str, verifiers: Sequence[Verifier]) -> Checkpoint:
    """The checkpoint in a note that one of these keys signed under the log's own name. Raises ValueError."""
    text, signed_by = open_note(note, verifiers)
    checkpoint = Checkpoint.parse(text)
    if {verifier.name for verifier in signed_by} != {checkpoint.origin}:
        raise ReceiptError("it is not signed by the log that it is of")
    return checkpoint


def verify_receipt(
    document: Any, ledger_keys: Keyring, verifiers: Sequence[Verifier], *, trusted_ledger: str | None = None
) -> ReceiptVerification:
    """Checks a parsed receipt against keys that are trusted, as those of `trusted_ledger` if that is known. Raises
    nothing: a fault is a check that has failed, and ends the verification, for nothing behind it could be relied on."""
    result = ReceiptVerification()
    try:
        _verify(document, ledger_keys, verifiers, trusted_ledger, result)
    except _Stopped:
        assert result.state == "invalid", "only a failed check stops a verification"
    return result


def verify_consistency_document(document: Any, older: Checkpoint, newer: Checkpoint) -> Check:
    """Whether a `concierge.consistency.v1` proves that the newer tree is the older one with leaves added. Two trees of
    one size need no proof."""
    name = f"the checkpoint of {newer.size} leaves continues the one of {older.size}"
    if older.origin != newer.origin:
        return Check(name, "they are of different logs")
    if older.size == newer.size:
        return Check(name, "" if older.root == newer.root else "two roots were signed for one size: the log has forked")
    try:
        proof = [_digest(text) for text in _list(_object(document)["hashes"])]
    except (KeyError, ValueError) as error:
        return Check(name, f"the consistency proof is malformed: {_reason(error)}")
    sound = verify_consistency(older.size, newer.size, older.root, newer.root, proof)
    return Check(name, "" if sound else "the proof does not lead from the one root to the other: the log has forked")


def verify_consistency_receipt(document: Any, verifiers: Sequence[Verifier]) -> ReceiptVerification:
    """Checks a parsed `concierge.consistency.v1` by itself: the signatures of its two notes, and the proof between
    them. `checkpoint` is the newer one. Raises nothing."""
    result = ReceiptVerification()
    try:
        with _check(result, "the consistency proof is well formed"):
            proof = _object(document)
            if proof["format"] != CONSISTENCY_FORMAT:
                raise ReceiptError(f"the format is not {CONSISTENCY_FORMAT}")
            sides = [_object(proof[name]) for name in ("from", "to")]
            sizes = [_number(side["size"]) for side in sides]
            notes = [_text(side["note"]) for side in sides]
        checkpoints: list[Checkpoint] = []
        for name, size, note in zip(("older", "newer"), sizes, notes, strict=True):
            with _check(result, f"the {name} checkpoint is signed by the log"):
                checkpoint = open_checkpoint(note, verifiers)
                if checkpoint.size != size:
                    raise ReceiptError(f"it is of {checkpoint.size} leaves, not {size}")
                checkpoints.append(checkpoint)
        result.checks.append(verify_consistency_document(document, *checkpoints))
        result.checkpoint = checkpoints[1]
    except _Stopped:
        assert result.state == "invalid", "only a failed check stops a verification"
    return result


def _verify(
    document: Any,
    ledger_keys: Keyring,
    verifiers: Sequence[Verifier],
    trusted_ledger: str | None,
    result: ReceiptVerification,
) -> None:
    """The steps, as in docs/receipts.md."""
    with _check(result, "the receipt is well formed"):
        receipt = _object(document)
        if receipt["format"] != RECEIPT_FORMAT:
            raise ReceiptError(f"the format is not {RECEIPT_FORMAT}")
        ledger = _text(receipt["ledger"])
        entries = [_entry(entry) for entry in [receipt["entry"], *_list(receipt["chain"])]]
        inclusion = _inclusion(receipt, ledger)
        if inclusion is None and len(entries) > 1:
            raise ReceiptError("there is a chain, and no checkpoint to which it leads")
    if trusted_ledger is not None:
        with _check(result, TRUSTED_LEDGER):
            if ledger != trusted_ledger:
                raise ReceiptError(f"the trusted keys are those of {trusted_ledger}")
    with _check(result, "the entry is signed by the ledger"):
        fields = result.fields = _sealed(entries[0], ledger, ledger_keys)
    if inclusion is None:
        result.pending = True
        return
    with _check(result, f"{len(entries) - 1} later entries follow it"):
        for before, entry in pairwise(entries):
            following = _sealed(entry, ledger, ledger_keys)
            if (following["uid"], following["seq"], following["prev"]) != (
                fields["uid"],
                fields["seq"] + 1,
                before.hash,
            ):
                raise ReceiptError(f"entry {following['seq']} does not follow entry {fields['seq']}")
            fields = following
    with _check(result, "the leaf is the account as it was then"):
        if (inclusion.leaf.uid, inclusion.leaf.seq, inclusion.leaf.hash) != (
            fields["uid"],
            fields["seq"],
            entries[-1].hash,
        ):
            raise ReceiptError("it is not the entry at which the chain ends")
    with _check(result, "the checkpoint is signed by the log"):
        checkpoint = open_checkpoint(inclusion.note, verifiers)
        if checkpoint.origin != origin_of(ledger):
            raise ReceiptError("it is a checkpoint of another ledger")
        result.checkpoint = checkpoint
    with _check(result, "the leaf is in the tree of the checkpoint"):
        if checkpoint.size != inclusion.tree_size:
            raise ReceiptError(f"the proof is for a tree of {inclusion.tree_size} leaves, not {checkpoint.size}")
        digest = inclusion.leaf.digest
        if not verify_inclusion(digest, inclusion.index, checkpoint.size, inclusion.hashes, checkpoint.root):
            raise ReceiptError("the proof does not lead from the leaf to the signed root")


class _Stopped(Exception):
    """A check has failed."""


@contextmanager
def _check(result: ReceiptVerification, name: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, ValueError, RecursionError) as error:
        result.checks.append(Check(name, _reason(error)))
        raise _Stopped from error
    result.checks.append(Check(name))


def _reason(error: Exception) -> str:
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)


def _sealed(entry: StoredEntry, ledger: str, keys: Keyring) -> dict[str, Any]:
    """The fields of an entry whose bytes, hash and signature are right. Raises ReceiptError."""
    if entry_hash(entry.content) != entry.hash:
        raise ReceiptError("the hash is not that of the bytes")
    if not keys.knows(entry.key_id):
        raise ReceiptError(f"it is signed with key {entry.key_id}, which is none of the known ones")
    if not keys.verifies(entry.key_id, entry.hash, entry.signature):
        raise ReceiptError(f"it is not signed by key {entry.key_id}")
    fields = entry.fields()
    if (_number(fields["v"]), fields["ledger"]) != (ENTRY_VERSION, ledger):
        raise ReceiptError("it is of another ledger, or of a version that is not known")
    # What the checks behind this one go by.
    _text(fields["uid"]), _number(fields["seq"]), _digest(fields["prev"])
    return fields


def _inclusion(receipt: Mapping[str, Any], ledger: str) -> Inclusion | None:
    parts = [receipt[name] for name in ("leaf", "inclusion", "checkpoint")]
    if parts == [None, None, None]:
        return None
    leaf, proof = _object(receipt["leaf"]), _object(receipt["inclusion"])
    return Inclusion(
        Leaf(ledger, _text(leaf["uid"]), _number(leaf["seq"]), _digest(leaf["hash"]).hex()),
        _number(leaf["index"]),
        _number(proof["treeSize"]),
        [_digest(text) for text in _list(proof["hashes"])],
        _text(receipt["checkpoint"]),
    )


def _entry(value: Any) -> StoredEntry:
    entry = _object(value)
    return StoredEntry(
        _base64(entry["content"]), _digest(entry["hash"]).hex(), _text(entry["keyId"]), _base64(entry["signature"])
    )


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ReceiptError("an object is expected where there is none")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ReceiptError("a list is expected where there is none")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ReceiptError("a text is expected where there is none")
    return value


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _NUMBER_MAX:
        raise ReceiptError("a whole number is expected where there is none")
    return value


def _digest(value: Any) -> bytes:
    if not _HASH.fullmatch(_text(value)):
        raise ReceiptError("a hash has 64 hexadecimal digits in lower case")
    return bytes.fromhex(value)


def _base64(value: Any) -> bytes:
    try:
        return base64.b64decode(_text(value), validate=True)
    except binascii.Error as error:
        raise ReceiptError("base64 is malformed") from error
