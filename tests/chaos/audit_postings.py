"""Credits, clawbacks, adjustments, freezes and transfers: what was sent and answered against what is stored."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from chaos.books import Books, Entry, State
from chaos.calls import POSTINGS, Call
from chaos.documents import Documents

_CONTROL = {"freeze": "control:freeze", "unfreeze": "control:unfreeze"}


def audit_postings(calls: list[Call], books: Mapping[str, Books], documents: Documents) -> Iterator[str]:
    """What is wrong, one sentence each."""
    groups: dict[tuple[str, str], list[Call]] = {}
    for call in calls:
        if call.action in POSTINGS:
            for uid in call.accounts:
                groups.setdefault((uid, call.id), []).append(call)
    for path in documents:
        parts = path.split("/")
        if len(parts) == 4 and parts[2] == "ops" and (parts[1], parts[3]) not in groups:
            yield f"{path} records an operation that nobody sent"
    for uid, account in books.items():
        for entry in account.entries:
            if entry.hold_id is None and (uid, entry.op_id) not in groups:
                yield f"{uid} entry {entry.seq} is of an operation that nobody sent: {entry.op_id}"
    for (uid, op_id), sent in groups.items():
        account = books[uid]
        record = documents.get(f"accounts/{uid}/ops/{op_id}")
        entries = account.by_operation(op_id)
        yield from _audit_operation(uid, op_id, sent, record, entries, account)
        for call in sent:
            if call.is_over and call.uid == uid:
                yield from _audit_answer(call, calls, books)


def _audit_operation(
    uid: str, op_id: str, sent: list[Call], record: Any, entries: list[Entry], account: Books
) -> Iterator[str]:
    name = f"{uid}/{op_id}"
    acknowledged = [call for call in sent if call.answer and call.answer.said in ("done", "refused")]
    if record is None:
        if entries:
            yield f"{name} has entries and no record"
        yield from (f"{name} was acknowledged and is lost: {call}" for call in acknowledged)
        return
    if record.get("refusal") is not None:
        if entries:
            yield f"{name} is refused and has entries"
        winners = [call for call in sent if _may_be_refused(call, record["refusal"], account, uid)]
    else:
        if [(entry.seq, entry.hash) for entry in entries] != [(record["seq"], record["hash"])]:
            yield f"{name} is recorded as entry {record['seq']}, its entries are {[entry.seq for entry in entries]}"
            return
        winners = [call for call in sent if call.covers(uid, record["seq"]) and _makes(call, uid, entries[0])]
    if not winners:
        yield f"{name} is recorded as {dict(record)}, which none of its calls can have made"
    requests = {call.request for call in winners}
    for call in acknowledged:
        assert call.answer is not None
        if call.request not in requests:
            yield f"{name} had another body, and was acknowledged with this one: {call}"
        elif (call.answer.said == "refused") != (record.get("refusal") is not None):
            yield f"{name} is recorded as {dict(record)} and was answered otherwise: {call}"
        elif call.answer.said == "refused" and call.answer.values != _told(record["refusal"]):
            yield f"{name} is stored as {record['refusal']}, and was told otherwise: {call}"
        elif call.answer.said == "done" and call.answer.values["seqs"][uid] != record["seq"]:
            yield f"{name} is entry {record['seq']}, and was answered as another: {call}"
        elif call.answer.said == "done" and call.answer.values["hashes"][uid] != record["hash"]:
            yield f"{name} was answered with another hash: {call}"


def _audit_answer(call: Call, calls: list[Call], books: Mapping[str, Books]) -> Iterator[str]:
    """Whether an error had a reason."""
    assert call.answer is not None and call.after is not None
    said = call.answer.said
    if said == "invalid" and is_well_formed(call):
        yield f"a proper operation was called invalid: {call}"
    elif said in ("done", "refused") and not is_well_formed(call):
        yield f"an operation that makes no sense was accepted: {call}"
    elif said == "missing":
        if call.action == "credit" or all(call.before.seqs[uid] for uid in call.accounts):
            yield f"the account was there, and was not found: {call}"
    elif said == "conflict":
        frozen = call.action == "freeze"
        states = books[call.uid].between(call.before.seqs[call.uid], call.after.seqs[call.uid])
        is_so_already = call.action in _CONTROL and any(state.frozen is frozen for state in states)
        others = [
            other
            for other in calls
            if other.action in POSTINGS
            and other.id == call.id
            and other.number != call.number
            and other.request != call.request
            and set(other.accounts) & set(call.accounts)
        ]
        if not others and not is_so_already:
            yield f"a conflict with nothing: {call}"
    elif said == "expired":
        yield f"a posting cannot expire: {call}"


def is_well_formed(call: Call) -> bool:
    """Whether the amounts are amounts: whole, in range, and positive but for adjustments."""
    if call.action in _CONTROL:
        return True
    amount = call.body["amount"]
    if type(amount) is not int or not -(2**53) < amount < 2**53 or amount == 0:
        return False
    return amount > 0 or call.action == "adjust"


def _makes(call: Call, uid: str, entry: Entry) -> bool:
    """Whether this is the entry that the call asks for."""
    if call.action in _CONTROL:
        wanted = ("adjust", 0, _CONTROL[call.action])
    elif call.action == "transfer":
        paying, receiving = call.accounts
        kind, other = ("transfer-out", receiving) if uid == paying else ("transfer-in", paying)
        wanted = (kind, call.body["amount"], f"account:{other}")
    else:
        kind = call.body["kind"] if call.action == "credit" else call.action
        wanted = (kind, call.body["amount"], call.body["counter"])
    memo = call.body["memo"]
    memo_hash = None if memo is None else hashlib.sha256(json.dumps(memo).encode()).hexdigest()
    return (entry.kind, entry.amount, entry.counter) == wanted and entry.memo_hash == memo_hash


def _may_be_refused(call: Call, refusal: Mapping[str, Any], account: Books, uid: str) -> bool:
    """Whether the account could not cover this at some moment while the call ran."""
    if call.action not in ("adjust", "transfer"):
        return False
    if call.uid != uid:
        # The receiving half only repeats what the paying one could not cover.
        return True
    amount = call.body["amount"]
    last = call.after.seqs[uid] if call.after is not None and call.is_over else None
    return any(
        refusal == _expected_refusal(call, abs(amount), state) for state in account.between(call.before.seqs[uid], last)
    )


def _expected_refusal(call: Call, amount: int, state: State) -> dict[str, Any] | None:
    if call.action == "transfer" and state.frozen:
        return {"reason": "ACCOUNT_FROZEN", "missing": 0, "available": max(0, state.available)}
    if state.available >= amount or (call.action == "adjust" and call.body["amount"] > 0):
        return None
    missing = amount - state.available
    return {"reason": "INSUFFICIENT_CREDITS", "missing": missing, "available": state.available}


def _told(refusal: Mapping[str, Any]) -> dict[str, Any]:
    """What the error says of a stored refusal."""
    if refusal["reason"] == "ACCOUNT_FROZEN":
        return {"reason": "ACCOUNT_FROZEN"}
    return dict(refusal)
