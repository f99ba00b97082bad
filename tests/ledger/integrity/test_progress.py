"""The sealed documents: only what we sealed, for this account, is believed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tampering import STRANGER

from concierge.ledger.integrity.progress import (
    CURSOR_CHARACTERS_MAX,
    State,
    open_cursor,
    open_state,
    seal_cursor,
    seal_state,
)
from concierge.ledger.integrity.replay import OpenHold, Progress
from concierge.ledger.signatures import Keyring
from concierge.ledger.transfers import Head

KEYRING = Keyring.from_text("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", [])
PROGRESS = Progress(
    Head(seq=7, hash="a" * 64, posted=5, held=2, counters={"revenue:chat": -5}),
    {"r1": OpenHold(2, 6, "b" * 64, "2026-01-01T00:00:00.000Z")},
    "d" * 64,
)
STATE = State(PROGRESS, anchor=4, habits={"day": "2026-01-01", "usual": 12})


def test_what_was_sealed_is_read_back() -> None:
    document = seal_state(KEYRING, "ledger", "alice", STATE)
    assert open_state(KEYRING, "ledger", "alice", document) == STATE
    cursor = seal_cursor(KEYRING, "ledger", "alice", PROGRESS)
    assert cursor is not None
    assert open_cursor(KEYRING, "ledger", "alice", cursor) == (PROGRESS.head, [6])


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7), name=st.sampled_from(["content", "signature"]))
def test_a_state_with_any_other_bit_is_not_believed(position: int, bit: int, name: str) -> None:
    document = seal_state(KEYRING, "ledger", "alice", STATE)
    raw = bytearray(document[name])
    raw[position % len(raw)] ^= 1 << bit
    assert open_state(KEYRING, "ledger", "alice", {**document, name: bytes(raw)}) is None


@pytest.mark.parametrize("document", [None, {}, {"content": "text", "keyId": 1, "signature": None}, {"content": b""}])
def test_whatever_else_is_there_is_not_believed(document: Any) -> None:
    assert open_state(KEYRING, "ledger", "alice", document) is None


def test_a_state_is_of_one_account_and_one_ledger_and_signed_by_us() -> None:
    document = seal_state(KEYRING, "ledger", "alice", STATE)
    assert open_state(KEYRING, "ledger", "bob", document) is None
    assert open_state(KEYRING, "other", "alice", document) is None
    assert open_state(KEYRING, "ledger", "alice", seal_state(STRANGER, "ledger", "alice", STATE)) is None
    cursor = seal_cursor(KEYRING, "ledger", "alice", PROGRESS) or ""
    for keyring, ledger, uid, text in (
        (KEYRING, "ledger", "bob", cursor),
        (KEYRING, "other", "alice", cursor),
        (KEYRING, "ledger", "alice", seal_cursor(STRANGER, "ledger", "alice", PROGRESS) or ""),
        (KEYRING, "ledger", "alice", cursor[:-4]),
        (KEYRING, "ledger", "alice", "A" + cursor[1:] if cursor[0] != "A" else "B" + cursor[1:]),
        (KEYRING, "ledger", "alice", ""),
        (KEYRING, "ledger", "alice", "x"),
        (KEYRING, "ledger", "alice", "ä"),
        (KEYRING, "ledger", "alice", "A" * (CURSOR_CHARACTERS_MAX + 1)),
    ):
        with pytest.raises(ValueError, match=r"."):
            open_cursor(keyring, ledger, uid, text)


def test_a_cursor_takes_many_open_holds_and_no_more_than_a_url_does() -> None:
    def with_holds(count: int) -> str | None:
        holds = {f"h{number}": OpenHold(1, number * 7, "", "") for number in range(1, count)}
        return seal_cursor(KEYRING, "ledger", "alice", Progress(PROGRESS.head, holds))

    assert with_holds(1_000) is not None
    assert with_holds(100_000) is None
