"""The rules of the ledger, without any storage.

Two-phase transfers as in TigerBeetle (docs/coding/two-phase-transfers.md): a hold reserves, and is then resolved
exactly once: captured (in part or whole), released or expired. With posted = what the account owns and held = the sum
of its open holds, both in microcredits:

    hold     needs posted - held >= amount        held += amount
    capture  c <= amount                          posted -= c, held -= amount
    release, expire                               held -= amount
    grant, purchase, refund                       posted += amount
"""

from dataclasses import dataclass, replace
from typing import Literal

from concierge.kit.microcredits import AMOUNT_MAX_MICROCREDITS, checked

CreditKind = Literal["grant", "purchase", "refund"]
ResolutionKind = Literal["capture", "release", "expire"]
EntryKind = Literal["grant", "purchase", "refund", "hold", "capture", "release", "expire"]

CREDIT_KINDS: frozenset[str] = frozenset({"grant", "purchase", "refund"})
GENESIS_HASH = "0" * 64
COUNTER_HELD = "held"
"""The counter side of entries that move credits between available and held, and hence nothing out of the account."""


@dataclass(frozen=True, slots=True)
class Head:
    """The state of an account after entry `seq`. Amounts in microcredits; `hash` is that entry's, hexadecimal."""

    seq: int = 0
    hash: str = GENESIS_HASH
    posted: int = 0
    held: int = 0
    debt: int = 0
    frozen: bool = False
    epoch: int = 1

    @property
    def available(self) -> int:
        """What a new hold may take; negative while the account is in debt."""
        return self.posted - self.held


@dataclass(frozen=True, slots=True)
class Movement:
    """What an accepted transfer does: the next entry's kind and amount, and the balance behind it."""

    kind: EntryKind
    amount: int
    counter: str
    posted_after: int
    held_after: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A hold that the account cannot cover. An outcome, not an error: it is stored under its operation id."""

    reason: Literal["INSUFFICIENT_CREDITS", "ACCOUNT_FROZEN"]
    missing: int
    available: int


def credit(head: Head, kind: CreditKind, amount: int, counter: str) -> Movement:
    """Adds credits. Raises ValueError for an amount that is not a positive integer or overflows the account."""
    assert kind in CREDIT_KINDS
    checked(amount, minimum=1)
    if head.posted + amount > AMOUNT_MAX_MICROCREDITS:
        raise ValueError(f"the balance would exceed {AMOUNT_MAX_MICROCREDITS} microcredits")
    return Movement(kind, amount, counter, head.posted + amount, head.held)


def hold(head: Head, amount: int, minimum: int) -> Movement | Refusal:
    """Reserves `amount`, or all that is available if that is at least `minimum`.

    The range keeps an oversized default from locking out a person who can pay for a shorter answer. Raises ValueError
    unless 0 < minimum <= amount.
    """
    checked(minimum, minimum=1)
    checked(amount, minimum=minimum)
    if head.frozen:
        return Refusal("ACCOUNT_FROZEN", 0, max(0, head.available))
    if head.available < minimum:
        return Refusal("INSUFFICIENT_CREDITS", minimum - head.available, head.available)
    granted = min(amount, head.available)
    return Movement("hold", granted, COUNTER_HELD, head.posted, head.held + granted)


def resolve(head: Head, kind: ResolutionKind, held_amount: int, captured: int, counter: str) -> Movement:
    """Ends a hold of `held_amount`. `captured` is 0 unless the kind is capture, and then 1..held_amount.

    Raises ValueError for a capture outside that range.
    """
    assert 0 < held_amount <= head.held, "an open hold is always part of held"
    if kind == "capture":
        checked(captured, minimum=1)
        if captured > held_amount:
            raise ValueError(f"a capture of {captured} exceeds its hold of {held_amount} microcredits")
        return Movement("capture", captured, counter, head.posted - captured, head.held - held_amount)
    assert captured == 0
    return Movement(kind, held_amount, COUNTER_HELD, head.posted, head.held - held_amount)


def advance(head: Head, movement: Movement, entry_hash: str) -> Head:
    """The head after an entry."""
    return replace(head, seq=head.seq + 1, hash=entry_hash, posted=movement.posted_after, held=movement.held_after)
