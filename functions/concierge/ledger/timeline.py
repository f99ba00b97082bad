"""Where moments lie in a chain. Entries are stored by their numbers only, and their times rise with these: a moment is
found by bisection, at a cost that hardly grows with the history.

What was tampered with says nothing of its time: such an entry counts as one of the moment of the entry before it.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from concierge.ledger.entries import StoredEntry
from concierge.ledger.service import Ledger

_SKIPPED_MAX = 1_000
_BATCH = 100


def time_of(entry: StoredEntry) -> datetime:
    """When an entry was made. Raises ValueError or KeyError for what cannot be read."""
    return datetime.fromisoformat(entry.fields()["at"]).astimezone(UTC)


def newest_where(ledger: Ledger, uid: str, last: int, passes: Callable[[datetime], bool]) -> int:
    """The number of the newest entry, `last` at most, whose time passes; 0 if there is none. `passes` is true for all
    times up to some moment and false for those behind it."""
    low, high = 0, last
    # Whoever cannot be dated goes with the entry before: (that one, the last of those that go with it).
    runs: list[tuple[int, int]] = []
    # The newest one first: most accounts were idle in most ranges.
    middle = last
    while low < high:
        dated = _first_dated(ledger, uid, middle, high)
        if dated is not None and passes(dated[1]):
            low = dated[0]
        else:
            runs.append((middle - 1, dated[0] - 1 if dated is not None else high))
            high = middle - 1
        middle = (low + high + 1) // 2
    for before, end in reversed(runs):
        if low == before:
            low = end
    return low


def _first_dated(ledger: Ledger, uid: str, first: int, last: int) -> tuple[int, datetime] | None:
    """(number, time) of the first entry from `first` to `last` whose seal is right."""
    after, size = first - 1, 1
    while after < min(last, first + _SKIPPED_MAX):
        entries = ledger.entries(uid, after_seq=after, limit=size)
        for entry in entries:
            if entry.place > last:
                return None
            if ledger.is_sealed(entry):
                return entry.place, time_of(entry)
        if len(entries) < size:
            return None
        after, size = entries[-1].place, _BATCH
    return None
