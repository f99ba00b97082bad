"""Holds and their resolutions: what was sent and answered against what is stored."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from chaos.books import Books, Entry, State
from chaos.calls import HOLD_ACTIONS, Call
from chaos.documents import Documents

_STATES = {"capture": "captured", "release": "released", "expire": "expired"}


class HoldAudit:
    """Audits with the lifetimes that the ledger was given."""

    def __init__(self, lifetime: timedelta, lifetime_max: timedelta) -> None:
        self._lifetime = lifetime
        self._lifetime_max = lifetime_max

    def audit(self, calls: list[Call], books: Mapping[str, Books], documents: Documents) -> Iterator[str]:
        """What is wrong, one sentence each."""
        groups: dict[tuple[str, str], list[Call]] = {}
        for call in calls:
            if call.action in HOLD_ACTIONS:
                groups.setdefault((call.uid, call.id), []).append(call)
        for path in documents:
            parts = path.split("/")
            if len(parts) == 4 and parts[2] == "holds" and (parts[1], parts[3]) not in groups:
                yield f"{path} is a hold that nobody placed"
        for (uid, hold_id), sent in groups.items():
            document = documents.get(f"accounts/{uid}/holds/{hold_id}")
            entries = books[uid].by_hold(hold_id)
            for problem in self._audit_hold(sent, document, entries, books[uid]):
                yield f"{uid}/{hold_id}: {problem}"

    def _audit_hold(self, sent: list[Call], document: Any, entries: list[Entry], account: Books) -> Iterator[str]:
        if document is None:
            if entries:
                yield "there are entries of a hold without a document"
            for call in sent:
                if call.answer is not None and call.answer.said in ("done", "refused", "conflict", "expired"):
                    yield f"it does not exist, and was answered: {call}"
            return
        yield from self._audit_placing(sent, document, entries, account)
        yield from _audit_resolution(sent, document, entries)
        if document["state"] != "refused":
            yield from self._audit_lifetime(sent, document)
            yield from _audit_owners(sent, document)
        for call in sent:
            if call.is_over and not call.is_open_ended:
                yield from self._audit_answer(call, document, sent)

    # Placing.

    def _audit_placing(
        self, sent: list[Call], document: Mapping[str, Any], entries: list[Entry], account: Books
    ) -> Iterator[str]:
        placing = [call for call in sent if call.action == "hold"]
        first = [entry for entry in entries if entry.kind == "hold"]
        if document["state"] == "refused":
            if entries:
                yield "it is refused and has entries"
            candidates = [call for call in placing if _may_be_refused(call, document["refusal"], account)]
        else:
            if [entry.seq for entry in first] != [document["placedSeq"]] or first[0].amount != document["amount"]:
                yield f"its document says {dict(document)}, the entries {first}"
                return
            if first[0].op_id != f"hold:{first[0].hold_id}":
                yield f"it was placed under the operation {first[0].op_id}"
            before = account.states[first[0].seq - 1]
            candidates = [
                call
                for call in placing
                if call.covers(call.uid, first[0].seq)
                and first[0].amount == min(call.body["amount"], before.available)
                and first[0].amount >= call.body["minimum"]
            ]
        makers = [call for call in candidates if call.body["request_hash"] == document["requestHash"]]
        if not makers:
            yield f"none of its calls can have placed it as {dict(document)}"
        if not any(call.now_min <= document["placedAt"] <= call.now_max for call in makers):
            yield f"it was placed at {document['placedAt']}, when none of its calls ran"

    # Resolution, lifetime, owners.

    def _audit_lifetime(self, sent: list[Call], document: Mapping[str, Any]) -> Iterator[str]:
        """It lives for one lifetime, and for another from each heartbeat, up to its longest."""
        placed_at = document["placedAt"]
        latest = placed_at + self._lifetime
        for call in sent:
            if call.action != "extend":
                continue
            reached = min(call.now_max + self._lifetime, placed_at + self._lifetime_max)
            if _may_have_happened(call):
                latest = max(latest, reached)
            if call.answer and call.answer.said == "done" and document["expiresAt"] < call.answer.values["expires_at"]:
                yield f"a heartbeat was acknowledged and is lost: {call}"
        if not placed_at + self._lifetime <= document["expiresAt"] <= latest:
            yield f"it expires at {document['expiresAt']}, and was never extended beyond {latest}"

    def _audit_answer(self, call: Call, document: Mapping[str, Any], sent: list[Call]) -> Iterator[str]:
        assert call.answer is not None and call.after is not None
        said, seen = call.answer.said, call.after.hold
        if said in ("done", "refused", "conflict", "expired") and seen is None:
            yield f"answered for a hold that did not exist: {call}"
        elif said == "invalid":
            if is_well_formed(call, document):
                yield f"a proper operation was called invalid: {call}"
        elif said == "missing":
            if call.before.hold is not None and call.before.seqs[call.uid]:
                yield f"the hold was there, and was not found: {call}"
        elif call.action == "hold":
            yield from _audit_claim(call, document)
        elif said == "done":
            yield from self._audit_done(call, document)
        elif said == "conflict":
            if not self._is_justified_conflict(call, sent):
                yield f"a conflict with nothing: {call}, hold seen as {call.before.hold}, {call.after.hold}"
        elif said == "expired":
            if not self._is_justified_expiry(call, document):
                yield f"its time was not up: {call}, hold seen as {call.before.hold}, {call.after.hold}"
        elif said == "refused":
            yield f"only placing can be refused: {call}"

    def _audit_done(self, call: Call, document: Mapping[str, Any]) -> Iterator[str]:
        assert call.answer is not None and call.after is not None and call.after.hold is not None
        values, fence = call.answer.values, call.body.get("fence")
        before, after = call.before.hold, call.after.hold
        is_stale = fence is not None and before is not None and fence < before["fence"]
        if call.action == "capture":
            if document["state"] != "captured" or document["captured"] != call.body["amount"]:
                yield f"a capture was acknowledged and is {document['state']}: {call}"
            elif (values["seq"], values["hash"]) != (document["entrySeq"], document["entryHash"]):
                yield f"a capture was acknowledged as another entry: {call}"
            elif is_stale and before is not None and before["state"] == "held" and not values["replayed"]:
                yield f"a stale run captured: {call}"
        elif call.action in ("release", "expire"):
            if values["state"] not in (after["state"], "held") or (
                values["state"] == "held" and call.action == "release"
            ):
                yield f"answered {values['state']}, it is {after['state']}: {call}"
            elif values["state"] == "held" and call.now_min >= after["expiresAt"]:
                yield f"its time was up, and it was left: {call}"
            elif is_stale and before is not None and before["state"] == "held" and not values["replayed"]:
                yield f"a stale run released: {call}"
        elif call.action == "extend":
            if is_stale or (fence is not None and fence > after["fence"]):
                yield f"a run extended a hold that is not its own: {call}"
            elif before is not None and before["state"] != "held":
                yield f"a resolved hold was extended: {call}"
            elif before is not None and before["expiresAt"] <= call.now_min and after["expiresAt"] <= call.now_min:
                yield f"a hold whose time was up was extended: {call}"
        elif call.action == "take_over" and before is not None and before["state"] != "held":
            yield f"a resolved hold was taken over: {call}"

    def _is_justified_conflict(self, call: Call, sent: list[Call]) -> bool:
        assert call.after is not None and call.after.hold is not None
        fence, before, after = call.body.get("fence"), call.before.hold, call.after.hold
        if fence is not None and (fence != after["fence"] or (before is not None and fence != before["fence"])):
            return True
        if call.action == "capture":
            return after["state"] in ("released", "refused") or (
                after["state"] == "captured" and after["captured"] != call.body["amount"]
            )
        if call.action == "take_over" and after["runId"] != call.body["run_id"] and _was_owner(call, sent):
            return True
        return call.action in ("extend", "take_over") and after["state"] != "held"

    def _is_justified_expiry(self, call: Call, document: Mapping[str, Any]) -> bool:
        assert call.after is not None and call.after.hold is not None
        if call.action == "capture":
            return call.after.hold["state"] == "expired"
        earliest = call.before.hold["expiresAt"] if call.before.hold is not None else document["placedAt"]
        lived = document["placedAt"] + self._lifetime_max
        return earliest <= call.now_max or (call.action == "extend" and lived <= call.now_max)


def _audit_resolution(sent: list[Call], document: Mapping[str, Any], entries: list[Entry]) -> Iterator[str]:
    resolutions = [entry for entry in entries if entry.kind in _STATES]
    if document["state"] in ("held", "refused"):
        if resolutions:
            yield f"it is {document['state']}, and resolved by {resolutions}"
        return
    if len(resolutions) != 1:
        yield f"it is {document['state']}, and has {len(resolutions)} resolutions"
        return
    [entry] = resolutions
    said = (document["state"], document["resolvedBy"], document["entrySeq"], document["entryHash"])
    if said != (_STATES[entry.kind], entry.op_id, entry.seq, entry.hash):
        yield f"its document says {said}, its entry {entry}"
    if document["captured"] != (entry.amount if entry.kind == "capture" else 0):
        yield f"its document says captured {document['captured']}, its entry {entry}"
    if entry.op_id != f"settle:{entry.hold_id}":
        yield f"it was resolved under the operation {entry.op_id}"
    makers = [call for call in sent if _may_resolve(call, entry)]
    if not makers:
        yield f"none of its calls can have resolved it as {entry}"


def _may_resolve(call: Call, entry: Entry) -> bool:
    """Whether a call can have written this resolution: its kind, amount, fence, and the time that it saw."""
    if call.action not in ("capture", "release", "expire") or not call.covers(call.uid, entry.seq):
        return False
    if not call.now_min <= entry.at <= call.now_max:
        return False
    before, after, fence = call.before.hold, call.after.hold if call.after else None, call.body.get("fence")
    if fence is not None:
        if before is not None and fence < before["fence"]:
            return False
        if after is not None and fence > after["fence"]:
            return False
    if entry.kind == "expire":
        return before is None or entry.at >= before["expiresAt"]
    if after is not None and call.is_over and entry.at >= after["expiresAt"]:
        return False
    if entry.kind == "capture":
        return call.action == "capture" and (call.body["amount"], call.body["counter"]) == (entry.amount, entry.counter)
    return call.action == "release"


def _audit_owners(sent: list[Call], document: Mapping[str, Any]) -> Iterator[str]:
    """Nobody shares a fence, and nobody has two: a run that was taken over cannot take the work back."""
    owners: dict[int, str] = {}
    fences: dict[str, int] = {}
    for call in sent:
        if call.answer is None or call.answer.said != "done" or call.action not in ("hold", "take_over"):
            continue
        fence, run_id = call.answer.values["fence"], call.answer.values["run_id"]
        if owners.setdefault(fence, run_id) != run_id:
            yield f"the runs {owners[fence]} and {run_id} have the fence {fence}"
        if fences.setdefault(run_id, fence) != fence:
            yield f"the run {run_id} has the fences {fences[run_id]} and {fence}"
        if call.action == "take_over" and run_id != call.body["run_id"]:
            yield f"a run took it over for another one: {call}"
        if fence > document["fence"]:
            yield f"a fence was acknowledged and is lost: {call}"
    takers = {call.body["run_id"] for call in sent if call.action == "take_over" and _may_have_happened(call)}
    if document["fence"] > len(takers):
        yield f"its fence is {document['fence']}, and {len(takers)} runs have taken it over, each once"
    known = owners.get(document["fence"])
    if known is not None and known != document["runId"]:
        yield f"its fence {document['fence']} belongs to {known}, its document says {document['runId']}"


def _may_have_happened(call: Call) -> bool:
    """Whether a heartbeat or a take-over may have changed the hold. An error does not say that it did not: the answer
    to a first attempt may have been lost, and the hold's time have run out before the second."""
    return call.is_open_ended or (call.answer is not None and call.answer.said in ("done", "expired", "conflict"))


def _was_owner(call: Call, sent: list[Call]) -> bool:
    """Whether the run of a take-over may have had the work before: by another call, or by this one's first attempt."""
    return any(
        other.action in ("hold", "take_over")
        and other.body["run_id"] == call.body["run_id"]
        and (other is not call or any(fault.startswith("Commit") for fault in call.faults))
        for other in sent
    )


def _audit_claim(call: Call, document: Mapping[str, Any]) -> Iterator[str]:
    """The answer to placing: the stored outcome, to everybody who asks for the same."""
    assert call.answer is not None
    said, values = call.answer.said, call.answer.values
    same = call.body["request_hash"] == document["requestHash"]
    if said == "conflict":
        if same:
            yield f"the same request met a conflict: {call}"
    elif said in ("done", "refused"):
        if not same:
            yield f"the id was used for something else, and answered: {call}"
        elif (said == "refused") != (document["state"] == "refused"):
            yield f"answered {said}, stored as {document['state']}: {call}"
        elif said == "refused" and values != document["refusal"]:
            yield f"refused as {document['refusal']}, and told otherwise: {call}"
        elif said == "done" and (values["amount"], values["placed_seq"]) != (document["amount"], document["placedSeq"]):
            yield f"placed as {dict(document)}, and told otherwise: {call}"
    else:
        yield f"placing cannot end like this: {call}"


def _may_be_refused(call: Call, refusal: Mapping[str, Any], account: Books) -> bool:
    last = call.after.seqs[call.uid] if call.after is not None and call.is_over else None
    return any(
        refusal == _expected_refusal(call.body["minimum"], state)
        for state in account.between(call.before.seqs[call.uid], last)
    )


def _expected_refusal(minimum: int, state: State) -> dict[str, Any] | None:
    if state.frozen:
        return {"reason": "ACCOUNT_FROZEN", "missing": 0, "available": max(0, state.available)}
    if state.available >= minimum:
        return None
    return {"reason": "INSUFFICIENT_CREDITS", "missing": minimum - state.available, "available": state.available}


def is_well_formed(call: Call, document: Mapping[str, Any] | None) -> bool:
    """Whether the amounts are amounts, and a capture's lies within its hold."""
    amounts = [call.body[name] for name in ("minimum", "amount") if name in call.body]
    if not all(type(amount) is int and 0 < amount < 2**53 for amount in amounts) or amounts != sorted(amounts):
        return False
    return call.action != "capture" or document is None or call.body["amount"] <= document["amount"]
