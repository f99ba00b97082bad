"""Checkpoints, public for everybody who watches the log, and receipts, for the owner of an account."""

from typing import Any

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from concierge.api.parameters import NUMBER_MAX, query_number, whole_number
from concierge.api.support import deps, subject
from concierge.errors import NotFound
from concierge.kit.timestamps import rfc3339

PAGE_MAX_CHECKPOINTS = 100

blueprint = Blueprint("checkpoints", __name__)


@blueprint.get("/ledger/checkpoints")
def published() -> ResponseReturnValue:
    """`{checkpoints: [checkpoint], next}` after number `?after=`, at most `?limit=` (100), public. Checkpoint:
    `{number, size, root, note, at}`, the note in C2SP checkpoint format and the root in hexadecimal."""
    after = query_number("after", default=0, minimum=0, maximum=NUMBER_MAX)
    limit = query_number("limit", default=PAGE_MAX_CHECKPOINTS, minimum=1, maximum=PAGE_MAX_CHECKPOINTS)
    records = deps().checkpoints.published(after, limit + 1)
    page = records[:limit]
    return jsonify(
        checkpoints=[_checkpoint_json(record) for record in page],
        next=page[-1].number if len(records) > limit else None,
    )


@blueprint.get("/ledger/checkpoints/latest")
def latest() -> ResponseReturnValue:
    """The newest checkpoint, public."""
    record = deps().checkpoints.latest()
    if record is None:
        raise NotFound("There is no checkpoint yet.")
    return jsonify(_checkpoint_json(record))


@blueprint.get("/ledger/consistency")
def consistency() -> ResponseReturnValue:
    """A `concierge.consistency.v1`: that the tree of `?to=` leaves is that of `?from=` with leaves added, public."""
    first = query_number("from", minimum=1, maximum=NUMBER_MAX)
    second = query_number("to", minimum=1, maximum=NUMBER_MAX)
    return jsonify(deps().checkpoints.consistency(first, second))


@blueprint.get("/accounts/<uid>/ledger/entries/<seq>/receipt")
def entry_receipt(uid: str, seq: str) -> ResponseReturnValue:
    """The `concierge.receipt.v1` of one entry (docs/receipts.md), for the owner and administrators."""
    subject(uid)
    number = whole_number("seq", seq, minimum=1, maximum=NUMBER_MAX)
    return jsonify(deps().checkpoints.receipt(uid, number))


def _checkpoint_json(record: Any) -> dict[str, Any]:
    return {
        "number": record.number,
        "size": record.size,
        "root": record.root,
        "note": record.note,
        "at": rfc3339(record.published_at),
    }
