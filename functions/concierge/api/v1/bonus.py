"""The welcome bonus: claimed by its person, reviewed by administrators."""

from typing import Annotated, Any, Literal

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue
from pydantic import Field

from concierge.api.idempotency import idempotent
from concierge.api.network import caller_network
from concierge.api.parameters import Digits
from concierge.api.support import (
    Schema,
    caller,
    check_administrator,
    decode_cursor,
    deps,
    encode_cursor,
    is_uid,
    query,
    require_admin,
    show_balance,
)
from concierge.credits.bonus.reviews import Review
from concierge.kit.timestamps import rfc3339
from concierge.ledger.transfers import Head

PAGE_MAX = 100

blueprint = Blueprint("bonus", __name__)


class ClaimBody(Schema):
    """Nothing: who claims is in the token, and from which devices is in /devices."""


class ReviewsQuery(Schema):
    state: Literal["withheld", "duplicate", "granted", "rejected"] = "withheld"
    limit: Annotated[Digits, Field(ge=1, le=PAGE_MAX)] = 50
    cursor: str | None = None


class DecisionBody(Schema):
    decision: Literal["grant", "reject"]
    note: Annotated[str, Field(strict=True, min_length=1, max_length=500)]


@blueprint.post("/credits/welcome-bonus")
@idempotent(ClaimBody)
def claim(body: ClaimBody, key: str) -> ResponseReturnValue:
    """`{state, amountMicrocredits, availableMicrocredits}`; whoever has had the bonus, or is withheld it, is told so.

    Why it was withheld is for administrators only: it would tell a farm what to change."""
    uid = caller().uid
    outcome = deps().bonus().claim(uid, caller_network(), remember=True)
    head = deps().ledger.head(uid) or Head()
    if outcome.posting is not None:
        show_balance(uid, head)
    return jsonify(
        state="withheld" if outcome.state == "duplicate" else outcome.state,
        amountMicrocredits=outcome.posting.operation.amount if outcome.posting is not None else 0,
        availableMicrocredits=head.available,
    )


@blueprint.get("/credits/bonus-reviews")
def reviews() -> ResponseReturnValue:
    """`{reviews: [...], next}` in one state, for administrators."""
    require_admin()
    asked = query(ReviewsQuery)
    after = None
    if asked.cursor is not None:
        after = decode_cursor("reviews", asked.cursor, _is_place)["after"]
    found = deps().bonus_reviews().list_reviews(asked.state, after=after, limit=asked.limit + 1)
    page = found[: asked.limit]
    following = encode_cursor("reviews", {"after": page[-1].uid}) if len(found) > asked.limit else None
    return jsonify(reviews=[_review_json(review) for review in page], next=following)


@blueprint.post("/credits/bonus-reviews/<uid>")
@idempotent(DecisionBody, check=check_administrator)
def decide(body: DecisionBody, key: str, uid: str) -> ResponseReturnValue:
    """Grants or rejects a withheld bonus, once; for administrators."""
    actor = caller().uid
    if body.decision == "reject":
        deps().bonus_reviews().reject(uid, decision_id=key, actor=actor, note=body.note)
        return jsonify(uid=uid, state="rejected")
    posting = deps().bonus_reviews().grant(uid, decision_id=key, actor=actor, note=body.note)
    return jsonify(uid=uid, state="granted", amountMicrocredits=posting.operation.amount)


def _is_place(cursor: dict[str, Any]) -> bool:
    return isinstance(cursor["after"], str) and is_uid(cursor["after"])


def _review_json(review: Review) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "uid": review.uid,
        "state": review.state,
        "points": review.points,
        "reasons": list(review.reasons),
        "at": rfc3339(review.at),
    }
    if review.decided_by is not None:
        shown |= {"decidedBy": review.decided_by, "note": review.note}
    return shown
