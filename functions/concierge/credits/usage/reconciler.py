"""Compares what was counted of an account with its head; for the roll-up, and for whoever asks."""

from collections.abc import Callable
from datetime import datetime

from concierge.credits.usage import cells
from concierge.credits.usage.reconciliation import Account, given_back, moved_on, opened, revenue_of
from concierge.credits.usage.repository import Look, Rolled, UsageRepository
from concierge.ledger.repository import LedgerRepository
from concierge.ledger.transfers import Head

Since = Callable[[], datetime | None]


class Reconciler:
    """Reads entries only where costs and revenue have moved by different amounts."""

    def __init__(self, repository: UsageRepository, ledger: LedgerRepository) -> None:
        self._repository = repository
        self._ledger = ledger

    def advance(self, look: Look, since: Since) -> Rolled | None:
        """What the account comes to, None if there is none. `since` says when counting began, None for not yet."""
        if look.head is None:
            return None
        rolled = self._compare(look, look.head, since)
        before = look.known.difference if look.known is not None else 0
        if rolled.account.difference != before:
            # Counted by a clock that is days off, in a month where nobody looks? Then all months are looked at.
            (wider,) = self._repository.look([look.uid], every_month=True)
            if wider.head is not None:
                return self._compare(wider, wider.head, since)
        return rolled

    def reconciled(self, uid: str) -> bool:
        """Whether everything that was counted of an account up to now is what its ledger says. Writes nothing."""
        (look,) = self._repository.look([uid])
        advanced = self.advance(look, self._repository.counting_since)
        return advanced is None or advanced.account.difference == 0

    def _compare(self, look: Look, head: Head, since: Since) -> Rolled:
        changes = {
            month: change
            for month, counted in look.months.items()
            if (change := cells.difference(counted, look.rolled[month]))
        }
        account = self._advanced(look, head, cells.cost_of(changes.values()), since)
        return Rolled(look, account, look.months, changes)

    def _advanced(self, look: Look, head: Head, cost_change: int, since: Since) -> Account:
        known = look.known or Account()
        account = moved_on(known, head, cost_change)
        if account.difference == known.difference:
            return account
        if look.known is None and self._is_older(look.uid, since()):
            return opened(head, cost_change)
        entries = self._ledger.entries(look.uid, known.seq, head.seq - known.seq) if head.seq > known.seq else ()
        returned = known.given_back + given_back(entries)
        return Account(head.seq, account.cost, revenue_of(head), returned, known.opening)

    def _is_older(self, uid: str, since: datetime | None) -> bool:
        """Whether an account was opened before counting began."""
        first = self._ledger.entry(uid, 1)
        return since is None or (first is not None and datetime.fromisoformat(first.fields()["at"]) < since)
