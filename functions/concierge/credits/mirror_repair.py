"""Finds mirrors that drifted: deliveries that were lost, and balances that somebody edited.

Accounts that changed are looked at soon, through the change feed; all others in turns, a few in each run.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import islice

from concierge.credits.mirror import BalanceMirror
from concierge.kit.logging import log
from concierge.ledger.changes import ChangedAccount, ChangeFeed
from concierge.ledger.transfers import Head

_CONSUMER = "mirror"
_ROTATION = "mirror-rotation"
_AT_ONCE = 8
_BATCH = 500
_FIRST_LOOK = timedelta(hours=1)
# What keeps failing is met again in turns: it must not make all later runs look at more and more.
_HELD_BACK_MAX = timedelta(hours=1)
ROTATION_ACCOUNTS = 100

Note = Callable[[str, Head], object]


def repair(
    mirror: BalanceMirror,
    feed: ChangeFeed,
    note: Note | None = None,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    rotation_accounts: int = ROTATION_ACCOUNTS,
) -> Counter[str]:
    """One run; how often each outcome of `sync` came, `error` included. `note` hears of every head that was looked at:
    whoever follows balances through deliveries makes up for lost ones there. Safe to run any number of times at once.
    """
    report: Counter[str] = Counter()
    cursor = feed.load_cursor(_CONSUMER)
    # A first run leaves the accounts of earlier times to the rotation: it must end, however many there are.
    latest, failed_at = cursor or now() - _FIRST_LOOK, datetime.max.replace(tzinfo=UTC)

    def look(account: ChangedAccount) -> str:
        try:
            # The order matters: first the mirror, then who reads it.
            outcome = "none" if mirror.agrees(account.uid, account.head) else mirror.sync(account.uid).action
            if note is not None:
                note(account.uid, account.head)
        except Exception as error:  # noqa: BLE001  # one broken balance must not keep the others waiting
            log("ERROR", "mirror.not_repaired", uid=account.uid, error=error)
            return "error"
        return outcome

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="mirror") as pool:
        for accounts in _batches(feed.since(latest)):
            for account, outcome in zip(accounts, pool.map(look, accounts), strict=True):
                report[outcome] += 1
                # A time in the future is one that somebody wrote: it must not move the cursor there.
                latest = max(latest, min(account.changed_at, now()))
                if outcome == "error":
                    failed_at = min(failed_at, account.changed_at)
        report.update(pool.map(look, feed.rotate(_ROTATION, rotation_accounts)))
    feed.save_cursor(_CONSUMER, max(min(latest, failed_at), latest - _HELD_BACK_MAX))
    log("INFO", "mirror.repair_done", outcomes=report)
    return report


def _batches(accounts: Iterator[ChangedAccount]) -> Iterator[list[ChangedAccount]]:
    while batch := list(islice(accounts, _BATCH)):
        yield batch
