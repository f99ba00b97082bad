"""The rules of the ledger once more, for tests: written from its description, without a line of the code under test.

A `Book` is one account: what it owns, its open holds by id, whether it is frozen, what its counters have. Each method
says what has to happen and books it: `Moved`, `Refused`, or ValueError for what is no operation at all.
"""

from dataclasses import dataclass, field
from typing import Any

LIMIT = 9_007_199_254_740_991
"""The largest integer that every JSON reader sees exactly."""


@dataclass(frozen=True)
class Moved:
    """The entry that has to come of it."""

    kind: str
    amount: int
    counter: str


@dataclass(frozen=True)
class Refused:
    reason: str
    missing: int
    available: int


def is_amount(value: Any) -> bool:
    """A plain positive integer that is exact everywhere."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LIMIT


def _need(condition: bool) -> None:
    if not condition:
        raise ValueError("the model refuses it")


@dataclass
class Book:
    """One account."""

    owned: int = 0
    holds: dict[str, int] = field(default_factory=dict)
    frozen: bool = False
    counters: dict[str, int] = field(default_factory=dict)

    @property
    def held(self) -> int:
        return sum(self.holds.values())

    @property
    def free(self) -> int:
        return self.owned - self.held

    @property
    def debt(self) -> int:
        return -self.owned if self.owned < 0 else 0

    def receive(self, kind: str, amount: Any, counter: str) -> Moved:
        """A grant, purchase, refund, transfer-in or positive adjustment."""
        _need(is_amount(amount))
        _need(self.owned + amount <= LIMIT)
        return self._book(amount, Moved(kind, amount, counter))

    def claw_back(self, amount: Any, counter: str) -> Moved:
        _need(is_amount(amount))
        _need(self.owned - amount >= -LIMIT)
        return self._book(-amount, Moved("clawback", amount, counter))

    def correct(self, amount: Any, counter: str) -> Moved | Refused:
        if isinstance(amount, int) and amount < 0:
            _need(is_amount(-amount))
            if self.free + amount < 0:
                return self._short(-amount)
            return self._book(amount, Moved("adjust", amount, counter))
        return self.receive("adjust", amount, counter)

    def set_frozen(self, frozen: bool) -> Moved:
        _need(self.frozen is not frozen)
        self.frozen = frozen
        return Moved("adjust", 0, "control:freeze" if frozen else "control:unfreeze")

    def place(self, hold_id: str, amount: Any, minimum: Any) -> Moved | Refused:
        _need(is_amount(amount) and is_amount(minimum) and minimum <= amount)
        if self.frozen:
            return Refused("ACCOUNT_FROZEN", 0, max(self.free, 0))
        if self.free < minimum:
            return self._short(minimum)
        self.holds[hold_id] = amount if amount < self.free else self.free
        return Moved("hold", self.holds[hold_id], "held")

    def capture(self, hold_id: str, amount: Any, counter: str) -> Moved:
        _need(is_amount(amount) and amount <= self.holds[hold_id])
        del self.holds[hold_id]
        return self._book(-amount, Moved("capture", amount, counter))

    def let_go(self, hold_id: str, kind: str) -> Moved:
        """A release or an expiry."""
        return Moved(kind, self.holds.pop(hold_id), "held")

    def send(self, other: "Book", names: tuple[str, str], amount: Any) -> tuple[Moved, Moved] | Refused:
        """A transfer to another account, both halves or none."""
        _need(is_amount(amount))
        if self.frozen:
            return Refused("ACCOUNT_FROZEN", 0, max(self.free, 0))
        if self.free < amount:
            return self._short(amount)
        received = other.receive("transfer-in", amount, f"account:{names[0]}")
        return self._book(-amount, Moved("transfer-out", amount, f"account:{names[1]}")), received

    def _short(self, wanted: int) -> Refused:
        return Refused("INSUFFICIENT_CREDITS", wanted - self.free, self.free)

    def _book(self, change: int, moved: Moved) -> Moved:
        self.owned += change
        name = "account" if moved.counter.startswith("account:") else moved.counter
        self.counters[name] = self.counters.get(name, 0) - change
        return moved
