"""Ledger reads: everything a person needs to check their own account without trusting us."""

import base64
from typing import Any

from flask import Blueprint, current_app, jsonify, request
from flask.typing import ResponseReturnValue

from concierge.api.context import ApiDeps
from concierge.errors import InvalidArgument, NotFound
from concierge.identity.tokens import require_self_or_admin, verify_caller
from concierge.ledger.entries import StoredEntry

PAGE_MAX_ENTRIES = 500
_DIGITS_MAX = 16

blueprint = Blueprint("ledger", __name__)


@blueprint.get("/ledger/keys")
def keys() -> ResponseReturnValue:
    """`{ledger, keys: {keyId: raw Ed25519 public key in base64}}`, public: without it nobody could check a receipt."""
    deps = _deps()
    return jsonify(ledger=deps.ledger.ledger_id, keys=deps.ledger.published_keys())


@blueprint.get("/accounts/<uid>/ledger/entries")
def entries(uid: str) -> ResponseReturnValue:
    """`{entries: [entry], head: {...}, next}` after entry `?after=`, at most `?limit=` (500); for the owner and
    administrators. Entry: `{content, hash, keyId, signature}`, content and signature in base64."""
    deps = _deps()
    require_self_or_admin(verify_caller(request.headers.get("Authorization"), deps.firebase_app), uid)
    after = _whole_number("after", default=0, minimum=0, maximum=2**53)
    limit = _whole_number("limit", default=100, minimum=1, maximum=PAGE_MAX_ENTRIES)
    head = deps.ledger.head(uid)
    if head is None:
        raise NotFound(f"There is no account {uid}.")
    page = deps.ledger.entries(uid, after_seq=after, limit=limit)
    return jsonify(
        entries=[_entry_json(entry) for entry in page],
        head={
            "seq": head.seq,
            "hash": head.hash,
            "postedMicrocredits": head.posted,
            "heldMicrocredits": head.held,
        },
        next=after + len(page) if after + len(page) < head.seq else None,
    )


@blueprint.get("/accounts/<uid>/receipts/<request_id>")
def receipt(uid: str, request_id: str) -> ResponseReturnValue:
    """The receipt of one request: `{requestId, state, chargedMicrocredits, entry}`; for the owner and administrators.

    Reading it, and the response it belongs to, costs nothing however often it is done.
    """
    deps = _deps()
    require_self_or_admin(verify_caller(request.headers.get("Authorization"), deps.firebase_app), uid)
    hold = deps.ledger.find_hold(uid, request_id)
    entry = deps.ledger.entry(uid, hold.entry_seq) if hold is not None and hold.entry_seq else None
    if hold is None or entry is None:
        raise NotFound(f"There is no receipt for request {request_id}.")
    return jsonify(requestId=request_id, state=hold.state, chargedMicrocredits=hold.captured, entry=_entry_json(entry))


def _deps() -> ApiDeps:
    deps: ApiDeps = current_app.extensions["concierge"]
    return deps


def _whole_number(name: str, *, default: int, minimum: int, maximum: int) -> int:
    text = request.args.get(name)
    if text is None:
        return default
    if len(text) > _DIGITS_MAX or not text.isascii() or not text.isdigit() or not minimum <= int(text) <= maximum:
        raise InvalidArgument(name, f"{name} is a whole number from {minimum} to {maximum}.")
    return int(text)


def _entry_json(entry: StoredEntry) -> dict[str, Any]:
    return {
        "content": base64.b64encode(entry.content).decode(),
        "hash": entry.hash,
        "keyId": entry.key_id,
        "signature": base64.b64encode(entry.signature).decode(),
    }
