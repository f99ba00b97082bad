"""The sweeper: ends or runs what dying instances and lost deliveries left behind.

Runs every minute, any number at once.
Everything it does is idempotent under the same ids as the journey itself, so it may race with a run that is only slow:
the hold is resolved once, and whoever resolved it writes the status.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from concierge.assistant import flow, settlement
from concierge.assistant.dependencies import AssistantDeps
from concierge.assistant.repository import OpenRequest, is_terminal
from concierge.errors import ConciergeError
from concierge.kit.logging import log

_HOLDS_PER_SWEEP = 500
_CHUNKS_PER_SWEEP = 500


@dataclass(slots=True)
class SweepReport:
    """How many of each were dealt with."""

    settled: int = 0
    run: int = 0
    failed: int = 0
    closed: int = 0
    holds_expired: int = 0
    chunks_deleted: int = 0
    errors: int = 0


def sweep(deps: AssistantDeps) -> SweepReport:
    """One pass. An error with one request is logged and counted, and does not keep the others waiting."""
    report = SweepReport()
    postponed = deps.responses.settlements()
    for (uid, request_id), record in postponed.items():
        _guarded(report, uid, request_id, partial(_settle_postponed, deps, report, uid, request_id, record))
    for found in deps.responses.open_requests():
        if (found.uid, found.request_id) not in postponed:
            _guarded(report, found.uid, found.request_id, partial(_end_open, deps, report, found))
    for resolution in deps.ledger.expire_due_holds(_HOLDS_PER_SWEEP):
        deps.mirror.apply(resolution.hold.uid, resolution.head)
        report.holds_expired += 1
    before_ms = deps.now_ms() - int(deps.settings.chunk_retention_seconds * 1000)
    report.chunks_deleted = deps.responses.delete_old_chunks(before_ms, _CHUNKS_PER_SWEEP)
    log("INFO", "sweep.done", **{name: getattr(report, name) for name in report.__slots__})
    return report


def _guarded(report: SweepReport, uid: str, request_id: str, action: Callable[[], None]) -> None:
    try:
        action()
    except Exception as error:  # noqa: BLE001  # one broken request must not stop the sweep of the others
        report.errors += 1
        log("ERROR", "sweep.failed", uid=uid, requestId=request_id, error=error)


def _settle_postponed(
    deps: AssistantDeps, report: SweepReport, uid: str, request_id: str, record: dict[str, object]
) -> None:
    """A finished answer whose capture the ledger could not take at the time."""
    fields = record["fields"]
    assert isinstance(fields, dict)
    amount = int(str(record["amount"]))
    if settlement.conclude(deps, uid, request_id, amount, fields, has_chunks=bool(record["hasChunks"])):
        deps.responses.forget_settlement(uid, request_id)
        report.settled += 1


def _end_open(deps: AssistantDeps, report: SweepReport, found: OpenRequest) -> None:
    if is_terminal(found.response):
        deps.responses.close(found.uid, found.request_id)
        report.closed += 1
        return
    if found.response is None:
        _end_silent(deps, report, found)
    elif _age_seconds(deps, found.response.get("updatedAt")) >= deps.settings.request_lease_seconds:
        settlement.fail(deps, found.uid, found.request_id, settlement.interrupted())
        report.failed += 1


def _end_silent(deps: AssistantDeps, report: SweepReport, found: OpenRequest) -> None:
    """A request of which its client has heard nothing: never delivered, or its run died early."""
    hold = deps.ledger.find_hold(found.uid, found.request_id)
    if hold is None:
        created_at = found.raw.get("createdAt") if isinstance(found.raw, dict) else None
        if _age_seconds(deps, created_at) >= deps.settings.lost_request_seconds:
            flow.handle_request(deps, found.uid, found.request_id, found.raw)
            report.run += 1
        return
    if hold.refusal is not None:
        deps.responses.refuse(found.uid, found.request_id, flow.refusal_error(hold.refusal))
        report.failed += 1
        return
    placed_ms = (hold.expires_at - deps.ledger.hold_lifetime).timestamp() * 1000
    if _age_seconds(deps, placed_ms) >= deps.settings.request_lease_seconds:
        error: ConciergeError = settlement.interrupted()
        settlement.fail(deps, found.uid, found.request_id, error)
        report.failed += 1


def _age_seconds(deps: AssistantDeps, since_ms: object) -> float:
    """Seconds since a time in milliseconds; infinite for what is not a time, so that it is dealt with."""
    if isinstance(since_ms, bool) or not isinstance(since_ms, int | float):
        return float("inf")
    return (deps.now_ms() - since_ms) / 1000
