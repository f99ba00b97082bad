"""One entry looked at by itself: its seal, its place, its rules, and the record of the operation that made it."""

from dataclasses import dataclass, replace

from concierge.ledger.entries import StoredEntry
from concierge.ledger.service import Ledger
from concierge.ledger.transfers import COUNTER_UNFREEZE, Head
from concierge.ledger.verification import ChainState, Finding


@dataclass(frozen=True, slots=True)
class Inspection:
    """An entry and what is wrong with it; `findings` is empty for a sound one."""

    entry: StoredEntry
    findings: list[Finding]


def find_transaction(ledger: Ledger, uid: str, transaction_id: str) -> int | None:
    """The number of the entry that a transaction id means in this account: an entry's number, a request's or hold's id
    (its latest entry), or an operation's id. None if there is none."""
    if transaction_id.isascii() and transaction_id.isdigit() and len(transaction_id) <= 12:
        return int(transaction_id) or None
    hold = ledger.find_hold(uid, transaction_id)
    if hold is not None and hold.entry_seq:
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
        start = _state_before(ledger, uid, entry, entries.get(seq - 1))
    except (ValueError, KeyError, TypeError) as error:
        return Inspection(entry, [Finding(seq, "MALFORMED", f"the entry cannot be read: {error}")])
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


def _state_before(ledger: Ledger, uid: str, entry: StoredEntry, before: StoredEntry | None) -> ChainState:
    """The balance that the entry before leaves, and the hold that this one resolves."""
    fields = entry.fields()
    # Which state it ends is what an unfreeze says itself: nothing else of the entry before depends on it.
    head = Head(seq=entry.place - 1, frozen=fields["counter"] == COUNTER_UNFREEZE)
    if before is not None:
        left = before.fields()
        head = replace(head, hash=before.hash, posted=left["postedAfter"], held=left["heldAfter"])
    open_holds: dict[str, int] = {}
    if fields["kind"] in ("capture", "release", "expire"):
        hold = ledger.find_hold(uid, fields["holdId"])
        if hold is not None:
            open_holds[hold.hold_id] = hold.amount
    return ChainState(head, open_holds)
