"""/api/v1/credits: a person's balance, history and receipts.

Amounts are integers of microcredits, in JSON fields that end in `Microcredits`.
"""

from typing import Annotated, Any

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue
from pydantic import Field

from concierge.api.idempotency import idempotent
from concierge.api.parameters import NUMBER_MAX, Digits, Moment
from concierge.api.support import (
    Schema,
    Subject,
    caller,
    decode_cursor,
    deps,
    encode_cursor,
    own_head,
    query,
    require_admin,
    subject,
)
from concierge.api.v1.reservations import Id
from concierge.credits import history as histories
from concierge.credits.mirror import Strategy
from concierge.errors import InvalidArgument, NotFound
from concierge.kit.ids import REQUEST_ID
from concierge.ledger import inspection
from concierge.ledger.entries import StoredEntry
from concierge.ledger.json_forms import entry_to_json
from concierge.ledger.transfers import EntryKind, Head

PAGE_MAX = 100

blueprint = Blueprint("credits", __name__)


class HistoryQuery(Schema):
    uid: str | None = None
    kind: tuple[EntryKind, ...] = ()
    from_: Annotated[Moment | None, Field(alias="from")] = None
    to: Moment | None = None
    request_id: Id | None = None
    limit: Annotated[Digits, Field(ge=1, le=PAGE_MAX)] = 50
    cursor: str | None = None


class SyncBody(Schema):
    uid: str | None = None
    strategy: Strategy | None = None


@blueprint.get("/credits/balance")
def balance() -> ResponseReturnValue:
    """The account's head; somebody who was never seen before is welcomed first, and zero without any credits."""
    uid = subject(query(Subject).uid)
    head = own_head() if uid == caller().uid else deps().ledger.head(uid) or Head()
    return jsonify(_head_json(uid, head))


@blueprint.get("/credits/history")
def history() -> ResponseReturnValue:
    """`{entries: [...], next}` newest first; a page may be short or empty and still have a next one."""
    asked = query(HistoryQuery)
    uid = subject(asked.uid)
    if asked.from_ is not None and asked.to is not None and asked.from_ > asked.to:
        raise InvalidArgument("from", "from: must not be later than to")
    before = None
    if asked.cursor is not None:
        before = decode_cursor("history", asked.cursor, _is_place)["before"]
    filters = histories.Filters(frozenset(asked.kind), asked.from_, asked.to, asked.request_id)
    page = histories.page(deps().ledger, uid, filters, limit=asked.limit, before=before)
    following = encode_cursor("history", {"before": page.next_before}) if page.next_before is not None else None
    return jsonify(entries=[_entry_json(entry) for entry in page.entries], next=following)


@blueprint.get("/credits/receipts/<request_id>")
def receipt(request_id: str) -> ResponseReturnValue:
    """The offline receipt (docs/receipts.md) of what a request cost."""
    uid = subject(query(Subject).uid)
    hold = deps().ledger.find_hold(uid, request_id) if REQUEST_ID.fullmatch(request_id) else None
    if hold is None or not hold.entry_seq:
        raise NotFound("There is no such receipt.")
    return jsonify(deps().checkpoints.receipt(uid, hold.entry_seq))


@blueprint.get("/credits/verify/<transaction_id>")
def verify(transaction_id: str) -> ResponseReturnValue:
    """One entry, by its number or by the id of its request or operation, checked against its neighbours. Unknown and
    somebody else's are the same to the caller."""
    uid = subject(query(Subject).uid)
    if not inspection.TRANSACTION_ID.fullmatch(transaction_id):
        raise InvalidArgument("transactionId", "transactionId: an entry's number, or an id of at most 256 characters")
    seq = inspection.find_transaction(deps().ledger, uid, transaction_id)
    found = inspection.inspect(deps().ledger, uid, seq) if seq is not None else None
    if found is None:
        raise NotFound("There is no such transaction.")
    leaf = deps().checkpoints.latest_leaf(uid)
    return jsonify(
        transactionId=transaction_id,
        seq=found.entry.place,
        verified=not found.findings,
        findings=[{"seq": finding.seq, "code": finding.code, "message": finding.message} for finding in found.findings],
        entry=entry_to_json(found.entry),
        published=leaf is not None and leaf.seq >= found.entry.place,
    )


def _check_sync(body: SyncBody) -> None:
    subject(body.uid)
    if body.strategy is not None:
        require_admin()


@blueprint.post("/credits/sync-balance")
@idempotent(SyncBody, check=_check_sync)
def sync_balance(body: SyncBody, key: str) -> ResponseReturnValue:
    """Compares the shown balance with the ledger now, and repairs it. Another strategy than the configured one is for
    administrators."""
    synced = deps().mirror().sync(subject(body.uid), body.strategy)
    return jsonify(action=synced.action, before=synced.before, after=synced.after)


def _is_place(cursor: dict[str, Any]) -> bool:
    return type(cursor["before"]) is int and 0 < cursor["before"] <= NUMBER_MAX


def _head_json(uid: str, head: Head) -> dict[str, Any]:
    return {
        "uid": uid,
        "postedMicrocredits": head.posted,
        "heldMicrocredits": head.held,
        "availableMicrocredits": head.available,
        "debtMicrocredits": head.debt,
        "frozen": head.blocked,
        "seq": head.seq,
        "hash": head.hash,
    }


def _entry_json(entry: StoredEntry) -> dict[str, Any]:
    """One that is damaged is shown as such: its amounts are nobody's, and the others' are true all the same."""
    try:
        return _fields_json(entry, entry.fields())
    except (ValueError, KeyError):
        return {"seq": entry.place, "hash": entry.hash, "damaged": True}


def _fields_json(entry: StoredEntry, fields: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "seq": fields["seq"],
        "kind": fields["kind"],
        "amountMicrocredits": fields["amount"],
        "counter": fields["counter"],
        "postedAfterMicrocredits": fields["postedAfter"],
        "heldAfterMicrocredits": fields["heldAfter"],
        "transactionId": fields["opId"],
        "at": fields["at"],
        "hash": entry.hash,
    }
    if "holdId" in fields:
        shown["requestId"] = fields["holdId"]
    return shown
