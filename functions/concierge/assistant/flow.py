"""The journey of one request, from the client's write to its terminal status. All branching is here.

    validate -> classify -> route -> hold (the claim) -> generate -> settle -> finish

A second delivery of a request ends at the hold, which belongs to the first. Whatever happens after the hold ends in
exactly one settlement and one terminal status; what a dying instance leaves undone, the sweeper ends.
"""

import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from firebase_admin import exceptions as firebase_exceptions

from concierge.assistant import settlement
from concierge.assistant.classify import classify
from concierge.assistant.dependencies import AssistantDeps
from concierge.assistant.generation import generate
from concierge.assistant.repository import is_terminal
from concierge.assistant.route import Candidate, Decision, route
from concierge.assistant.schemas import Request, parse_request
from concierge.assistant.token_writer import TokenWriter
from concierge.credits.usage.recorder import End
from concierge.errors import (
    ConciergeError,
    Conflict,
    InsufficientCredits,
    Internal,
    NotFound,
)
from concierge.kit.faults import fault_point
from concierge.kit.logging import log
from concierge.kit.retry import Backoff
from concierge.ledger.repository import Hold, Work
from concierge.ledger.service import refusal_error
from concierge.llm.openai_compatible import ChatCall, OpenAICompatibleProvider

_DATABASE_BACKOFF = Backoff(attempts=5, base_seconds=0.1, cap_seconds=2.0)


@dataclass(frozen=True, slots=True)
class _Beforehand:
    """What is read beside the hold."""

    cancelled: bool
    answered_before: bool


def handle_request(deps: AssistantDeps, uid: str, request_id: str, raw: Any) -> None:
    """Serves one request. Safe to run any number of times for the same one, concurrently too.

    Errors reach the client as a typed `error` in its response. Raises only what the database itself raises when it
    takes no write at all; the sweeper then finds the request open.
    """
    try:
        request = parse_request(request_id, raw)
        decision = _decide(deps, request)
    except ConciergeError as error:
        deps.responses.refuse(uid, request_id, error)
        return
    beforehand = deps.beside.submit(_look_beforehand, deps, uid, request_id)
    provider = deps.beside.submit(deps.provider)
    run_id = uuid4().hex
    try:
        hold = _place_hold(deps, uid, request_id, request, decision, run_id)
    except Conflict as error:
        deps.responses.note_conflict(uid, request_id, error, still_running=False)
        return
    except ConciergeError as error:
        deps.responses.refuse(uid, request_id, error)
        return
    if hold.run_id != run_id:
        _meet_again(deps, uid, request_id, hold)
        return
    if hold.refusal is not None:
        deps.responses.refuse(uid, request_id, refusal_error(hold.refusal))
        return
    try:
        _serve(deps, uid, request_id, decision, hold, beforehand.result(), provider.result())
    except firebase_exceptions.FirebaseError:
        raise
    except Exception as error:  # noqa: BLE001  # a bug of ours must not leave the hold or the client waiting
        log("ERROR", "request.crashed", uid=uid, requestId=request_id, error=error)
        settlement.fail(deps, uid, request_id, Internal())


def _decide(deps: AssistantDeps, request: Request) -> Decision:
    return route(
        request,
        classify(request),
        deps.catalogue,
        default_model=deps.default_model,
        default_output_tokens=deps.settings.max_output_tokens,
        minimum_output_tokens=deps.settings.min_output_tokens,
        reservation_max=deps.settings.max_reservation_microcredits,
    )


def _look_beforehand(deps: AssistantDeps, uid: str, request_id: str) -> _Beforehand:
    cancelled = deps.responses.is_cancelled(uid, request_id)
    return _Beforehand(cancelled, deps.responses.exists(uid, request_id))


def _place_hold(
    deps: AssistantDeps, uid: str, request_id: str, request: Request, decision: Decision, run_id: str
) -> Hold:
    """The hold, after opening the account of somebody who was never seen before."""

    def place() -> Hold:
        return deps.ledger.place_hold(
            uid,
            request_id,
            request_hash=request.body_hash(),
            run_id=run_id,
            amount=decision.hold_amount,
            minimum=decision.hold_minimum,
            work=Work(decision.kind, decision.candidates[0].model),
        )

    try:
        return place()
    except NotFound:
        if deps.bonus.open_account(uid) is None:
            raise InsufficientCredits(decision.hold_minimum, 0) from None
        return place()


def _meet_again(deps: AssistantDeps, uid: str, request_id: str, hold: Hold) -> None:
    """A delivery of a request that another run claimed: that run, or the sweeper, ends it. What is over is closed."""
    log("INFO", "request.delivered_again", uid=uid, requestId=request_id, state=hold.state)
    if hold.state != "held":
        response = deps.responses.response(uid, request_id)
        if is_terminal(response):
            deps.responses.close(uid, request_id)


def _serve(
    deps: AssistantDeps,
    uid: str,
    request_id: str,
    decision: Decision,
    hold: Hold,
    beforehand: _Beforehand,
    provider: OpenAICompatibleProvider,
) -> None:
    if beforehand.answered_before:
        # The id was refused once, before there was a hold to remember it: its answer stands.
        released = deps.ledger.release(uid, request_id, beside=deps.usage.beside(End("failed")))
        deps.mirror.apply(uid, released.head)
        deps.responses.note_conflict(
            uid, request_id, Conflict("This request id has been answered."), still_running=False
        )
        return
    if beforehand.cancelled:
        settlement.cancel(deps, uid, request_id)
        return
    flush_seconds = deps.settings.stream_flush_milliseconds / 1000
    heartbeat_seconds = deps.settings.request_lease_seconds / 4
    writer = TokenWriter(deps.responses, uid, request_id, heartbeat_seconds=heartbeat_seconds)
    writer.announce(status="accepted", route=decision.route)
    output_tokens_max = decision.output_tokens_within(hold.amount)
    generation = generate(
        provider,
        _calls(decision, output_tokens_max),
        writer,
        is_cancelled=lambda: _is_cancelled(deps, uid, request_id),
        backoff=Backoff(deps.settings.provider_attempts, base_seconds=0.5, cap_seconds=8.0),
        deadline=time.monotonic() + deps.settings.request_deadline_seconds,
        flush_seconds=flush_seconds,
        output_tokens_max=output_tokens_max,
    )
    if not writer.flush_rest(_DATABASE_BACKOFF):
        # What never reached the client is not charged: the sweeper releases the hold when the database is back.
        log("ERROR", "chunks.not_written", uid=uid, requestId=request_id)
        return
    fault_point("generation.after")
    settlement.settle(deps, uid, request_id, decision, hold, generation, has_chunks=writer.chunks > 0)


def _calls(decision: Decision, output_tokens_max: int) -> list[tuple[Candidate, ChatCall]]:
    return [
        (candidate, ChatCall("answer", candidate.model, decision.messages, output_tokens_max, decision.temperature))
        for candidate in decision.candidates
    ]


def _is_cancelled(deps: AssistantDeps, uid: str, request_id: str) -> bool:
    """A failed look is not a cancellation; the next one is a tenth of a second away."""
    try:
        return deps.responses.is_cancelled(uid, request_id)
    except firebase_exceptions.FirebaseError as error:
        log("WARNING", "cancellation.not_read", uid=uid, requestId=request_id, error=error)
        return False
