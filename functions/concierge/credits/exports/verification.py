"""`concierge.export.v1` read again, and verified without any service. Pure.

    {format, ledger, uid, exportedAt, cursor, next, keys: {ledger: {keyId: public key}, checkpoint: [vkey]},
     head, sections, entries: [{seq, content, hash, keyId, signature, fields}], operations, holds}

An export of several pages is a list of them: the first has head and sections, and each begins where the one before it
ends. docs/audit.md has every field.
"""

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from concierge.ledger.checkpoints.receipts import Check
from concierge.ledger.entries import StoredEntry
from concierge.ledger.signatures import Keyring
from concierge.ledger.transfers import Head
from concierge.ledger.verification import Verification, verify_chain

EXPORT_FORMAT = "concierge.export.v1"
LEAF_SECTION = "checkpoints"
_LISTS = ("entries", "operations", "holds")
_FINDINGS_SHOWN = 5


class ExportError(ValueError):
    """A document that is no export, or not all of one; the message says why."""


@dataclass(slots=True)
class ExportVerification:
    """`head` is what the entries add up to, `entries` how many they are."""

    checks: list[Check] = field(default_factory=list)
    head: Head = field(default_factory=Head)
    entries: int = 0


def assemble(document: Any) -> dict[str, Any]:
    """One document of an export or of all its pages in their order. Raises ExportError unless it is whole."""
    pages = document if isinstance(document, list) else [document]
    if not pages or not all(isinstance(page, dict) and page.get("format") == EXPORT_FORMAT for page in pages):
        raise ExportError(f"this is no {EXPORT_FORMAT}")
    first = pages[0]
    whole = {**first, "next": None, **{name: [] for name in _LISTS}}
    expected = None
    for number, page in enumerate(pages, 1):
        if any(page.get(name) != first.get(name) for name in ("ledger", "uid")):
            raise ExportError(f"page {number} is of another account")
        if page.get("cursor") != expected:
            raise ExportError(f"page {number} does not begin where the one before it ends")
        for name in _LISTS:
            if not isinstance(page.get(name), list):
                raise ExportError(f"page {number} has no list of {name}")
            whole[name] += page[name]
        expected = page.get("next")
    if expected is not None:
        raise ExportError("the last pages are missing: put all of them into one JSON array")
    if not isinstance(first.get("uid"), str) or not isinstance(first.get("ledger"), str):
        raise ExportError("uid and ledger are missing")
    return whole


def keys_of(export: dict[str, Any]) -> Keyring:
    """The ledger's keys that an export names itself. Raises ExportError."""
    try:
        return Keyring.from_text(None, export["keys"]["ledger"].values())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ExportError("the keys of the export are malformed") from error


def verify_export(export: dict[str, Any], keyring: Keyring) -> ExportVerification:
    """Replays the chain of an assembled export, and compares everything beside it with the entries that it names.
    Raises nothing."""
    result = ExportVerification()
    try:
        entries = [_entry(item) for item in export["entries"]]
        head = _head(export["head"])
        anchors = _anchors(export, head.seq)
        beside = {name: [_pointers(item) for item in export[name]] for name in ("operations", "holds")}
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        result.checks.append(Check("the export is well formed", reason))
        return result
    result.checks.append(Check("the export is well formed"))
    replayed = verify_chain(
        entries, ledger_id=export["ledger"], uid=export["uid"], keyring=keyring, head=head, anchors=anchors
    )
    result.head, result.entries = replayed.head, replayed.entries
    result.checks.append(Check(f"{len(entries)} entries replay to the head", _told(replayed)))
    differing = [entry.place for entry, item in zip(entries, export["entries"], strict=True) if not _same(entry, item)]
    fault = f"those of entry {differing[0]} are not" if differing else ""
    result.checks.append(Check("the fields shown are those of the signed bytes", fault))
    hashes = {entry.place: entry.hash for entry in entries}
    for name, pointers in beside.items():
        # What was made while the export was, names entries behind its head.
        wrong = [seq for seq, digest in pointers if 0 < seq <= head.seq and hashes.get(seq) != digest]
        fault = f"one names an entry {wrong[0]} with another hash" if wrong else ""
        result.checks.append(Check(f"{len(pointers)} {name} name entries of the chain", fault))
    return result


def _told(replayed: Verification) -> str:
    told = [f"entry {finding.seq}: {finding.code}: {finding.message}" for finding in replayed.findings]
    rest = len(told) - _FINDINGS_SHOWN
    return "; ".join([*told[:_FINDINGS_SHOWN], *([f"and {rest} more"] if rest > 0 else [])])


def _same(entry: StoredEntry, item: dict[str, Any]) -> bool:
    try:
        # As text, for to Python true is 1.
        return json.dumps(entry.fields(), sort_keys=True) == json.dumps(item["fields"], sort_keys=True)
    except (ValueError, RecursionError):
        # The replay has reported it.
        return item["fields"] is None


def _entry(item: dict[str, Any]) -> StoredEntry:
    content, signature = (base64.b64decode(item[name], validate=True) for name in ("content", "signature"))
    seq = item["seq"]
    if type(seq) is not int or seq < 1 or not isinstance(item["hash"], str) or not isinstance(item["keyId"], str):
        raise ValueError("an entry has a number, a hash and a key id")
    if "fields" not in item:
        raise KeyError("fields")
    return StoredEntry(content, item["hash"], item["keyId"], signature, seq)


def _head(document: dict[str, Any]) -> Head:
    head = Head(
        seq=document["seq"],
        hash=document["hash"],
        posted=document["postedMicrocredits"],
        held=document["heldMicrocredits"],
        debt=document["debtMicrocredits"],
        frozen=document["frozen"],
        quarantined=document["quarantined"],
        epoch=document["epoch"],
        counters=document["countersMicrocredits"],
    )
    numbers: Iterable[Any] = (head.seq, head.posted, head.held, head.debt, head.epoch, *head.counters.values())
    if not all(type(number) is int for number in numbers):
        raise ValueError("the head has whole numbers")
    if not all(isinstance(flag, bool) for flag in (head.frozen, head.quarantined)):
        raise ValueError("the head says whether it is frozen and quarantined")
    return head


def _anchors(export: dict[str, Any], last: int) -> dict[int, str]:
    """The leaf that was published of the account, unless it is newer than the head of the export."""
    section = export["sections"][LEAF_SECTION]
    leaf = section["leaf"] if section is not None else None
    if leaf is None:
        return {}
    seq, digest = leaf["seq"], leaf["hash"]
    if type(seq) is not int or seq < 1 or not isinstance(digest, str):
        raise ValueError("a leaf has a number and a hash")
    return {seq: digest} if seq <= last else {}


def _pointers(item: dict[str, Any]) -> tuple[int, str]:
    seq, digest = item["entrySeq"], item["entryHash"]
    if type(seq) is not int or seq < 0 or not isinstance(digest, str):
        raise ValueError("an operation or a hold names its entry by number and hash")
    return seq, digest
