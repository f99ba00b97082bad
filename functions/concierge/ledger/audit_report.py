"""An audit as JSON and as CSV. Pure.

CSV has one fact a row: `uid, section, name, count, amountMicrocredits, seq, text`; rows without a uid are totals.
docs/audit.md has the sections.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

from concierge.kit.timestamps import rfc3339
from concierge.ledger.audit import Period
from concierge.ledger.audit_sums import AccountAudit, Balance, Tally, Totals

AUDIT_FORMAT = "concierge.audit.v1"
CSV_COLUMNS = ("uid", "section", "name", "count", "amountMicrocredits", "seq", "text")
# What spreadsheets take for a formula, or skip on their way to one.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")

Cell = str | int | None


def period_json(period: Period) -> dict[str, Any]:
    """`{from, to}`; from is null for a range from the beginning."""
    return {"from": rfc3339(period.since) if period.since is not None else None, "to": rfc3339(period.until)}


def account_json(part: AccountAudit) -> dict[str, Any]:
    """A part of an account's report; it is the whole if both isFirst and isLast."""
    return {
        "uid": part.uid,
        "isFirst": part.is_first,
        "isLast": part.is_last,
        "opening": _balance_json(part.opening),
        "closing": _balance_json(part.closing),
        "entries": part.entries,
        "kinds": _tallies_json(part.kinds),
        "counters": _tallies_json(part.counters),
        "doubleEntry": {"imbalanceMicrocredits": part.imbalance},
        "chain": {
            "verified": part.entries - part.faulty,
            "unreadable": part.unreadable,
            "first": {"seq": part.first_seq, "hash": part.first_hash} if part.entries else None,
            "last": {"seq": part.last_seq, "hash": part.last_hash} if part.entries else None,
            "coveredToSeq": part.covered_to,
            "keyIds": part.key_ids,
            "findings": [
                {"seq": finding.seq, "code": finding.code, "message": finding.message} for finding in part.findings
            ],
        },
        "openHolds": {
            **_tally_json(part.open_holds.total),
            "unlistedMicrocredits": part.open_holds.unlisted,
            "holds": [
                {"holdId": hold.hold_id, "seq": hold.seq, "amountMicrocredits": hold.amount, "at": hold.at}
                for hold in part.open_holds.holds
            ],
        },
    }


def totals_json(totals: Totals) -> dict[str, Any]:
    """The sums over all parts of a page, or of all pages."""
    return {
        "accounts": totals.accounts,
        "opening": _balance_json(totals.opening),
        "closing": _balance_json(totals.closing),
        "entries": totals.entries,
        "kinds": _tallies_json(totals.kinds),
        "counters": _tallies_json(totals.counters),
        "doubleEntry": {"imbalanceMicrocredits": totals.imbalance},
        "chain": {
            "verified": totals.entries - totals.faulty,
            "unreadable": totals.unreadable,
            "keyIds": dict(sorted(totals.key_ids.items())),
            "findings": dict(sorted(totals.findings.items())),
        },
        "openHolds": {**_tally_json(totals.open_holds), "unlistedMicrocredits": totals.unlisted},
        "sound": totals.sound,
    }


def csv_text(rows: Iterable[tuple[Cell, ...]]) -> str:
    """Lines of RFC 4180. A text that a spreadsheet would take for a formula gets an apostrophe in front."""
    buffer = io.StringIO()
    csv.writer(buffer).writerows([_safe(cell) for cell in row] for row in rows)
    return buffer.getvalue()


def account_rows(part: AccountAudit) -> Iterator[tuple[Cell, ...]]:
    """The rows of one part."""
    uid = part.uid
    yield from _common_rows(uid, part)
    yield uid, "chain", "verified", part.entries - part.faulty, None, None, None
    yield uid, "chain", "unreadable", part.unreadable, None, None, None
    yield uid, "chain", "coveredTo", None, None, part.covered_to, None
    if part.entries:
        yield uid, "chain", "first", None, None, part.first_seq, part.first_hash
        yield uid, "chain", "last", None, None, part.last_seq, part.last_hash
    for finding in part.findings:
        yield uid, "finding", finding.code, None, None, finding.seq, finding.message
    for hold in part.open_holds.holds:
        yield uid, "openHold", hold.hold_id, None, hold.amount, hold.seq, hold.at
    if part.open_holds.unlisted:
        yield uid, "openHold", "unlisted", None, part.open_holds.unlisted, None, None


def totals_rows(totals: Totals) -> Iterator[tuple[Cell, ...]]:
    """The rows of sums, whose uid is empty."""
    yield "", "total", "accounts", totals.accounts, None, None, None
    yield from _common_rows("", totals)
    yield "", "chain", "verified", totals.entries - totals.faulty, None, None, None
    yield "", "chain", "unreadable", totals.unreadable, None, None, None
    for code, count in sorted(totals.findings.items()):
        yield "", "finding", code, count, None, None, None
    yield "", "openHold", "listed", totals.open_holds.count, totals.open_holds.amount, None, None
    yield "", "openHold", "unlisted", None, totals.unlisted, None, None


def _common_rows(uid: str, sums: AccountAudit | Totals) -> Iterator[tuple[Cell, ...]]:
    for section, balance in (("opening", sums.opening), ("closing", sums.closing)):
        yield uid, section, "posted", None, balance.posted, None, None
        yield uid, section, "held", None, balance.held, None, None
    for kind, tally in sorted(sums.kinds.items()):
        yield uid, "kind", kind, tally.count, tally.amount, None, None
    for counter, tally in sorted(sums.counters.items()):
        yield uid, "counter", counter, tally.count, tally.amount, None, None
    yield uid, "doubleEntry", "imbalance", None, sums.imbalance, None, None
    for key_id, count in sorted(sums.key_ids.items()):
        yield uid, "key", key_id, count, None, None, None


def _safe(cell: Cell) -> Cell:
    if isinstance(cell, str) and cell.lstrip(" ").startswith(_FORMULA_STARTS):
        return f"'{cell}"
    return cell


def _balance_json(balance: Balance) -> dict[str, int]:
    return {"postedMicrocredits": balance.posted, "heldMicrocredits": balance.held}


def _tally_json(tally: Tally) -> dict[str, int]:
    return {"count": tally.count, "amountMicrocredits": tally.amount}


def _tallies_json(tallies: dict[str, Tally]) -> dict[str, dict[str, int]]:
    return {name: _tally_json(tally) for name, tally in sorted(tallies.items())}
