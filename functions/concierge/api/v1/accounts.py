"""Whole accounts: what is held about their people, and their freezing by administrators."""

from typing import Annotated, Any

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue
from pydantic import Field

from concierge.api.idempotency import idempotent
from concierge.api.parameters import Digits
from concierge.api.support import (
    Schema,
    caller,
    check_administrator,
    decode_cursor,
    deps,
    encode_cursor,
    is_document_id,
    query,
    show_balance,
    subject,
)
from concierge.credits.exports.service import PHASES, ExportPlace
from concierge.kit.logging import log
from concierge.kit.microcredits import AMOUNT_MAX_MICROCREDITS
from concierge.ledger.service import Posting
from concierge.ledger.transfers import Head

PAGE_MAX = 500

blueprint = Blueprint("accounts", __name__)


class ExportQuery(Schema):
    limit: Annotated[Digits, Field(ge=1, le=PAGE_MAX)] = PAGE_MAX
    cursor: str | None = None


class FreezeBody(Schema):
    """Why; kept with the operation, and in the entry as a hash."""

    reason: Annotated[str, Field(strict=True, min_length=1, max_length=500, pattern=r"\S")]


@blueprint.get("/accounts/<uid>/export")
def export(uid: str) -> ResponseReturnValue:
    """One page of the `concierge.export.v1` of an account (docs/audit.md); for the owner and administrators."""
    uid = subject(uid)
    asked = query(ExportQuery)
    place = _place(asked.cursor, uid) if asked.cursor is not None else None
    page = deps().exports().page(uid, place, limit=asked.limit, internal=caller().is_admin)
    following = None
    if page.following is not None:
        at = page.following
        following = encode_cursor("export", {"uid": uid, "phase": at.phase, "after": at.after, "last": at.last})
    return jsonify({**page.document, "cursor": asked.cursor, "next": following})


@blueprint.post("/accounts/<uid>/freeze")
@idempotent(FreezeBody, check=check_administrator)
def freeze(body: FreezeBody, key: str, uid: str) -> ResponseReturnValue:
    """No new holds and no outgoing transfers from now on; what is under way settles. For administrators."""
    actor = caller().uid
    posting = deps().ledger.freeze(uid, op_id=f"freeze:{key}", reason=body.reason, actor=actor)
    return _changed(uid, posting, "account.frozen", actor)


@blueprint.post("/accounts/<uid>/unfreeze")
@idempotent(FreezeBody, check=check_administrator)
def unfreeze(body: FreezeBody, key: str, uid: str) -> ResponseReturnValue:
    """Ends a freeze. For administrators."""
    actor = caller().uid
    posting = deps().ledger.unfreeze(uid, op_id=f"unfreeze:{key}", reason=body.reason, actor=actor)
    return _changed(uid, posting, "account.unfrozen", actor)


def _changed(uid: str, posting: Posting, event: str, actor: str) -> ResponseReturnValue:
    """`{uid, frozen, receipt}`: the state as it is now, and the entry that this request came to."""
    head = deps().ledger.head(uid) or Head()
    show_balance(uid, head)
    log("WARNING", event, uid=uid, actor=actor, seq=posting.operation.seq)
    receipt = {"entrySeq": posting.operation.seq, "hash": posting.operation.hash}
    return jsonify(uid=uid, frozen=head.frozen, receipt=receipt)


def _place(cursor: str, uid: str) -> ExportPlace:
    def check(value: dict[str, Any]) -> bool:
        after = value["after"]
        sound = value["phase"] in PHASES and (after == "" or is_document_id(after))
        if value["phase"] == "entries":
            sound = sound and after.isascii() and after.isdigit() and len(after) <= 12
        last = value["last"]
        return sound and value["uid"] == uid and type(last) is int and 0 <= last < AMOUNT_MAX_MICROCREDITS

    value = decode_cursor("export", cursor, check)
    return ExportPlace(value["phase"], value["after"], value["last"])
