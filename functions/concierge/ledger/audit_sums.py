"""What an audit adds up, and how its parts add up. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from concierge.ledger import transfers
from concierge.ledger.entries import StoredEntry
from concierge.ledger.verification import Finding

# Findings that are about no entry that is there.
_OF_THE_CHAIN = frozenset({"MISSING_ENTRY", "TRUNCATED", "HEAD_MISMATCH"})


@dataclass(frozen=True, slots=True)
class Balance:
    """In microcredits."""

    posted: int = 0
    held: int = 0

    def __add__(self, other: "Balance") -> "Balance":
        return Balance(self.posted + other.posted, self.held + other.held)


@dataclass(frozen=True, slots=True)
class Tally:
    """How many, and how much in microcredits."""

    count: int = 0
    amount: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.count + other.count, self.amount + other.amount)


@dataclass(frozen=True, slots=True)
class OpenHold:
    """A hold that was open at the end of a range; `at` is when it was placed, RFC 3339."""

    hold_id: str
    seq: int
    amount: int
    at: str


@dataclass(frozen=True, slots=True)
class OpenHolds:
    """The holds that were open, oldest first; `unlisted` is what is held by holds that were not found."""

    total: Tally = Tally()
    unlisted: int = 0
    holds: list[OpenHold] = field(default_factory=list)


@dataclass(slots=True)
class AccountAudit:
    """A part of the report of one account: all of it if it is both first and last.

    `numbers` is how many entries there should be, `entries` how many there are; `unreadable` ones are in no sum.
    `kinds` and `counters` are by name; a counter's amount is by how much it moved. `covered_to` is the newest entry
    that a published checkpoint vouches for.
    """

    uid: str
    is_first: bool
    is_last: bool
    numbers: int
    opening: Balance
    closing: Balance
    findings: list[Finding]
    covered_to: int
    entries: int = 0
    unreadable: int = 0
    first_seq: int = 0
    last_seq: int = 0
    first_hash: str = ""
    last_hash: str = ""
    kinds: dict[str, Tally] = field(default_factory=dict)
    counters: dict[str, Tally] = field(default_factory=dict)
    key_ids: dict[str, int] = field(default_factory=dict)
    open_holds: OpenHolds = field(default_factory=OpenHolds)
    # How many entries were read for it; no part of what it says.
    cost: int = field(default=0, compare=False)

    @property
    def faulty(self) -> int:
        """How many entries have findings of their own."""
        return len({finding.seq for finding in self.findings if finding.code not in _OF_THE_CHAIN})

    @property
    def imbalance(self) -> int:
        """What the account gained less what its counters gave: zero, or the entries do not tell it."""
        moved = sum(tally.amount for tally in self.counters.values())
        return self.closing.posted - self.opening.posted + moved

    def take(self, entry: StoredEntry) -> None:
        """Counts the next entry."""
        if not self.entries:
            self.first_seq, self.first_hash = entry.place, entry.hash
        self.last_seq, self.last_hash = entry.place, entry.hash
        self.entries += 1
        self.key_ids[entry.key_id] = self.key_ids.get(entry.key_id, 0) + 1
        try:
            fields = entry.fields()
            kind, amount, counter = fields["kind"], fields["amount"], fields["counter"]
            if type(amount) is not int or not isinstance(kind, str) or not isinstance(counter, str):
                raise ValueError("an entry has a kind, an amount and a counter")
        except (ValueError, KeyError, TypeError, RecursionError):
            self.unreadable += 1
            return
        moved = -transfers.posted_change(kind, amount)
        name = transfers.total_name(counter)
        self.kinds[kind] = self.kinds.get(kind, Tally()) + Tally(1, amount)
        self.counters[name] = self.counters.get(name, Tally()) + Tally(1, moved)

    def join(self, later: "AccountAudit") -> None:
        """Adds the next part of the same account."""
        assert self.uid == later.uid and not self.is_last and not later.is_first, "parts come in their order"
        if later.entries:
            if not self.entries:
                self.first_seq, self.first_hash = later.first_seq, later.first_hash
            self.last_seq, self.last_hash = later.last_seq, later.last_hash
        self.is_last, self.closing, self.open_holds = later.is_last, later.closing, later.open_holds
        self.numbers += later.numbers
        self.entries += later.entries
        self.unreadable += later.unreadable
        self.covered_to = max(self.covered_to, later.covered_to)
        self.findings = [*self.findings, *later.findings]
        add_tallies(self.kinds, later.kinds)
        add_tallies(self.counters, later.counters)
        add_numbers(self.key_ids, later.key_ids)


@dataclass(slots=True)
class Totals:
    """The sums over parts of accounts. An account's opening balance is in the sum that has its first part, its closing
    balance and itself in the one that has its last; so the sums of all pages add up to those of the whole."""

    accounts: int = 0
    opening: Balance = Balance()
    closing: Balance = Balance()
    entries: int = 0
    faulty: int = 0
    unreadable: int = 0
    imbalance: int = 0
    kinds: dict[str, Tally] = field(default_factory=dict)
    counters: dict[str, Tally] = field(default_factory=dict)
    findings: dict[str, int] = field(default_factory=dict)
    key_ids: dict[str, int] = field(default_factory=dict)
    open_holds: Tally = Tally()
    unlisted: int = 0

    def add(self, part: AccountAudit) -> None:
        """One more part of an account."""
        if part.is_first:
            self.opening += part.opening
        if part.is_last:
            self.accounts += 1
            self.closing += part.closing
        self.entries += part.entries
        self.faulty += part.faulty
        self.unreadable += part.unreadable
        self.imbalance += part.imbalance
        self.open_holds += part.open_holds.total
        self.unlisted += part.open_holds.unlisted
        add_tallies(self.kinds, part.kinds)
        add_tallies(self.counters, part.counters)
        add_numbers(self.key_ids, part.key_ids)
        for finding in part.findings:
            self.findings[finding.code] = self.findings.get(finding.code, 0) + 1

    @property
    def sound(self) -> bool:
        """Whether nothing at all was found wrong."""
        return not self.findings and not self.imbalance and not self.unreadable


def add_tallies(sums: dict[str, Tally], more: Mapping[str, Tally]) -> None:
    for name, tally in more.items():
        sums[name] = sums.get(name, Tally()) + tally


def add_numbers(sums: dict[str, int], more: Mapping[str, int]) -> None:
    for name, number in more.items():
        sums[name] = sums.get(name, 0) + number
