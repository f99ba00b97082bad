"""The rules of the ledger, without any storage.

Two-phase transfers as in TigerBeetle (docs/coding/two-phase-transfers.md): a hold reserves, and is then resolved
exactly once: captured (in part or whole), released or expired. With posted = what the account owns and held = the sum
of its open holds, both in microcredits:

    hold                     needs posted - held >= amount        held += amount
    capture                  c <= amount                          posted -= c, held -= amount
    release, expire                                               held -= amount
    grant, purchase, refund                                       posted += amount
    clawback                 even below zero: that is debt        posted -= amount
    adjust                   down to posted - held >= 0           posted += amount, which may be negative
    transfer-out             needs posted - held >= amount        posted -= amount
    transfer-in                                                   posted += amount

Every entry names its counter, the other side, which moves by the same amount in the other direction: what an account
owns and its counters always add up to zero (double entry, without a document that many accounts share).

An adjustment of 0 against `control:freeze` or `control:unfreeze` freezes or unfreezes the account: a frozen account
takes no new holds and sends no transfers, and goes on settling and receiving.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from concierge.kit.microcredits import AMOUNT_MAX_MICROCREDITS, checked

CreditKind = Literal["grant", "purchase", "refund"]
ResolutionKind = Literal["capture", "release", "expire"]
EntryKind = Literal[
    "grant",
    "purchase",
    "refund",
    "hold",
    "capture",
    "release",
    "expire",
    "clawback",
    "adjust",
    "transfer-out",
    "transfer-in",
]
RefusalReason = Literal["INSUFFICIENT_CREDITS", "ACCOUNT_FROZEN"]

CREDIT_KINDS: frozenset[str] = frozenset({"grant", "purchase", "refund"})
RESOLUTION_KINDS: frozenset[str] = frozenset({"capture", "release", "expire"})
GENESIS_HASH = "0" * 64
COUNTER_HELD = "held"
"""The counter side of entries that move credits between available and held, and hence nothing out of the account."""
COUNTER_FREEZE = "control:freeze"
COUNTER_UNFREEZE = "control:unfreeze"
COUNTER_OPENING = "opening"
"""What an account owned when its counters began to be kept: none of the accounts that this version opens."""
_ACCOUNT_COUNTER = "account"


@dataclass(frozen=True, slots=True)
class Head:
    """The state of an account after entry `seq`. Amounts in microcredits; `hash` is that entry's, hexadecimal.

    `debt` is how far the account is below zero. `quarantined` alone does not follow from the entries: it is set while
    the account is known to be damaged, and then nothing may be appended. `counters` are the other sides' totals by
    name, so that posted and they add up to zero; transfers with other accounts are one total, `account`.
    """

    seq: int = 0
    hash: str = GENESIS_HASH
    posted: int = 0
    held: int = 0
    debt: int = 0
    frozen: bool = False
    quarantined: bool = False
    epoch: int = 1
    counters: Mapping[str, int] = field(default_factory=dict)

    @property
    def available(self) -> int:
        """What a new hold may take; negative while the account is in debt."""
        return self.posted - self.held

    @property
    def blocked(self) -> bool:
        """Whether no new hold is taken, whatever is available."""
        return self.frozen or self.quarantined


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
    """A hold or transfer that the account cannot cover. An outcome, not an error: a hold's is stored under its id."""

    reason: RefusalReason
    missing: int
    available: int


def credit(head: Head, kind: CreditKind, amount: int, counter: str) -> Movement:
    """Adds credits. Raises ValueError for an amount that is not a positive integer or overflows the account."""
    assert kind in CREDIT_KINDS
    return _increase(head, kind, amount, counter)


def clawback(head: Head, amount: int, counter: str) -> Movement:
    """Takes credits back whose payment was refunded or disputed, also after they were spent: the rest is debt."""
    checked(amount, minimum=1)
    if head.posted - amount < -AMOUNT_MAX_MICROCREDITS:
        raise ValueError(f"the debt would exceed {AMOUNT_MAX_MICROCREDITS} microcredits")
    return Movement("clawback", amount, counter, head.posted - amount, head.held)


def adjust(head: Head, amount: int, counter: str) -> Movement | Refusal:
    """Corrects a balance by a signed amount, or by 0 freezes and unfreezes. Never makes or raises a debt."""
    if counter in (COUNTER_FREEZE, COUNTER_UNFREEZE):
        if amount != 0 or head.frozen is (counter == COUNTER_FREEZE):
            raise ValueError("a freeze changes the state and no amount")
        return Movement("adjust", 0, counter, head.posted, head.held)
    if type(amount) is int and amount < 0:
        checked(-amount, minimum=1)
        if head.available < -amount:
            return Refusal("INSUFFICIENT_CREDITS", -amount - head.available, head.available)
        return Movement("adjust", amount, counter, head.posted + amount, head.held)
    return _increase(head, "adjust", amount, counter)


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

    A capture is always possible, also when a clawback has meanwhile taken what was held: the work was promised.
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


def transfer_out(head: Head, amount: int, target: str) -> Movement | Refusal:
    """The paying half of a transfer to account `target`."""
    checked(amount, minimum=1)
    if head.frozen:
        return Refusal("ACCOUNT_FROZEN", 0, max(0, head.available))
    if head.available < amount:
        return Refusal("INSUFFICIENT_CREDITS", amount - head.available, head.available)
    return Movement("transfer-out", amount, account_counter(target), head.posted - amount, head.held)


def transfer_in(head: Head, amount: int, source: str) -> Movement:
    """The receiving half of a transfer from account `source`."""
    return _increase(head, "transfer-in", amount, account_counter(source))


def account_counter(uid: str) -> str:
    """The counter of a transfer with another account."""
    return f"{_ACCOUNT_COUNTER}:{uid}"


def posted_change(kind: str, amount: int) -> int:
    """By how much an entry moves `posted`; its counter moves by the opposite."""
    if kind in ("capture", "clawback", "transfer-out"):
        return -amount
    return 0 if kind in ("hold", "release", "expire") else amount


def total_name(counter: str) -> str:
    """The name under which a counter is summed up: its own, or one for all transfers between accounts."""
    return _ACCOUNT_COUNTER if counter.startswith(f"{_ACCOUNT_COUNTER}:") else counter


def advance(head: Head, movement: Movement, entry_hash: str) -> Head:
    """The head after an entry."""
    change = posted_change(movement.kind, movement.amount)
    counters = head.counters
    if change:
        name = total_name(movement.counter)
        counters = {**counters, name: counters.get(name, 0) - change}
    frozen = head.frozen
    if movement.kind == "adjust" and movement.counter in (COUNTER_FREEZE, COUNTER_UNFREEZE):
        frozen = movement.counter == COUNTER_FREEZE
    return replace(
        head,
        seq=head.seq + 1,
        hash=entry_hash,
        posted=movement.posted_after,
        held=movement.held_after,
        debt=max(0, -movement.posted_after),
        frozen=frozen,
        counters=counters,
    )


def _increase(head: Head, kind: EntryKind, amount: int, counter: str) -> Movement:
    checked(amount, minimum=1)
    if head.posted + amount > AMOUNT_MAX_MICROCREDITS:
        raise ValueError(f"the balance would exceed {AMOUNT_MAX_MICROCREDITS} microcredits")
    return Movement(kind, amount, counter, head.posted + amount, head.held)
