"""Replay, pure: entries imply exactly the documents that the ledger writes, and every field that differs is told."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concierge.ledger.integrity.replay import (
    Derivation,
    HoldTruth,
    OperationTruth,
    Progress,
    compare_head,
    compare_hold,
    compare_mirror,
    compare_operation,
    unknown_hold,
    unknown_operation,
)
from concierge.ledger.repository import account_to_document
from concierge.ledger.transfers import Head

NOW = datetime(2026, 1, 2, tzinfo=UTC)
HEAD = Head(seq=4, hash="a" * 64, posted=900, held=50, counters={"expense:bonus": -1_000, "revenue:chat": 100})
HOLD = HoldTruth("captured", 50, 20, 2, "2026-01-01T00:00:00.000Z", 3, "b" * 64, "settle:r1")
OPERATION = OperationTruth(4, "c" * 64, "grant", 10, "expense:bonus", None)
HOLD_DOCUMENT = {
    "state": "captured",
    "amount": 50,
    "captured": 20,
    "entrySeq": 3,
    "entryHash": "b" * 64,
    "resolvedBy": "settle:r1",
    "refusal": None,
    "placedSeq": 2,
    "note": "whatever",
    "fence": 7,
}
OPERATION_DOCUMENT = {"requestHash": "h", "seq": 4, "hash": "c" * 64, "amount": 10}

other_values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.floats(allow_nan=False), st.binary(max_size=3)
)


def head_document(**fields: Any) -> dict[str, Any]:
    return {**account_to_document("alice", HEAD), "changedAt": NOW, **fields}


def same(found: Any, wanted: Any) -> bool:
    return bool(found == wanted) and type(found) is type(wanted)


def head_damages(document: dict[str, Any] | None) -> list[Any]:
    return compare_head("alice", document, HEAD, newest={"at": "2026-01-01T00:00:00.000Z"}, read_at=NOW)


def test_a_derivation_says_what_became_of_each_hold_and_operation(chain: Any) -> None:
    """The chain of tests/ledger/conftest.py: a grant, then three holds with one resolution each."""
    derivation = Derivation()
    numbered = [replace(entry, place=number) for number, entry in enumerate(chain.entries, start=1)]
    assert list(derivation.through(numbered)) == numbered
    assert {hold_id: (hold.state, hold.captured) for hold_id, hold in derivation.holds.items()} == {
        "r1": ("captured", 1_234),
        "r2": ("released", 0),
        "r3": ("expired", 0),
    }
    assert [(hold.placed_seq, hold.entry_seq) for hold in derivation.holds.values()] == [(2, 3), (4, 5), (6, 7)]
    assert derivation.operations["welcome-bonus"].seq == 1
    assert derivation.open == {}


@pytest.mark.parametrize("cut", range(8))
def test_a_derivation_goes_on_where_another_one_stopped(chain: Any, cut: int) -> None:
    numbered = [replace(entry, place=number) for number, entry in enumerate(chain.entries, start=1)]
    whole, first = Derivation(), Derivation()
    for entry in numbered:
        whole.take(entry)
    for entry in numbered[:cut]:
        first.take(entry)
    second = Derivation(Progress(Head(seq=cut), first.open, first.seals))
    for entry in numbered[cut:]:
        second.take(entry)
    assert {**first.holds, **second.holds} == whole.holds
    assert {**first.operations, **second.operations} == whole.operations
    assert (second.open, second.seals) == (whole.open, whole.seals)


def test_a_changed_signature_or_key_id_changes_the_digest_of_the_seals(chain: Any) -> None:
    """The hashes do not cover them."""
    digests = set()
    for change in ({}, {"signature": bytes(64)}, {"key_id": "0" * 16}):
        derivation = Derivation()
        for entry in [replace(chain.entries[0], **change), *chain.entries[1:]]:
            derivation.take(entry)
        digests.add(derivation.seals)
    assert len(digests) == 3


def test_what_is_right_is_not_reported() -> None:
    assert head_damages(head_document()) == []
    assert compare_hold("alice", "r1", HOLD_DOCUMENT, HOLD) == []
    assert compare_operation("alice", "o", OPERATION_DOCUMENT, OPERATION) == []
    assert compare_operation("alice", "o", {**OPERATION_DOCUMENT, "memo": "m", "actor": "a"}, OPERATION) == []


@given(
    name=st.sampled_from(["seq", "headHash", "posted", "held", "debt", "frozen", "epoch", "counters", "bucket"]),
    value=other_values,
)
def test_every_other_value_in_a_head_is_reported(name: str, value: Any) -> None:
    document = head_document()
    if same(document[name], value):
        return
    (damage,) = head_damages({**document, name: value})
    assert (damage.uid, damage.code) == ("alice", "HEAD_MISMATCH")
    assert name in damage.message
    del document[name]
    assert [damage.code for damage in head_damages(document)] == ["HEAD_MISMATCH"]


@given(
    name=st.sampled_from(
        ["state", "amount", "captured", "entrySeq", "entryHash", "resolvedBy", "refusal", "placedSeq"]
    ),
    value=other_values,
)
def test_every_other_value_in_a_hold_is_reported(name: str, value: Any) -> None:
    if same(HOLD_DOCUMENT[name], value):
        return
    (damage,) = compare_hold("alice", "r1", {**HOLD_DOCUMENT, name: value}, HOLD)
    assert (damage.uid, damage.seq, damage.code, damage.subject) == ("alice", 3, "HOLD_MISMATCH", "r1")


@given(name=st.sampled_from(["seq", "hash", "amount", "refusal"]), value=other_values)
def test_every_other_value_in_a_record_is_reported(name: str, value: Any) -> None:
    if same({"refusal": None, **OPERATION_DOCUMENT}[name], value):
        return
    (damage,) = compare_operation("alice", "o", {**OPERATION_DOCUMENT, name: value}, OPERATION)
    assert (damage.uid, damage.seq, damage.code, damage.subject) == ("alice", 4, "OP_MISMATCH", "o")


@pytest.mark.parametrize(
    "changed_at",
    [None, "soon", datetime(2026, 1, 3, tzinfo=UTC), datetime(2025, 12, 31, tzinfo=UTC)],
    ids=["none", "text", "later than it was read", "before the entry was made"],
)
def test_a_time_that_hides_an_account_from_the_change_feed_is_reported(changed_at: Any) -> None:
    (damage,) = head_damages(head_document(changedAt=changed_at))
    assert "changedAt" in damage.message


def test_a_head_that_is_gone_is_reported_only_where_there_are_entries() -> None:
    assert [damage.code for damage in head_damages(None)] == ["HEAD_MISSING"]
    assert compare_head("alice", None, Head(), newest={}, read_at=NOW) == []


def test_counters_of_an_account_that_is_older_than_they_are() -> None:
    """They began with what it owned then, and have to add up with that."""
    older = {"opening": -500, "expense:bonus": -500, "revenue:chat": 100}
    assert head_damages(head_document(counters=older)) == []
    assert len(head_damages(head_document(counters={**older, "opening": -501}))) == 1


def test_documents_without_an_entry_are_reported_unless_they_were_refused() -> None:
    assert unknown_hold("alice", "r", {"state": "refused", "entrySeq": 0}) == []
    assert [d.code for d in unknown_hold("alice", "r", {"state": "refused", "entrySeq": 3})] == ["HOLD_UNKNOWN"]
    assert [d.code for d in unknown_hold("alice", "r", {"state": "held"})] == ["HOLD_UNKNOWN"]
    assert unknown_operation("alice", "o", {"refusal": {"reason": "x"}, "seq": 0}) == []
    assert [d.code for d in unknown_operation("alice", "o", {"seq": 2})] == ["OP_UNKNOWN"]


@pytest.mark.parametrize(
    ("shown", "codes"),
    [
        (None, []),
        ({"seq": 3, "posted": 1, "held": 0, "available": 1}, []),
        ({"seq": 4, "posted": 900, "held": 50, "available": 850, "updatedAt": 1}, []),
        ({"seq": 4, "posted": 901, "held": 50, "available": 851}, ["MIRROR_MISMATCH"]),
        ({"seq": 5, "posted": 900, "held": 50, "available": 850}, ["MIRROR_MISMATCH"]),
        ({"posted": 900}, ["MIRROR_MISMATCH"]),
        ({"seq": -1}, ["MIRROR_MISMATCH"]),
        (5, ["MIRROR_MISMATCH"]),
    ],
)
def test_a_balance_that_is_only_late_is_no_damage(shown: Any, codes: list[str]) -> None:
    assert [damage.code for damage in compare_mirror("alice", shown, HEAD)] == codes
