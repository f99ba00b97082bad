"""Balances that contradict the ledger, where MIRROR_CONFLICT_STRATEGY leaves them to administrators."""

from typing import Any

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from concierge.api.idempotency import idempotent
from concierge.api.support import Schema, caller, check_administrator, deps, require_admin

blueprint = Blueprint("balances", __name__)


class ResolveBody(Schema):
    """Nothing: the ledger's balance is what is shown in the end."""


@blueprint.get("/credits/balance-reviews")
def reviews() -> ResponseReturnValue:
    """`{reviews: [{uid, shown, ledger, atMs}]}`, for administrators: what is shown, and what the ledger said when the
    conflict was found. All at once, since each is a fault somebody has to look at."""
    require_admin()
    waiting = deps().mirror().reviews()
    return jsonify(reviews=[_review_json(uid, waiting[uid]) for uid in sorted(waiting)])


@blueprint.post("/credits/balance-reviews/<uid>/resolve")
@idempotent(ResolveBody, check=check_administrator)
def resolve(body: ResolveBody, key: str, uid: str) -> ResponseReturnValue:
    """Shows the ledger's balance; for administrators. 404 if nothing waits, 409 while somebody else resolves it."""
    synced = deps().mirror().resolve_review(uid, decision_id=key, actor=caller().uid)
    return jsonify(uid=uid, action=synced.action, before=synced.before, after=synced.after)


def _review_json(uid: str, review: dict[str, Any]) -> dict[str, Any]:
    return {"uid": uid, "shown": review.get("shown"), "ledger": review.get("ledger"), "atMs": review.get("at")}
