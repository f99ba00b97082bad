"""From what was generated to one resolution of the hold and one terminal status."""

from dataclasses import dataclass
from typing import Any

from firebase_admin import exceptions as firebase_exceptions

from concierge.assistant.dependencies import AssistantDeps
from concierge.assistant.generation import Generation
from concierge.assistant.repository import chunks_text, is_terminal
from concierge.assistant.route import Decision
from concierge.credits.usage.recorder import End
from concierge.errors import (
    AccountFrozen,
    ConciergeError,
    Conflict,
    HoldExpired,
    Interrupted,
    ProviderUnavailable,
    Unavailable,
)
from concierge.kit.faults import fault_point
from concierge.kit.logging import log
from concierge.kit.retry import Backoff, call_with_retry
from concierge.ledger.repository import Hold
from concierge.ledger.reservations import Resolution
from concierge.llm.openai_compatible import Usage

COUNTER_CHAT = "revenue:chat"

_DATABASE_BACKOFF = Backoff(attempts=6, base_seconds=0.1, cap_seconds=2.0)
# Without a tokenizer, four bytes a token: the usual rule of thumb for English, and an overestimate for nothing else.
_BYTES_PER_TOKEN = 4
_UNKNOWN_INPUT_TOKENS_MAX = 2_000
_STATUS = {"complete": "done", "cancelled": "cancelled", "failed": "failed"}


@dataclass(frozen=True, slots=True)
class Charge:
    """What to capture, in microcredits, and the usage it follows from; 0 and None where nothing came."""

    amount: int
    usage: Usage | None
    estimated: bool = False


def charge_for(decision: Decision, hold: Hold, generation: Generation) -> Charge:
    """The price of what was generated, at the rates of the model that answered, and never more than the hold.

    The provider's own count decides where it sent a plausible one; a cancelled or broken answer is estimated.
    """
    if not generation.text or generation.answered_by is None:
        return Charge(0, None)
    usage, estimated = _plausible(generation.usage, decision, hold), False
    if usage is None:
        usage, estimated = _estimate(decision, generation), True
    cost = generation.answered_by.price.cost(usage.input_tokens, usage.output_tokens, usage.cached_input_tokens)
    if cost > hold.amount:
        log("ERROR", "charge.over_hold", holdId=hold.hold_id, costMicrocredits=cost, heldMicrocredits=hold.amount)
    return Charge(min(cost, hold.amount), usage, estimated)


def settle(
    deps: AssistantDeps,
    uid: str,
    request_id: str,
    decision: Decision,
    hold: Hold,
    generation: Generation,
    *,
    has_chunks: bool,
) -> None:
    """Captures or releases, then finishes. If the ledger does not answer, the sweeper does both later."""
    charge = charge_for(decision, hold, generation)
    fields: dict[str, Any] = {
        "status": _STATUS[generation.end],
        "text": generation.text,
        "model": generation.answered_by.model if generation.answered_by is not None else None,
        "route": decision.route,
        "error": generation.error.public() if generation.error is not None else None,
    }
    if charge.usage is not None:
        fields["usage"] = {
            "inputTokens": charge.usage.input_tokens,
            "outputTokens": charge.usage.output_tokens,
            "estimated": charge.estimated,
        }
        if charge.usage.cached_input_tokens:
            fields["usage"]["cachedInputTokens"] = charge.usage.cached_input_tokens
    conclude(deps, uid, request_id, charge.amount, fields, has_chunks=has_chunks)


def conclude(
    deps: AssistantDeps, uid: str, request_id: str, amount: int, fields: dict[str, Any], *, has_chunks: bool
) -> bool:
    """Resolves the hold with this amount and writes the terminal fields. True if the request is concluded.

    Somebody else's resolution stands, and so does a terminal status that was written for it.
    """
    counted = deps.usage.beside(_end_of(fields))
    try:
        if amount > 0:
            resolution = deps.ledger.capture(
                uid, request_id, amount, counter=COUNTER_CHAT, note=fields["status"], beside=counted
            )
        else:
            resolution = deps.ledger.release(uid, request_id, beside=counted)
    except HoldExpired as error:
        # The work was done and cannot be charged any more: ours to bear, and to be looked at.
        log("ERROR", "capture.late", uid=uid, requestId=request_id, amountMicrocredits=amount)
        if is_terminal(deps.responses.response(uid, request_id)):
            deps.responses.close(uid, request_id)
            return True
        expired = deps.ledger.expire(uid, request_id, beside=counted)
        finish(deps, uid, request_id, expired, {**fields, "status": "failed", "error": error.public()}, has_chunks)
        return True
    except Conflict:
        # Taken for dead and ended by the sweeper. Should a late write of this run have reopened the response, the
        # request is closed already and nobody else would end it again.
        log("WARNING", "settlement.lost", uid=uid, requestId=request_id)
        fail(deps, uid, request_id, interrupted())
        return True
    except (Unavailable, AccountFrozen) as error:
        # No answer, or an account under repair: the sweeper settles when it is over.
        log("ERROR", "settlement.postponed", uid=uid, requestId=request_id, error=error)
        record = {"amount": amount, "fields": fields, "hasChunks": has_chunks}
        _patiently(lambda: deps.responses.remember_settlement(uid, request_id, record))
        return False
    if resolution.replayed and is_terminal(deps.responses.response(uid, request_id)):
        # The sweeper took this run for dead and ended the request: a terminal status never changes.
        deps.responses.close(uid, request_id)
        return True
    finish(deps, uid, request_id, resolution, fields, has_chunks)
    return True


def finish(
    deps: AssistantDeps,
    uid: str,
    request_id: str,
    resolution: Resolution,
    fields: dict[str, Any],
    has_chunks: bool,
    *,
    close: bool = True,
) -> None:
    """The balance, then the terminal status with its receipt, in that order: who reads `done` sees the new balance."""
    fault_point("finish.before")
    hold = resolution.hold
    fields = {
        **fields,
        "cost": {"heldMicrocredits": hold.amount, "chargedMicrocredits": hold.captured},
        "receipt": {"entrySeq": hold.entry_seq, "hash": hold.entry_hash},
    }
    now_ms = deps.now_ms()

    def write() -> None:
        deps.mirror.apply(uid, resolution.head)
        deps.responses.finish(uid, request_id, fields, has_chunks=has_chunks, now_ms=now_ms, close=close)

    _patiently(write)
    log(
        "INFO",
        "request.ended",
        uid=uid,
        requestId=request_id,
        status=fields["status"],
        model=fields.get("model"),
        heldMicrocredits=hold.amount,
        chargedMicrocredits=hold.captured,
    )


def cancel(deps: AssistantDeps, uid: str, request_id: str) -> None:
    """Ends a request that was cancelled before any provider was called."""
    conclude(deps, uid, request_id, 0, {"status": "cancelled", "text": ""}, has_chunks=False)


def fail(deps: AssistantDeps, uid: str, request_id: str, error: ConciergeError, *, close: bool = True) -> None:
    """Ends a request by releasing its hold, keeping the text that its client has.

    The sweeper does not close the request at once: a run that it took for dead may still have a write on its way, and
    would reopen a response that nobody looks at any more.

    If the hold turns out to be captured, the answer was complete and only its status is missing: that is repaired.
    """
    response = deps.responses.response(uid, request_id) or {}
    if is_terminal(response):
        if close:
            deps.responses.close(uid, request_id)
        return
    model = response.get("model")
    end = End("failed", model=model if isinstance(model, str) else None)
    resolution = deps.ledger.release(uid, request_id, beside=deps.usage.beside(end))
    # Read again: while the ledger worked, the run itself may have written more text, or ended the request.
    response = deps.responses.response(uid, request_id) or {}
    if is_terminal(response):
        if close:
            deps.responses.close(uid, request_id)
        return
    fields: dict[str, Any] = {"text": chunks_text(response)}
    if resolution.hold.state == "captured":
        fields["status"] = resolution.hold.note
        error = ProviderUnavailable("The model provider broke off its answer.")
    if fields.get("status") not in ("done", "cancelled"):
        fields.update(status="failed", error=error.public())
    finish(deps, uid, request_id, resolution, fields, "chunks" in response, close=close)


def interrupted() -> Interrupted:
    return Interrupted("The answer was interrupted. It was not charged.")


def _end_of(fields: dict[str, Any]) -> End:
    """What is counted of an end, from its terminal fields: also of one that waited in the database."""
    usage = fields.get("usage") or {}
    return End(
        status=fields["status"],
        model=fields.get("model"),
        input_tokens=usage.get("inputTokens", 0),
        cached_input_tokens=usage.get("cachedInputTokens", 0),
        output_tokens=usage.get("outputTokens", 0),
    )


def _plausible(usage: Usage | None, decision: Decision, hold: Hold) -> Usage | None:
    """The provider's count, unless it cannot be true of this call.

    Templates and tools of the provider's own may add some input that we do not know of; it is not charged.
    """
    if usage is None or usage.input_tokens < 1:
        return None
    if not 1 <= usage.output_tokens <= decision.output_tokens_within(hold.amount):
        return None
    if usage.input_tokens > decision.input_tokens_max + _UNKNOWN_INPUT_TOKENS_MAX:
        return None
    input_tokens = min(usage.input_tokens, decision.input_tokens_max)
    return Usage(input_tokens, usage.output_tokens, min(usage.cached_input_tokens, input_tokens))


def _estimate(decision: Decision, generation: Generation) -> Usage:
    sent = sum(len(message["content"].encode()) for message in decision.messages)
    generated = -(-len(generation.text.encode()) // _BYTES_PER_TOKEN)
    return Usage(max(1, -(-sent // _BYTES_PER_TOKEN)), max(generation.pieces, generated))


def _patiently(write: Any) -> None:
    call_with_retry(write, backoff=_DATABASE_BACKOFF, retry_on=(firebase_exceptions.FirebaseError,))
