"""An account's history, newest first: pages of a bounded cost, however long the history is.

Entries are stored by number only. A page reads backwards from where the last one stopped, at most SCAN_MAX entries, and
keeps what the filters let through; so a page may be short, or empty, and still have a next one. The newest entry of a
time range is found by bisection (ledger/timeline.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from concierge.ledger.entries import StoredEntry
from concierge.ledger.service import Ledger
from concierge.ledger.timeline import newest_where, time_of

SCAN_MAX = 500
_BATCH = 100


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
        return _of_hold(ledger, uid, filters, before)
    if before is None:
        head = ledger.head(uid)
        if head is None:
            return Page([], None)
        until = filters.until
        newest = head.seq if until is None else newest_where(ledger, uid, head.seq, lambda at: at <= until)
        before = newest + 1
    found: list[StoredEntry] = []
    at = before
    for entry in _backwards(ledger, uid, before, SCAN_MAX):
        if filters.since is not None and time_of(entry) < filters.since:
            return Page(found, None)
        if len(found) == limit:
            return Page(found, at)
        at = entry.place
        if _passes(entry, filters):
            found.append(entry)
    return Page(found, at if at > 1 and at < before else None)


def _of_hold(ledger: Ledger, uid: str, filters: Filters, before: int | None) -> Page:
    """A hold has at most two entries, and its record names them."""
    hold = ledger.find_hold(uid, filters.hold_id or "")
    numbers = sorted({hold.entry_seq, hold.placed_seq} - {0}, reverse=True) if hold is not None else []
    entries = [ledger.entry(uid, seq) for seq in numbers if before is None or seq < before]
    return Page([entry for entry in entries if entry is not None and _within(entry, filters)], None)


def _backwards(ledger: Ledger, uid: str, before: int, count: int) -> Iterator[StoredEntry]:
    lowest = max(1, before - count)
    while before > lowest:
        first = max(lowest, before - _BATCH)
        yield from reversed(ledger.entries(uid, after_seq=first - 1, limit=before - first))
        before = first


def _passes(entry: StoredEntry, filters: Filters) -> bool:
    return (not filters.kinds or entry.fields()["kind"] in filters.kinds) and _within(entry, filters)


def _within(entry: StoredEntry, filters: Filters) -> bool:
    at = time_of(entry)
    return (filters.since is None or at >= filters.since) and (filters.until is None or at <= filters.until)
