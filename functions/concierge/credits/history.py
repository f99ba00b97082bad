"""An account's history, newest first: pages of a bounded cost, however long the history is.

Entries are stored by number only. A page reads backwards from where the last one stopped, at most SCAN_MAX entries, and
keeps what the filters let through; so a page may be short, or empty, and still have a next one. The newest entry of a
time range is found by bisection (ledger/timeline.py): the times of a chain rise with its numbers, but for the
differences between the clocks of the instances that made the entries, which CLOCK_SKEW bounds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from concierge.ledger.entries import StoredEntry
from concierge.ledger.service import Ledger
from concierge.ledger.timeline import newest_where, time_of

SCAN_MAX = 500
CLOCK_SKEW = timedelta(seconds=10)
_BATCH = 100
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Filters:
    """What of a history is wanted; None and empty mean everything. Times are inclusive."""

    kinds: frozenset[str] = frozenset()
    since: datetime | None = None
    until: datetime | None = None
    hold_id: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Entries, newest first; `next_before` is where the next page begins, None after the last one."""

    entries: list[StoredEntry]
    next_before: int | None


def page(ledger: Ledger, uid: str, filters: Filters, *, limit: int, before: int | None = None) -> Page:
    """The entries with a number below `before` (all if None) that the filters let through, at most `limit`."""
    if filters.hold_id is not None:
        return _of_hold(ledger, uid, filters.hold_id, filters, limit, before)
    if before is None:
        head = ledger.head(uid)
        if head is None:
            return Page([], None)
        before = (head.seq if filters.until is None else _last_until(ledger, uid, head.seq, filters.until)) + 1
    # Without filters every entry that is read is shown, and one more says whether there is a next page.
    batch = _BATCH if filters != Filters() else min(_BATCH, limit + 1)
    found: list[StoredEntry] = []
    at = before
    for entry in _backwards(ledger, uid, before, batch):
        if filters.since is not None and _is_before(entry, filters.since):
            return Page(found, None)
        if len(found) == limit:
            return Page(found, at)
        at = entry.place
        if _passes(entry, filters):
            found.append(entry)
    return Page(found, at if 1 < at < before else None)


def _of_hold(ledger: Ledger, uid: str, hold_id: str, filters: Filters, limit: int, before: int | None) -> Page:
    """A hold has at most two entries, and its record names them."""
    hold = ledger.find_hold(uid, hold_id)
    numbers = sorted({hold.entry_seq, hold.placed_seq} - {0}, reverse=True) if hold is not None else []
    entries = [ledger.entry(uid, seq) for seq in numbers if before is None or seq < before]
    wanted = [entry for entry in entries if entry is not None and _passes(entry, filters)]
    return Page(wanted[:limit], wanted[limit - 1].place if len(wanted) > limit else None)


def _backwards(ledger: Ledger, uid: str, before: int, batch: int) -> Iterator[StoredEntry]:
    """At most SCAN_MAX entries, read by batches."""
    lowest = max(1, before - SCAN_MAX)
    while before > lowest:
        first = max(lowest, before - batch)
        entries = ledger.entries(uid, after_seq=first - 1, limit=before - first)
        # Where one is missing, those behind the batch come along.
        yield from (entry for entry in reversed(entries) if entry.place < before)
        before = first


def _last_until(ledger: Ledger, uid: str, last: int, until: datetime) -> int:
    """The number of an entry behind which all are later, as near as the clocks allow; 0 if all are later."""
    bound = min(until, _LATEST - CLOCK_SKEW) + CLOCK_SKEW
    return newest_where(ledger, uid, last, lambda at: at <= bound)


def _passes(entry: StoredEntry, filters: Filters) -> bool:
    """What is damaged and cannot be read passes where everything does: a gap would hide it."""
    if filters.kinds:
        try:
            if entry.fields()["kind"] not in filters.kinds:
                return False
        except (ValueError, KeyError, TypeError):
            return False
    if filters.since is None and filters.until is None:
        return True
    at = time_of(entry)
    return at is not None and (filters.since or _EARLIEST) <= at <= (filters.until or _LATEST)


def _is_before(entry: StoredEntry, since: datetime) -> bool:
    """Whether this entry, and with it every earlier one, is older."""
    at = time_of(entry)
    return at is not None and at < max(since, _EARLIEST + CLOCK_SKEW) - CLOCK_SKEW
