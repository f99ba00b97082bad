"""The sweeper: ends or runs what dying instances and lost deliveries left behind.

Runs every minute, any number at once. Everything it does is idempotent under the same ids as the journey
itself, so it may race with a run that is only slow: the hold is resolved once, and whoever resolved it writes the
status.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal

from concierge.assistant import flow, settlement
from concierge.assistant.dependencies import AssistantDeps
from concierge.assistant.repository import OpenRequest, is_terminal
from concierge.credits.usage.recorder import End
from concierge.kit.logging import log
from concierge.ledger.repository import Hold
from concierge.ledger.service import refusal_error

_AT_ONCE = 8
_HOLDS_PER_SWEEP = 500
_CHUNKS_PER_SWEEP = 500

Outcome = Literal["settled", "run", "failed", "closed", "expired", "left", "error"]
"""What became of one open request: its capture was made up for, it was run, it was ended as failed, it was over
already, its hold was overdue, it is somebody else's and alive, or it could not be dealt with this time."""


def sweep(deps: AssistantDeps) -> Counter[str]:
    """One pass; how often there was each outcome, with `chunks_deleted`.

    An error with one request is logged and counted, and does not keep the others waiting; nor does a slow one, because
    several are dealt with at once.
    """
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="sweep") as pool:
        report: Counter[str] = Counter(pool.map(lambda action: action(), _actions(deps)))
    for hold in deps.ledger.due_holds(_HOLDS_PER_SWEEP):
        report[_guarded(hold.uid, hold.hold_id, partial(_expire, deps, hold))] += 1
    before_ms = deps.now_ms() - int(deps.settings.chunk_retention_seconds * 1000)
    report["chunks_deleted"] = deps.responses.delete_old_chunks(before_ms, _CHUNKS_PER_SWEEP)
    log("INFO", "sweep.done", outcomes=report)
    return report


def _actions(deps: AssistantDeps) -> Iterator[Callable[[], Outcome]]:
    """One for each postponed settlement and for each other open request."""
    postponed = deps.responses.settlements()
    for (uid, request_id), record in postponed.items():
        yield partial(_guarded, uid, request_id, partial(_settle_postponed, deps, uid, request_id, record))
    for found in deps.responses.open_requests():
        if (found.uid, found.request_id) not in postponed:
            yield partial(_guarded, found.uid, found.request_id, partial(_end_open, deps, found))


def _guarded(uid: str, request_id: str, action: Callable[[], Outcome]) -> Outcome:
    try:
        return action()
    except Exception as error:  # noqa: BLE001  # one broken request must not stop the sweep of the others
        log("ERROR", "sweep.failed", uid=uid, requestId=request_id, error=error)
        return "error"


def _settle_postponed(deps: AssistantDeps, uid: str, request_id: str, record: dict[str, Any]) -> Outcome:
    """A finished answer whose capture the ledger could not take at the time."""
    amount, fields = int(record["amount"]), record["fields"]
    if not settlement.conclude(deps, uid, request_id, amount, fields, has_chunks=record["hasChunks"]):
        return "left"
    deps.responses.forget_settlement(uid, request_id)
    return "settled"


def _expire(deps: AssistantDeps, hold: Hold) -> Outcome:
    """A hold that nobody resolved in time."""
    counted = deps.usage.beside(End("expired"))
    resolution = deps.ledger.expire(hold.uid, hold.hold_id, beside=counted)
    deps.mirror.apply(hold.uid, resolution.head)
    return "expired"


def _end_open(deps: AssistantDeps, found: OpenRequest) -> Outcome:
    if found.response is None:
        return _end_silent(deps, found)
    if _age_seconds(deps, found.response.get("updatedAt")) < deps.settings.request_lease_seconds:
        return "left"
    if is_terminal(found.response):
        # Ended a lease ago: no write of a run that was only slow will reopen it now.
        deps.responses.close(found.uid, found.request_id)
        return "closed"
    settlement.fail(deps, found.uid, found.request_id, settlement.interrupted(), close=False)
    return "failed"


def _end_silent(deps: AssistantDeps, found: OpenRequest) -> Outcome:
    """A request of which its client has heard nothing: never delivered, or its run died early."""
    hold = deps.ledger.find_hold(found.uid, found.request_id)
    if hold is None:
        created_at = found.raw.get("createdAt") if isinstance(found.raw, dict) else None
        if _age_seconds(deps, created_at) < deps.settings.lost_request_seconds:
            return "left"
        flow.handle_request(deps, found.uid, found.request_id, found.raw)
        return "run"
    if hold.refusal is not None:
        deps.responses.refuse(found.uid, found.request_id, refusal_error(hold.refusal))
        return "failed"
    if _age_seconds(deps, hold.placed_at.timestamp() * 1000) < deps.settings.request_lease_seconds:
        return "left"
    settlement.fail(deps, found.uid, found.request_id, settlement.interrupted(), close=False)
    return "failed"


def _age_seconds(deps: AssistantDeps, since_ms: object) -> float:
    """Seconds since a time in milliseconds.

    Infinite for what is no time, and for one that is to come, as a client's wrong clock makes it: both are dealt with
    at once, which is safe, because the hold tells a run that is alive.
    """
    if isinstance(since_ms, bool) or not isinstance(since_ms, int | float) or since_ms > deps.now_ms():
        return float("inf")
    return (deps.now_ms() - since_ms) / 1000
