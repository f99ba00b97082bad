"""/api/v1/credits: a person's balance, history and reservations, and what a request would cost.

Amounts are integers of microcredits, in JSON fields that end in `Microcredits`.
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue
from pydantic import AwareDatetime, Field, model_validator

from concierge.api.idempotency import idempotent
from concierge.api.network import caller_network
from concierge.api.support import (
    Schema,
    Subject,
    caller,
    decode_cursor,
    deps,
    encode_cursor,
    query,
    require_admin,
    subject,
)
from concierge.credits import history as histories
from concierge.credits.mirror import Strategy
from concierge.errors import InsufficientCredits, InvalidArgument, NotFound
from concierge.kit.canonical import fingerprint
from concierge.kit.ids import REQUEST_ID
from concierge.kit.microcredits import AMOUNT_MAX_MICROCREDITS, from_credits
from concierge.ledger import inspection
from concierge.ledger.checkpoints.receipts import entry_to_json
from concierge.ledger.entries import StoredEntry
from concierge.ledger.reservations import API_RUN
from concierge.ledger.service import refusal_error
from concierge.ledger.transfers import EntryKind, Head

PAGE_MAX = 100

blueprint = Blueprint("credits", __name__)

Amount = Annotated[int, Field(strict=True, ge=1, le=AMOUNT_MAX_MICROCREDITS)]
DecimalCredits = Annotated[str, Field(strict=True, pattern=r"^\d{1,10}(\.\d{1,6})?$")]
Id = Annotated[str, Field(strict=True, pattern=f"^{REQUEST_ID.pattern}$")]


class HistoryQuery(Schema):
    uid: str | None = None
    kind: tuple[EntryKind, ...] = ()
    from_: Annotated[AwareDatetime | None, Field(alias="from")] = None
    to: AwareDatetime | None = None
    request_id: Id | None = None
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = 50
    cursor: str | None = None


class SomeAmount(Schema):
    """An amount, either in microcredits or as an exact decimal number of credits."""

    amount_microcredits: Amount | None = None
    amount_credits: DecimalCredits | None = None

    @property
    def amount(self) -> int:
        """In microcredits. Raises InvalidArgument unless there is exactly one positive amount."""
        if (self.amount_microcredits is None) == (self.amount_credits is None):
            raise InvalidArgument("amountMicrocredits", "Give either amountMicrocredits or amountCredits.")
        if self.amount_microcredits is not None:
            return self.amount_microcredits
        amount = from_credits(Decimal(self.amount_credits or 0))
        if amount == 0:
            raise InvalidArgument("amountCredits", "amountCredits: must be more than nothing")
        return amount


class ReserveBody(SomeAmount):
    reservation_id: Id | None = None


class ReleaseBody(Schema):
    reservation_id: Id


class SyncBody(Schema):
    uid: str | None = None
    strategy: Strategy | None = None


class EstimateBody(Schema):
    """A request as it would be written to /requests, without its conversation and time."""

    kind: Literal["chat", "image", "vision", "agent", "auto"]
    text: Annotated[str, Field(strict=True)]
    options: dict[str, Any] = Field(default_factory=dict)
    attachments: list[Any] = Field(default_factory=list)

    def raw(self) -> dict[str, Any]:
        return self.model_dump(exclude_defaults=True, by_alias=True)


class CheckBody(SomeAmount):
    request: EstimateBody | None = None

    @model_validator(mode="after")
    def _one_question(self) -> "CheckBody":
        if self.request is not None and (self.amount_microcredits is not None or self.amount_credits is not None):
            raise ValueError("give an amount or a request")
        return self


@blueprint.get("/credits/balance")
def balance() -> ResponseReturnValue:
    """The account's head; somebody who was never seen before is welcomed first, and zero without any credits."""
    uid = subject(query(Subject).uid)
    head = deps().ledger.head(uid)
    if head is None and uid == caller().uid:
        deps().bonus().claim(uid, caller_network())
        head = deps().ledger.head(uid)
    return jsonify(_head_json(uid, head or Head()))


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


@blueprint.post("/credits/reserve")
@idempotent(ReserveBody)
def reserve(body: ReserveBody, key: str) -> ResponseReturnValue:
    """Holds credits for the caller; the stored outcome if the reservation exists."""
    uid, amount = caller().uid, body.amount
    longest = deps().settings.max_reservation_microcredits
    if amount > longest:
        available = deps().ledger.head(uid)
        raise InsufficientCredits(
            amount - longest,
            max(0, available.available) if available is not None else 0,
            limit="reservation",
            limit_microcredits=longest,
        )
    reservation_id = body.reservation_id or f"r-{key}"
    hold = _place(uid, reservation_id, amount)
    if hold.refusal is not None:
        raise refusal_error(hold.refusal)
    deps().mirror().apply(uid, deps().ledger.head(uid) or Head())
    return jsonify(_reservation_json(hold)), 201


@blueprint.post("/credits/release-reservation")
@idempotent(ReleaseBody)
def release_reservation(body: ReleaseBody, key: str) -> ResponseReturnValue:
    """Frees what `reserve` held. The hold of a request is not the caller's to release: it is cancelled instead."""
    uid = caller().uid
    hold = deps().ledger.find_hold(uid, body.reservation_id)
    if hold is None or hold.run_id != API_RUN or hold.refusal is not None:
        raise NotFound("There is no such reservation.")
    resolution = deps().ledger.release(uid, body.reservation_id)
    deps().mirror().apply(uid, resolution.head)
    return jsonify(_reservation_json(resolution.hold))


@blueprint.post("/credits/check-insufficient")
@idempotent(CheckBody)
def check_insufficient(body: CheckBody, key: str) -> ResponseReturnValue:
    """Whether the balance covers an amount, or a request's least hold; nothing is held."""
    needed = deps().estimate(body.request.raw()).hold_minimum if body.request is not None else body.amount
    head = deps().ledger.head(caller().uid) or Head()
    missing = max(0, needed - head.available)
    return jsonify(
        sufficient=missing == 0 and not head.frozen,
        neededMicrocredits=needed,
        availableMicrocredits=head.available,
        missingMicrocredits=missing,
        frozen=head.frozen,
    )


@blueprint.post("/credits/estimate")
@idempotent(EstimateBody)
def estimate(body: EstimateBody, key: str) -> ResponseReturnValue:
    """What this request would cost, before it is sent; nothing is held."""
    found = deps().estimate(body.raw())
    head = deps().ledger.head(caller().uid) or Head()
    return jsonify(
        model=found.model,
        route=found.route,
        kind=found.kind,
        complexity=found.complexity,
        outputTokensMax=found.output_tokens_max,
        holdMicrocredits=found.hold_amount,
        holdMinimumMicrocredits=found.hold_minimum,
        costMicrocredits={"lowest": found.lowest, "expected": found.expected, "highest": found.highest},
        covered=head.available >= found.hold_minimum and not head.frozen,
        missingMicrocredits=max(0, found.hold_minimum - head.available),
        reasons=list(found.reasons),
    )


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
    if not 1 <= len(transaction_id) <= 256 or "/" in transaction_id:
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


@blueprint.post("/credits/sync-balance")
@idempotent(SyncBody)
def sync_balance(body: SyncBody, key: str) -> ResponseReturnValue:
    """Compares the shown balance with the ledger now, and repairs it. Another strategy than the configured one is for
    administrators."""
    uid = subject(body.uid)
    if body.strategy is not None:
        require_admin()
    synced = deps().mirror().sync(uid, body.strategy)
    return jsonify(action=synced.action, before=synced.before, after=synced.after)


def _place(uid: str, reservation_id: str, amount: int) -> Any:
    """The hold, after welcoming somebody who was never seen before."""

    def place() -> Any:
        return deps().ledger.place_hold(
            uid,
            reservation_id,
            request_hash=fingerprint({"reserve": amount}),
            run_id=API_RUN,
            amount=amount,
            minimum=amount,
        )

    try:
        return place()
    except NotFound:
        deps().bonus().claim(uid, caller_network())
        if deps().ledger.head(uid) is None:
            raise InsufficientCredits(amount, 0) from None
        return place()


def _is_place(cursor: dict[str, Any]) -> bool:
    return type(cursor["before"]) is int and 0 < cursor["before"] <= AMOUNT_MAX_MICROCREDITS


def _head_json(uid: str, head: Head) -> dict[str, Any]:
    return {
        "uid": uid,
        "postedMicrocredits": head.posted,
        "heldMicrocredits": head.held,
        "availableMicrocredits": head.available,
        "debtMicrocredits": head.debt,
        "frozen": head.frozen or head.quarantined,
        "seq": head.seq,
        "hash": head.hash,
    }


def _entry_json(entry: StoredEntry) -> dict[str, Any]:
    fields = entry.fields()
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


def _reservation_json(hold: Any) -> dict[str, Any]:
    return {
        "reservationId": hold.hold_id,
        "state": hold.state,
        "amountMicrocredits": hold.amount,
        "placedAt": _time(hold.placed_at),
        "expiresAt": _time(hold.expires_at),
        "receipt": {"entrySeq": hold.entry_seq, "hash": hold.entry_hash},
    }


def _time(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
