"""Where moments lie in a chain. Entries are stored by their numbers only, and their times rise with these: a moment is
found by bisection, at a cost that hardly grows with the history.

What was tampered with cannot say more of its time than its neighbours allow: it lies between them.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from concierge.ledger.entries import StoredEntry
from concierge.ledger.service import Ledger

_SKIPPED_MAX = 1_000
_BATCH = 100


def time_of(entry: StoredEntry) -> datetime | None:
    """When an entry was made; None for one that is damaged and does not say."""
    try:
        return datetime.fromisoformat(entry.fields()["at"]).astimezone(UTC)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def newest_where(ledger: Ledger, uid: str, last: int, passes: Callable[[datetime], bool]) -> int:
    """The number of the newest entry, `last` at most, whose time passes; 0 if there is none. `passes` is true for all
    times up to some moment and false for those behind it."""
    low, high = 0, last
    # Runs of entries that cannot be dated: the last of them, by the one before the first.
    runs: dict[int, int] = {}
    # The newest one first: most accounts were idle in most ranges.
    middle = last
    while low < high:
        dated = _first_dated(ledger, uid, middle, high)
        if dated is not None and passes(dated[1]):
            low = dated[0]
        else:
            # Behind a run that reaches `high` there may be one that was met before.
            runs[middle - 1] = dated[0] - 1 if dated is not None else runs.get(high, high)
            high = middle - 1
        middle = (low + high + 1) // 2
    end = runs.get(low, low)
    return _in_run(ledger, uid, low, end, passes) if low < end else low


def _in_run(ledger: Ledger, uid: str, before: int, end: int, passes: Callable[[datetime], bool]) -> int:
    """The last entry of a run behind `before` whose time, as it says itself, passes; one that says none goes with the
    one before it."""
    for entry in ledger.entries(uid, after_seq=before, limit=min(end - before, _SKIPPED_MAX)):
        if entry.place > end:
            break
        at = time_of(entry)
        if at is not None and not passes(at):
            return entry.place - 1
    return end


def _first_dated(ledger: Ledger, uid: str, first: int, last: int) -> tuple[int, datetime] | None:
    """(number, time) of the first entry from `first` to `last` whose seal is right."""
    after, size = first - 1, 1
    while after < min(last, first + _SKIPPED_MAX):
        entries = ledger.entries(uid, after_seq=after, limit=size)
        for entry in entries:
            if entry.place > last:
                return None
            at = time_of(entry)
            if at is not None and ledger.is_sealed(entry):
                return entry.place, at
        if len(entries) < size:
            return None
        after, size = entries[-1].place, _BATCH
    return None
