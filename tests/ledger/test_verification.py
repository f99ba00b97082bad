"""Verification: an honest chain passes, and every kind of tampering is named."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from concierge.kit.canonical import canonical_bytes
from concierge.ledger.entries import StoredEntry, entry_hash
from concierge.ledger.signatures import Keyring
from concierge.ledger.verification import Verification, verify_chain


def verify(chain: Any, entries: list[StoredEntry] | None = None, **changes: Any) -> Verification:
    arguments = {"ledger_id": chain.ledger_id, "uid": chain.uid, "keyring": chain.keyring, "head": chain.head}
    return verify_chain(chain.entries if entries is None else entries, **(arguments | changes))


def codes(verification: Verification) -> set[str]:
    return {finding.code for finding in verification.findings}


def test_an_honest_chain_verifies_and_adds_up(chain: Any) -> None:
    verification = verify(chain)
    assert verification.findings == []
    assert verification.entries == 7
    assert verification.head.posted == 1_000_000_000 - 1_234
    assert verification.head.held == 0
    # Double entry: what the account gained is what the counters lost.
    assert sum(verification.counters.values()) + verification.head.posted == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_any_flipped_bit_is_found(chain: Any, data: st.DataObject) -> None:
    entries = list(chain.entries)
    position = data.draw(st.integers(0, len(entries) - 1))
    entry = entries[position]
    part = data.draw(st.sampled_from(["content", "signature"]))
    raw = bytearray(getattr(entry, part))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    entries[position] = replace(entry, **{part: bytes(raw)})
    verification = verify(chain, entries)
    assert not verification.verified
    assert verification.findings[0].seq == position + 1


def test_swapped_entries_are_found(chain: Any) -> None:
    entries = [*chain.entries[:2], chain.entries[3], chain.entries[2], *chain.entries[4:]]
    assert {"BROKEN_SEQUENCE", "BROKEN_CHAIN"} <= codes(verify(chain, entries))


def test_a_deleted_entry_is_found(chain: Any) -> None:
    assert {"BROKEN_SEQUENCE", "BROKEN_CHAIN"} <= codes(verify(chain, chain.entries[:3] + chain.entries[4:]))


def test_a_truncated_tail_is_found_by_the_head(chain: Any) -> None:
    assert codes(verify(chain, chain.entries[:-2])) == {"TRUNCATED"}


def test_an_entry_of_another_account_is_found(chain: Any, new_chain: Callable[..., Any]) -> None:
    other = new_chain(uid="mallory").usual()
    assert "WRONG_ACCOUNT" in codes(verify(chain, other.entries, head=other.head))


def test_a_resealed_entry_needs_the_key(chain: Any, keyring_of: Callable[..., Keyring]) -> None:
    """Whoever rewrites an amount can mend the hash, but not the signature."""
    fields = {**json.loads(chain.entries[0].content), "amount": 9_000_000_000, "postedAfter": 9_000_000_000}
    content = canonical_bytes(fields)
    digest = entry_hash(content)
    forged = StoredEntry(content, digest, *keyring_of(66).sign(digest))
    assert "UNKNOWN_KEY" in codes(verify(chain, [forged, *chain.entries[1:]]))
    posing = replace(forged, key_id=chain.entries[0].key_id)
    assert "BAD_SIGNATURE" in codes(verify(chain, [posing, *chain.entries[1:]]))


def test_a_wrong_balance_is_found_even_with_the_key(chain: Any) -> None:
    fields = {**json.loads(chain.entries[-1].content), "postedAfter": 5_000_000_000}
    content = canonical_bytes(fields)
    digest = entry_hash(content)
    forged = StoredEntry(content, digest, *chain.keyring.sign(digest))
    assert "RULE_VIOLATION" in codes(verify(chain, [*chain.entries[:-1], forged], head=None))


def test_a_second_resolution_of_a_hold_is_found(chain: Any, new_chain: Callable[..., Any]) -> None:
    fields = json.loads(chain.entries[2].content)
    again = {**fields, "seq": 8, "prev": chain.head.hash, "postedAfter": chain.head.posted - 1_234, "heldAfter": 0}
    content = canonical_bytes(again)
    digest = entry_hash(content)
    entry = StoredEntry(content, digest, *chain.keyring.sign(digest))
    assert "MALFORMED" in codes(verify(chain, [*chain.entries, entry], head=None))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"v":1}'])
def test_garbage_is_named_not_raised(chain: Any, content: bytes) -> None:
    entry = StoredEntry(content, entry_hash(content), *chain.keyring.sign(entry_hash(content)))
    assert codes(verify(chain, [entry], head=None)) == {"MALFORMED"}


def test_old_entries_verify_after_the_key_was_rotated(
    new_chain: Callable[..., Any], keyring_of: Callable[..., Keyring]
) -> None:
    chain = new_chain(keyring=keyring_of(1)).usual()
    chain.keyring = keyring_of(2, 1)
    chain.usual()
    assert verify(chain).verified
    assert {entry.key_id for entry in chain.entries} == set(chain.keyring.published())
    assert "UNKNOWN_KEY" in codes(verify(chain, keyring=keyring_of(2)))
