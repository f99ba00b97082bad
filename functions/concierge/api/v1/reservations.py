"""/api/v1/credits: reservations, and what a request would cost or lack.

Amounts are integers of microcredits, in JSON fields that end in `Microcredits`.
"""

from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue
from pydantic import Field, model_validator

from concierge.api.idempotency import idempotent
from concierge.api.network import caller_network
from concierge.api.support import Schema, caller, deps, own_head, show_balance
from concierge.errors import InsufficientCredits, InvalidArgument, NotFound
from concierge.kit.canonical import fingerprint
from concierge.kit.ids import REQUEST_ID
from concierge.kit.microcredits import AMOUNT_MAX_MICROCREDITS, from_credits
from concierge.kit.timestamps import rfc3339
from concierge.ledger.reservations import API_RUN
from concierge.ledger.service import refusal_error
from concierge.ledger.transfers import Head

blueprint = Blueprint("reservations", __name__)

Amount = Annotated[int, Field(strict=True, ge=1, le=AMOUNT_MAX_MICROCREDITS)]
# Digits are spelled out: `\d` of pydantic's expressions takes those of all scripts.
DecimalCredits = Annotated[str, Field(strict=True, pattern=r"^[0-9]{1,10}(\.[0-9]{1,6})?$")]
Id = Annotated[str, Field(strict=True, pattern=f"^{REQUEST_ID.pattern}$")]


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
        try:
            amount = from_credits(Decimal(self.amount_credits or 0))
        except ValueError:
            raise InvalidArgument("amountCredits", "amountCredits: more than any account can hold") from None
        if amount == 0:
            raise InvalidArgument("amountCredits", "amountCredits: must be more than nothing")
        return amount


class ReserveBody(SomeAmount):
    reservation_id: Id | None = None

    @model_validator(mode="after")
    def _has_an_amount(self) -> Self:
        assert self.amount > 0
        return self


class ReleaseBody(Schema):
    reservation_id: Id


class EstimateBody(Schema):
    """A request as it would be written to /requests, without its conversation and time."""

    kind: Literal["chat", "image", "vision", "agent", "auto"]
    text: Annotated[str, Field(strict=True)]
    options: dict[str, Any] = Field(default_factory=dict)
    attachments: list[Any] = Field(default_factory=list)

    def raw(self) -> dict[str, Any]:
        return {"kind": self.kind, "text": self.text, "options": self.options, "attachments": self.attachments}


class CheckBody(SomeAmount):
    request: EstimateBody | None = None

    @model_validator(mode="after")
    def _asks_one_question(self) -> Self:
        if self.request is None:
            assert self.amount > 0
        elif self.amount_microcredits is not None or self.amount_credits is not None:
            raise InvalidArgument("request", "Give an amount or a request, not both.")
        return self


@blueprint.post("/credits/reserve")
@idempotent(ReserveBody)
def reserve(body: ReserveBody, key: str) -> ResponseReturnValue:
    """Holds credits for the caller; the stored outcome if the reservation exists."""
    uid, amount = caller().uid, body.amount
    longest = deps().settings.max_reservation_microcredits
    if amount > longest:
        available = (deps().ledger.head(uid) or Head()).available
        raise InsufficientCredits(amount - longest, max(0, available), limit="reservation", limit_microcredits=longest)
    hold = _place(uid, body.reservation_id or f"r-{key}", amount)
    if hold.refusal is not None:
        raise refusal_error(hold.refusal)
    show_balance(uid, deps().ledger.head(uid) or Head())
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
    show_balance(uid, resolution.head)
    return jsonify(_reservation_json(resolution.hold))


def _check_estimable(body: EstimateBody) -> None:
    deps().estimate(body.raw())


def _check_question(body: CheckBody) -> None:
    if body.request is None:
        return
    try:
        _check_estimable(body.request)
    except InvalidArgument as error:
        raise InvalidArgument(f"request.{error.field}", error.message) from None


@blueprint.post("/credits/check-insufficient")
@idempotent(CheckBody, check=_check_question)
def check_insufficient(body: CheckBody, key: str) -> ResponseReturnValue:
    """Whether the balance covers an amount, or a request's least hold; nothing is held."""
    needed = deps().estimate(body.request.raw()).hold_minimum if body.request is not None else body.amount
    head = own_head()
    missing = max(0, needed - head.available)
    return jsonify(
        sufficient=missing == 0 and not head.blocked,
        neededMicrocredits=needed,
        availableMicrocredits=head.available,
        missingMicrocredits=missing,
        frozen=head.blocked,
    )


@blueprint.post("/credits/estimate")
@idempotent(EstimateBody, check=_check_estimable)
def estimate(body: EstimateBody, key: str) -> ResponseReturnValue:
    """What this request would cost, before it is sent; nothing is held."""
    found = deps().estimate(body.raw())
    head = own_head()
    return jsonify(
        model=found.model,
        route=found.route,
        kind=found.kind,
        complexity=found.complexity,
        outputTokensMax=found.output_tokens_max,
        holdMicrocredits=found.hold_amount,
        holdMinimumMicrocredits=found.hold_minimum,
        costMicrocredits={"lowest": found.lowest, "expected": found.expected, "highest": found.highest},
        covered=head.available >= found.hold_minimum and not head.blocked,
        missingMicrocredits=max(0, found.hold_minimum - head.available),
        reasons=list(found.reasons),
    )


def _place(uid: str, reservation_id: str, amount: int) -> Any:
    """The hold, after welcoming somebody who was never seen before."""

    def place(*, unknown_is_empty: bool) -> Any:
        return deps().ledger.place_hold(
            uid,
            reservation_id,
            request_hash=fingerprint({"reserve": amount}),
            run_id=API_RUN,
            amount=amount,
            minimum=amount,
            unknown_is_empty=unknown_is_empty,
        )

    try:
        return place(unknown_is_empty=False)
    except NotFound:
        deps().bonus().claim(uid, caller_network())
        # Who has no account even now is refused, and this is kept under the id as any refusal.
        return place(unknown_is_empty=True)


def _reservation_json(hold: Any) -> dict[str, Any]:
    return {
        "reservationId": hold.hold_id,
        "state": hold.state,
        "amountMicrocredits": hold.amount,
        "placedAt": rfc3339(hold.placed_at),
        "expiresAt": rfc3339(hold.expires_at),
        "receipt": {"entrySeq": hold.entry_seq, "hash": hold.entry_hash},
    }
