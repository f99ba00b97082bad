"""The roll-up: what changed of people's months becomes part of the months of all, exactly once.

What has been rolled up of an account is kept beside it. Each run takes the accounts that changed from the change feed,
a bounded batch at a time, and commits the difference between what was counted and what was rolled up: into the months
of all and into the account's own record, in one commit that only happens if neither has changed meanwhile. Runs that
overlap, are repeated or die at any place add nothing twice; what one leaves, the next one finds as a difference.

With every difference the costs are compared with the head as of the same moment; see reconciliation.py.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice

from google.api_core import exceptions as google_exceptions

from concierge.credits.usage import cells
from concierge.credits.usage.cells import Cells
from concierge.credits.usage.reconciler import Reconciler
from concierge.credits.usage.reconciliation import Account
from concierge.credits.usage.repository import Rolled, UsageRepository
from concierge.kit.faults import fault_point
from concierge.kit.logging import log
from concierge.kit.retry import Backoff, call_with_retry
from concierge.ledger.changes import ChangedAccount, ChangeFeed
from concierge.ledger.repository import BUCKETS

ACCOUNTS_PER_COMMIT = 50
# Some 40 bytes each: a commit may have 10 MiB.
_COUNTERS_PER_COMMIT = 50_000
_LOST_RACES = (
    google_exceptions.Aborted,
    google_exceptions.AlreadyExists,
    google_exceptions.FailedPrecondition,
)
# Nothing that an account could be to blame for: the next run does what this one could not.
_PASSING = (
    *_LOST_RACES,
    google_exceptions.ServiceUnavailable,
    google_exceptions.DeadlineExceeded,
    google_exceptions.InternalServerError,
    google_exceptions.ResourceExhausted,
    google_exceptions.RetryError,
)
_BACKOFF = Backoff(attempts=8, base_seconds=0.1, cap_seconds=2.0)


class UsageRollup:
    """One instance of the scheduled function."""

    def __init__(
        self,
        repository: UsageRepository,
        feed: ChangeFeed,
        reconciler: Reconciler,
        *,
        accounts_per_commit: int = ACCOUNTS_PER_COMMIT,
    ) -> None:
        self._repository = repository
        self._feed = feed
        self._reconciler = reconciler
        self._accounts_per_commit = accounts_per_commit

    def run(self) -> Counter[str]:
        """One run; how many accounts were `changed`, `unchanged` and `error`, and how many ranges of them `postponed`.
        Safe at any time, any number at once."""
        report: Counter[str] = Counter()
        since = self._repository.begin_counting()
        for bucket in range(BUCKETS):
            try:
                self._roll_bucket(bucket, since, report)
            except _PASSING as error:
                log("WARNING", "usage.postponed", bucket=bucket, error=error)
                report["postponed"] += 1
        self._check_all()
        log("INFO", "usage.rolled_up", outcomes=report)
        return report

    def _roll_bucket(self, bucket: int, since: datetime, report: Counter[str]) -> None:
        """A cursor for each range, saved as it moves: a run that ends early has still come some way."""
        consumer = f"usage-{bucket:02d}"
        latest = self._feed.load_cursor(consumer)
        for accounts in self._batches(self._feed.in_bucket(bucket, latest)):
            report.update(self._roll_batch([account.uid for account in accounts], since))
            fault_point("usage_rollup.committed")
            self._feed.save_cursor(consumer, accounts[-1].changed_at)

    def _batches(self, accounts: Iterator[ChangedAccount]) -> Iterator[list[ChangedAccount]]:
        while batch := list(islice(accounts, self._accounts_per_commit)):
            yield batch

    def _roll_batch(self, uids: Sequence[str], since: datetime) -> Counter[str]:
        """All of a batch in one commit; one by one if that fails, so that a broken account keeps nobody waiting. It is
        met again when it changes, and nothing of it is lost."""
        try:
            return call_with_retry(lambda: self._roll(uids, since), backoff=_BACKOFF, retry_on=_LOST_RACES)
        except _PASSING:
            raise
        except Exception as error:  # noqa: BLE001  # one broken account must not stop the roll-up of the others
            if len(uids) == 1:
                log("ERROR", "usage.not_rolled_up", uid=uids[0], error=error)
                return Counter(error=1)
        report: Counter[str] = Counter()
        for uid in uids:
            report.update(self._roll_batch([uid], since))
        return report

    def _roll(self, uids: Sequence[str], since: datetime) -> Counter[str]:
        report: Counter[str] = Counter()
        pending: list[Rolled] = []
        size = 0
        for look in self._repository.look(uids):
            rolled = self._reconciler.advance(look, lambda: since)
            if rolled is None or not rolled.is_new:
                report["unchanged"] += 1
                continue
            if rolled.account.difference:
                log(
                    "ERROR",
                    "usage.unreconciled",
                    uid=look.uid,
                    seq=rolled.account.seq,
                    differenceMicrocredits=rolled.account.difference,
                )
            size += sum(cells.size_of(each) for each in (*rolled.months.values(), *rolled.changes.values()))
            if pending and size > _COUNTERS_PER_COMMIT:
                self._commit(pending)
                pending, size = [], 0
            pending.append(rolled)
            report["changed"] += 1
        if pending:
            self._commit(pending)
        return report

    def _commit(self, accounts: Sequence[Rolled]) -> None:
        months: dict[str, Cells] = {}
        expected = unreconciled = 0
        for rolled in accounts:
            known = rolled.look.known or Account()
            expected += rolled.account.expected - known.expected
            unreconciled += (rolled.account.difference != 0) - (known.difference != 0)
            for month, change in rolled.changes.items():
                months[month] = cells.added(months.get(month, {}), change)
        fault_point("usage_rollup.decided")
        self._repository.commit(accounts, months, expected, unreconciled)

    def _check_all(self) -> None:
        check = self._repository.overall_check()
        if not check.reconciled:
            log(
                "ERROR",
                "usage.unreconciled",
                scope="overall",
                differenceMicrocredits=check.difference,
                accounts=check.unreconciled,
            )
        self._repository.save_check(check)
        fault_point("usage_rollup.checked")
