from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concierge.kit.microcredits import AMOUNT_MAX_MICROCREDITS, checked, from_credits, show


def test_credits_become_microcredits_exactly() -> None:
    assert from_credits(1000) == 1_000_000_000
    assert from_credits(Decimal("0.000001")) == 1


@pytest.mark.parametrize("credits", [Decimal("0.0000001"), -1, Decimal(10) ** 12])
def test_what_is_no_amount_is_refused(credits: Decimal) -> None:
    with pytest.raises(ValueError):
        from_credits(credits)


@pytest.mark.parametrize("amount", [1.0, True, "1", None, -1, AMOUNT_MAX_MICROCREDITS + 1])
def test_checked_refuses_everything_but_integers_in_range(amount: object) -> None:
    with pytest.raises(ValueError):
        checked(amount)


def test_amounts_are_shown_for_people() -> None:
    assert [show(1_000_000_000), show(1_234_567), show(-500_000), show(0)] == ["1,000", "1.234567", "-0.5", "0"]


@given(st.integers(0, AMOUNT_MAX_MICROCREDITS))
def test_what_is_shown_is_exact(amount: int) -> None:
    assert from_credits(Decimal(show(amount).replace(",", ""))) == amount
