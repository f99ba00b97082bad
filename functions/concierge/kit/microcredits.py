"""Amounts of money. One credit is 1,000,000 microcredits; every amount is an integer of microcredits.

Amounts stay below 2**53, so that any JSON reader (RFC 8785 numbers are IEEE doubles) sees the exact integer.
"""

from decimal import Decimal

MICROCREDITS_PER_CREDIT = 1_000_000
AMOUNT_MAX_MICROCREDITS = 2**53 - 1


def from_credits(credits: Decimal | int) -> int:
    """Credits to microcredits. Raises ValueError if the amount is negative, too large or finer than a microcredit."""
    scaled = Decimal(credits) * MICROCREDITS_PER_CREDIT
    amount = int(scaled)
    if amount != scaled:
        raise ValueError("an amount of credits has at most 6 decimal places")
    return checked(amount)


def checked(amount: object, *, minimum: int = 0) -> int:
    """The amount if it is a plain integer in range; ValueError otherwise. True is not an amount."""
    if type(amount) is not int:
        raise ValueError(f"an amount is a whole number of microcredits, not {type(amount).__name__}")
    if not minimum <= amount <= AMOUNT_MAX_MICROCREDITS:
        raise ValueError(f"an amount lies between {minimum} and {AMOUNT_MAX_MICROCREDITS} microcredits, not {amount}")
    return amount


def show(amount_microcredits: int) -> str:
    """For people: 1234567 -> '1.234567', 1000000000 -> '1,000'."""
    whole, fraction = divmod(abs(amount_microcredits), MICROCREDITS_PER_CREDIT)
    sign = "-" if amount_microcredits < 0 else ""
    digits = f"{fraction:06d}".rstrip("0")
    return f"{sign}{whole:,}" + (f".{digits}" if digits else "")
