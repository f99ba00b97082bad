"""One entry looked at by itself: its seal, its place, its rules, and the record of the operation that made it."""

import re
from dataclasses import dataclass
from typing import Any

from concierge.kit.ids import REQUEST_ID
from concierge.ledger.entries import StoredEntry
from concierge.ledger.service import Ledger
from concierge.ledger.transfers import COUNTER_UNFREEZE, RESOLUTION_KINDS, Head
from concierge.ledger.verification import ChainState, Finding

# An operation's id names a document, and Firestore keeps some names for itself.
TRANSACTION_ID = re.compile(r"(?!\.{1,2}\Z)(?!__.*__\Z)[^/\x00-\x1f\x7f\ud800-\udfff]{1,256}", re.DOTALL)
_NUMBER = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class Inspection:
    """An entry and what is wrong with it; `findings` is empty for a sound one."""

    entry: StoredEntry
    findings: list[Finding]


def find_transaction(ledger: Ledger, uid: str, transaction_id: str) -> int | None:
    """The number of the entry that a transaction id means in this account: an entry's number, a request's or hold's id
    (its latest entry), or an operation's id, as entries name it themselves. None if there is none.

    `transaction_id` matches TRANSACTION_ID. Up to twelve digits are an entry's number, also where there is a hold of
    that name: `hold:{id}` and `settle:{id}` tell the two apart.
    """
    if _NUMBER.fullmatch(transaction_id):
        return int(transaction_id) or None
    step, colon, hold_id = transaction_id.partition(":")
    if not colon:
        hold_id = transaction_id
    hold = ledger.find_hold(uid, hold_id) if REQUEST_ID.fullmatch(hold_id) else None
    # The record of a hold's two operations is the hold itself; that of any other one is its own.
    if hold is not None and step == "hold" and colon:
        return hold.placed_seq or None
    if hold is not None and step == "settle" and colon:
        return hold.entry_seq if hold.entry_seq > hold.placed_seq else None
    if hold is not None and not colon and hold.entry_seq:
        return hold.entry_seq
    operation = ledger.outcome(uid, transaction_id)
    return operation.seq if operation is not None and operation.seq else None


def inspect(ledger: Ledger, uid: str, seq: int) -> Inspection | None:
    """Verifies one entry against its neighbours, at most five reads; None if there is no such entry."""
    entries = {entry.place: entry for entry in ledger.entries(uid, after_seq=max(0, seq - 2), limit=3)}
    entry = entries.get(seq)
    if entry is None:
        return None
    try:
        fields = entry.fields()
        start = ChainState(_head_before(seq, fields, entries.get(seq - 1)), _hold_before(ledger, uid, fields))
    except (ValueError, KeyError, TypeError) as error:
        return Inspection(entry, [Finding(seq, "MALFORMED", f"the entry or the one before cannot be read: {error}")])
    findings = ledger.verify_part(uid, [entry], start).findings
    following = entries.get(seq + 1)
    if following is not None:
        # Whatever else is wrong with the next one is its own matter.
        after = ledger.verify_part(uid, [following], ChainState(Head(seq=seq, hash=entry.hash))).findings
        findings += [finding for finding in after if finding.code == "BROKEN_CHAIN"]
    else:
        head = ledger.head(uid)
        if head is not None and head.seq == seq and head.hash != entry.hash:
            findings.append(Finding(seq, "HEAD_MISMATCH", "the head names another entry under this number"))
    return Inspection(entry, findings)


def _head_before(seq: int, fields: dict[str, Any], before: StoredEntry | None) -> Head:
    """The balance that the entry before leaves. Whether the account was frozen then is not known from there: what
    unfreezes it is believed to have met a frozen one."""
    frozen = fields["counter"] == COUNTER_UNFREEZE
    if before is None:
        return Head(seq=seq - 1, frozen=frozen)
    left = before.fields()
    return Head(seq=seq - 1, hash=before.hash, posted=left["postedAfter"], held=left["heldAfter"], frozen=frozen)


def _hold_before(ledger: Ledger, uid: str, fields: dict[str, Any]) -> dict[str, int]:
    """The hold that an entry resolves, with its amount."""
    if fields["kind"] not in RESOLUTION_KINDS or not REQUEST_ID.fullmatch(fields["holdId"]):
        return {}
    hold = ledger.find_hold(uid, fields["holdId"])
    return {hold.hold_id: hold.amount} if hold is not None else {}
