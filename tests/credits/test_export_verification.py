"""The verification of exports, without any service: no change gets by, and no nonsense raises."""

import json
import runpy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from concierge.credits.exports.service import _entry_json
from concierge.credits.exports.verification import EXPORT_FORMAT, ExportError, assemble, keys_of, verify_export
from concierge.ledger.json_forms import head_to_json

VECTORS = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "receipt_vectors.py"))
NONSENSE = (None, True, -1, 2**70, 1.5, "", "\ud800", "A" * 44, [], {}, [[]])
# What does not follow from the entries: who or what else is in an export is the exporter's word.
FREE = {("cursor",), ("next",), ("head", "quarantined"), ("head", "epoch")}


@pytest.fixture(scope="module")
def export() -> dict[str, Any]:
    """A grant and one answer."""
    account = VECTORS["Account"]().usual(1)
    entries = [_entry_json(replace(entry, place=seq)) for seq, entry in enumerate(account.entries, 1)]
    keys = VECTORS["Keyring"](VECTORS["KEY"], [VECTORS["OLD_KEY"].public_key()]).published()
    return {
        "format": EXPORT_FORMAT,
        "ledger": account.ledger,
        "uid": account.uid,
        "cursor": None,
        "next": None,
        "keys": {"ledger": keys, "checkpoint": []},
        "head": {**head_to_json(account.head), "quarantined": False, "epoch": account.head.epoch},
        "sections": {"checkpoints": {"leaf": {"seq": 3, "hash": account.head.hash}}},
        "entries": entries,
        "operations": [{"entrySeq": 1, "entryHash": entries[0]["hash"]}],
        "holds": [{"entrySeq": 3, "entryHash": entries[2]["hash"]}],
    }


def verifies(document: Any) -> bool:
    try:
        whole = assemble(document)
        return all(check.passed for check in verify_export(whole, keys_of(whole)).checks)
    except ExportError:
        return False


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, child in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from paths(child, (*path, key))


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    copied = json.loads(json.dumps(document))
    holder = copied
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return copied


def test_it_verifies_as_it_is(export: dict[str, Any]) -> None:
    assert verifies(export)


def test_nonsense_in_any_place_is_found_and_raises_nothing(export: dict[str, Any]) -> None:
    accepted = set()
    for path in paths(export):
        for value in NONSENSE:
            document = changed(export, path, value)
            # True is 1 to some comparisons: the text decides what is a change.
            if json.dumps(document) != json.dumps(export) and verifies(document):
                accepted.add(path)
    # An empty list of operations is one, an account need not be in a checkpoint, and keys that nothing needs are keys.
    may_be_absent = {("operations",), ("holds",), ("sections", "checkpoints"), ("sections", "checkpoints", "leaf")}
    beyond = {path for path in accepted if path[-1] in ("entrySeq", "seq") and path[0] != "entries"}
    unchecked = {path for path in accepted if path[0] == "keys"}
    assert accepted <= FREE | may_be_absent | beyond | unchecked


def test_pages_have_to_be_all_of_one_account_in_their_order(export: dict[str, Any]) -> None:
    first = {**export, "entries": export["entries"][:2], "operations": [], "holds": [], "next": "c1"}
    second = {**export, "entries": export["entries"][2:], "cursor": "c1"}
    del second["head"], second["sections"]
    assert verifies([first, second])
    for pages in ([first], [second], [second, first], [first, first], [first, {**second, "uid": "x"}], []):
        assert not verifies(pages)
    assert not verifies([first, {**second, "entries": export["entries"][3:]}])
