"""The rules of the ledger, by example and by property."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concierge.kit.microcredits import AMOUNT_MAX_MICROCREDITS
from concierge.ledger.transfers import Head, Movement, Refusal, advance, credit, hold, resolve

AMOUNTS = st.integers(1, 10**9)


def head(posted: int, held: int = 0, *, frozen: bool = False) -> Head:
    return Head(posted=posted, held=held, frozen=frozen)


def test_a_credit_adds_to_posted() -> None:
    assert credit(head(5), "grant", 10, "expense:bonus") == Movement("grant", 10, "expense:bonus", 15, 0)


@pytest.mark.parametrize("amount", [0, -1, 1.5, 1.0, True, "1", None, AMOUNT_MAX_MICROCREDITS + 1])
def test_an_amount_is_a_positive_integer(amount: object) -> None:
    with pytest.raises(ValueError, match="amount"):
        credit(head(5), "grant", amount, "expense:bonus")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="amount"):
        hold(head(5), amount, amount)  # type: ignore[arg-type]


def test_a_credit_cannot_overflow_the_account() -> None:
    with pytest.raises(ValueError, match="exceed"):
        credit(head(AMOUNT_MAX_MICROCREDITS), "grant", 1, "expense:bonus")


def test_a_hold_takes_what_is_asked_for() -> None:
    assert hold(head(100, 20), 50, 10) == Movement("hold", 50, "held", 100, 70)


def test_a_hold_shrinks_to_what_is_available_down_to_its_minimum() -> None:
    assert hold(head(100, 70), 50, 30) == Movement("hold", 30, "held", 100, 100)
    assert hold(head(100, 71), 50, 30) == Refusal("INSUFFICIENT_CREDITS", missing=1, available=29)


def test_a_frozen_account_holds_nothing() -> None:
    assert isinstance(hold(head(100, frozen=True), 1, 1), Refusal)


@pytest.mark.parametrize("captured", [0, -1, 51, 1.5, True])
def test_a_capture_stays_within_its_hold(captured: object) -> None:
    with pytest.raises(ValueError):
        resolve(head(100, 50), "capture", 50, captured, "revenue:chat")  # type: ignore[arg-type]


@given(
    posted=st.integers(0, 10**9),
    steps=st.lists(st.tuples(st.sampled_from(["grant", "hold", "capture", "release", "expire"]), AMOUNTS), max_size=40),
)
def test_no_sequence_of_transfers_overdraws_or_leaks(posted: int, steps: list[tuple[str, int]]) -> None:
    """The books against a model: held is the sum of the open holds, posted what came in less what was captured."""
    state = head(posted)
    open_holds: list[int] = []
    expected_posted = posted
    for kind, amount in steps:
        if kind == "grant":
            outcome: Movement | Refusal = credit(state, "grant", amount, "expense:bonus")
            expected_posted += amount
        elif kind == "hold":
            outcome = hold(state, amount, 1)
            if isinstance(outcome, Refusal):
                assert state.available < 1
                continue
            open_holds.append(outcome.amount)
        elif open_holds:
            held_amount = open_holds.pop()
            captured = min(amount, held_amount) if kind == "capture" else 0
            outcome = resolve(state, kind, held_amount, captured, "revenue:chat")  # type: ignore[arg-type]
            expected_posted -= captured
        else:
            continue
        state = advance(state, outcome, "0" * 64)
        assert state.held == sum(open_holds)
        assert state.posted == expected_posted
        assert 0 <= state.held <= state.posted
