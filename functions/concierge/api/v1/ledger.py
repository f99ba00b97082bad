"""Ledger reads: everything a person needs to check their own account without trusting us."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from concierge.api.parameters import NUMBER_MAX, query_number
from concierge.api.support import deps, subject
from concierge.errors import NotFound
from concierge.kit.ids import REQUEST_ID
from concierge.ledger.json_forms import entry_to_json, head_to_json

PAGE_MAX_ENTRIES = 500

blueprint = Blueprint("ledger", __name__)


@blueprint.get("/ledger/keys")
def keys() -> ResponseReturnValue:
    """`{ledger, keys: {keyId: raw Ed25519 public key in base64}, checkpointKeys: [vkey]}`, public: without it nobody
    could check a receipt."""
    return jsonify(
        ledger=deps().ledger.ledger_id, keys=deps().ledger.published_keys(), checkpointKeys=deps().checkpoints.vkeys
    )


@blueprint.get("/accounts/<uid>/ledger/entries")
def entries(uid: str) -> ResponseReturnValue:
    """`{entries: [entry], head: {...}, next}` after entry `?after=`, at most `?limit=` (500); for the owner and
    administrators. Entry: `{content, hash, keyId, signature}`, content and signature in base64."""
    subject(uid)
    after = query_number("after", default=0, minimum=0, maximum=NUMBER_MAX)
    limit = query_number("limit", default=100, minimum=1, maximum=PAGE_MAX_ENTRIES)
    head = deps().ledger.head(uid)
    if head is None:
        raise NotFound(f"There is no account {uid}.")
    page = deps().ledger.entries(uid, after_seq=after, limit=limit)
    return jsonify(
        entries=[entry_to_json(entry) for entry in page],
        head=head_to_json(head),
        next=after + len(page) if after + len(page) < head.seq else None,
    )


@blueprint.get("/accounts/<uid>/receipts/<request_id>")
def receipt(uid: str, request_id: str) -> ResponseReturnValue:
    """The receipt of one request: `{requestId, state, chargedMicrocredits, entry}`; for the owner and administrators.

    Reading it, and the response it belongs to, costs nothing however often it is done.
    """
    subject(uid)
    hold = deps().ledger.find_hold(uid, request_id) if REQUEST_ID.fullmatch(request_id) else None
    entry = deps().ledger.entry(uid, hold.entry_seq) if hold is not None and hold.entry_seq else None
    if hold is None or entry is None:
        raise NotFound(f"There is no receipt for request {request_id}.")
    return jsonify(
        requestId=request_id, state=hold.state, chargedMicrocredits=hold.captured, entry=entry_to_json(entry)
    )
