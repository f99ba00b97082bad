"""Whether the costs that were counted are the revenue that the ledger has, to the microcredit. Pure.

A capture moves a `revenue:` counter of its account's head by what it charges, and the month's costs by the same amount,
in one commit; so as of any one moment

    costs = revenue + what was given back - what the account had before anything was counted

holds exactly. What was given back are the entries against a revenue counter that are no captures: refunds, adjustments.
They are looked for only when the two sides have moved by different amounts, and only among the new entries.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from concierge.ledger.entries import StoredEntry
from concierge.ledger.transfers import Head, posted_change

_REVENUE = "revenue:"


@dataclass(frozen=True, slots=True)
class Account:
    """An account as it was last rolled up. Amounts in microcredits.

    `revenue` is that of the head at entry `seq`; `given_back` what entries up to it returned; `opening` the declared
    starting point: the revenue from before anything was counted. `cost` is all that was counted.
    """

    seq: int = 0
    cost: int = 0
    revenue: int = 0
    given_back: int = 0
    opening: int = 0

    @property
    def expected(self) -> int:
        """What the costs should be."""
        return self.revenue + self.given_back - self.opening

    @property
    def difference(self) -> int:
        """By how much the costs exceed what the ledger says; 0 if all is well."""
        return self.cost - self.expected


def revenue_of(head: Head) -> int:
    """Microcredits that captures moved into revenue, less what was given back."""
    return sum(amount for name, amount in head.counters.items() if name.startswith(_REVENUE))


def moved_on(account: Account, head: Head, cost_change: int) -> Account:
    """The account at a later head, with what was counted since. A difference that is new may have been given back."""
    return replace(account, seq=head.seq, revenue=revenue_of(head), cost=account.cost + cost_change)


def given_back(entries: Iterable[StoredEntry]) -> int:
    """What these entries took out of revenue again, other than by captures; negative if they added to it."""
    total = 0
    for entry in entries:
        fields = entry.fields()
        if fields["kind"] != "capture" and fields["counter"].startswith(_REVENUE):
            total += posted_change(fields["kind"], fields["amount"])
    return total


def opened(head: Head, cost: int) -> Account:
    """The starting point of an account that is older than the counters: what its ledger says now agrees by
    declaration."""
    return Account(head.seq, cost, revenue_of(head), 0, revenue_of(head) - cost)
