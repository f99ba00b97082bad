"""Holds: placed, extended while the work goes on, and resolved exactly once."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from concierge.errors import Conflict, HoldExpired, NotFound
from concierge.kit.faults import fault_point
from concierge.ledger import transfers
from concierge.ledger.appender import Appender, Beside, Outcome, Result
from concierge.ledger.repository import AccountRead, Change, Hold, Work, hold_from_document, hold_to_document
from concierge.ledger.transfers import Head, Refusal, ResolutionKind

API_RUN = "api"
"""The run of a hold that its owner placed directly, and may release."""
_RESOLVED_STATES: dict[ResolutionKind, Any] = {"capture": "captured", "release": "released", "expire": "expired"}


@dataclass(frozen=True, slots=True)
class Resolution:
    """A hold after its resolution, and the account's head that this call saw or made.

    `replayed` is True if the hold had been resolved before this call; the earlier attempt of a call whose answer was
    lost counts as before.
    """

    hold: Hold
    head: Head
    replayed: bool


class Reservations:
    """The operations on holds. A hold lives for `lifetime`, and extended for `lifetime_max` at most."""

    def __init__(self, appender: Appender, *, lifetime: timedelta, lifetime_max: timedelta) -> None:
        self._appender = appender
        self._repository = appender.repository
        self._lifetime = lifetime
        self._lifetime_max = lifetime_max

    def find_hold(self, uid: str, hold_id: str) -> Hold | None:
        return self._repository.hold(uid, hold_id)

    def due_holds(self, limit: int) -> list[Hold]:
        """Up to `limit` open holds whose time is up, oldest first, of all accounts."""
        return self._repository.due_holds(self._appender.now(), limit)

    def place_hold(
        self,
        uid: str,
        hold_id: str,
        *,
        request_hash: str,
        run_id: str,
        amount: int,
        minimum: int,
        unknown_is_empty: bool = False,
        work: Work | None = None,
    ) -> Hold:
        """Reserves `amount`, or what is available down to `minimum`; the stored outcome if the hold exists. `work` is
        kept with it, for who counts what was done.

        The caller has won the claim only if the result's `run_id` is its own. A hold that cannot be covered is
        stored as refused, and stays refused. Raises NotFound if there is no account (with `unknown_is_empty` that is a
        refusal too), Conflict if the id was used with another request, AccountFrozen for an account under repair,
        Unavailable if Firestore does not answer.
        """

        def body(read: AccountRead) -> Outcome[Hold]:
            if read.record is not None:
                hold = hold_from_document(uid, hold_id, read.record)
                if hold.request_hash != request_hash:
                    raise Conflict(f"Request {hold_id} was used for something else.")
                return hold, ()
            if read.head is None and not unknown_is_empty:
                raise NotFound(f"There is no account {uid}.")
            outcome = transfers.hold(read.head or Head(), amount, minimum)
            now = self._appender.now()
            hold = Hold(
                hold_id=hold_id,
                uid=uid,
                state="held",
                request_hash=request_hash,
                run_id=run_id,
                amount=0,
                placed_at=now,
                expires_at=now + self._lifetime,
                work=work,
            )
            if isinstance(outcome, Refusal):
                hold = replace(hold, state="refused", refusal=outcome)
                return hold, [(read, Change(hold_to_document(hold)))]
            after, entry, _ = self._appender.entry(read, outcome, op_id=f"hold:{hold_id}", hold_id=hold_id)
            hold = replace(
                hold, amount=outcome.amount, entry_seq=after.seq, entry_hash=entry.hash, placed_seq=after.seq
            )
            return hold, [(read, Change(hold_to_document(hold), entry, after))]

        hold = self._run(uid, hold_id, body)
        fault_point("hold.after")
        return hold

    def extend(self, uid: str, hold_id: str, *, fence: int) -> Hold:
        """The heartbeat of long work: the hold lives for another lifetime from now, up to its longest.

        Raises Conflict if another run has taken the work over or the hold is resolved, HoldExpired if its time is up
        or it has lived for as long as a hold may, NotFound, Unavailable.
        """

        def body(read: AccountRead) -> Outcome[Hold]:
            hold = _open_hold(read, hold_id, fence)
            now = self._appender.now()
            expires_at = min(now + self._lifetime, hold.placed_at + self._lifetime_max)
            if hold.expires_at <= now or expires_at <= now:
                raise _expired(hold)
            extended = replace(hold, expires_at=max(hold.expires_at, expires_at))
            return extended, [(read, Change(hold_to_document(extended)))]

        return self._run(uid, hold_id, body)

    def take_over(self, uid: str, hold_id: str, *, run_id: str) -> Hold:
        """Another run goes on with the work: its fence is one higher, and the run before it is refused from here on.

        The same run again finds itself the owner; a run that was taken over meanwhile is refused, and cannot take the
        work back, however late or often its call arrives. Raises Conflict for that and if the hold is resolved,
        HoldExpired, NotFound, Unavailable.
        """

        def body(read: AccountRead) -> Outcome[Hold]:
            hold = _open_hold(read, hold_id, None)
            if hold.run_id == run_id:
                return hold, ()
            if run_id in hold.former_runs:
                raise _taken_over(hold_id)
            if hold.expires_at <= self._appender.now():
                raise _expired(hold)
            former_runs = (*hold.former_runs, hold.run_id)
            taken = replace(hold, run_id=run_id, fence=hold.fence + 1, former_runs=former_runs)
            return taken, [(read, Change(hold_to_document(taken)))]

        return self._run(uid, hold_id, body)

    def capture(
        self,
        uid: str,
        hold_id: str,
        amount: int,
        *,
        counter: str,
        note: str | None = None,
        fence: int | None = None,
        beside: Beside | None = None,
    ) -> Resolution:
        """Charges `amount` (1..the hold's) and frees the rest, once. `note` is kept with the hold, for who repairs.

        The same capture again returns the stored outcome. Raises HoldExpired if the hold's time is up, swept or not (it
        is then expired by this very call), Conflict if the hold was released, captured with another amount or, with a
        `fence`, taken over, NotFound, ValueError for an amount outside the hold, AccountFrozen for an account under
        repair.
        """
        fault_point("capture.before")
        resolution = self._resolve(uid, hold_id, "capture", amount, counter, note, fence, beside)
        fault_point("capture.after")
        hold = resolution.hold
        if hold.state == "expired":
            raise _expired(hold)
        if hold.state != "captured" or hold.captured != amount:
            raise Conflict(f"Hold {hold_id} was {hold.state} before.")
        return resolution

    def release(self, uid: str, hold_id: str, *, fence: int | None = None, beside: Beside | None = None) -> Resolution:
        """Frees a hold without a charge. Returns the stored outcome if it was resolved before, however that was."""
        return self._resolve(uid, hold_id, "release", 0, transfers.COUNTER_HELD, None, fence, beside)

    def expire(self, uid: str, hold_id: str, *, beside: Beside | None = None) -> Resolution:
        """Frees a hold whose time is up; returns it unchanged if it is resolved or not due yet."""
        return self._resolve(uid, hold_id, "expire", 0, transfers.COUNTER_HELD, None, None, beside)

    def _resolve(
        self,
        uid: str,
        hold_id: str,
        kind: ResolutionKind,
        amount: int,
        counter: str,
        note: str | None,
        fence: int | None,
        beside: Beside | None,
    ) -> Resolution:
        """The one resolution of a hold, under the operation id `settle:{holdId}`."""
        op_id = f"settle:{hold_id}"

        def body(read: AccountRead) -> Outcome[Resolution]:
            hold = _known_hold(read, hold_id)
            head = read.head or Head()
            if hold.state != "held":
                return Resolution(hold, head, replayed=True), ()
            due = hold.expires_at <= self._appender.now()
            if kind == "expire" and not due:
                return Resolution(hold, head, replayed=False), ()
            if fence is not None and hold.fence != fence:
                raise _taken_over(hold_id)
            actual: ResolutionKind = "expire" if due else kind
            captured = amount if actual == "capture" else 0
            side = counter if actual == "capture" else transfers.COUNTER_HELD
            movement = transfers.resolve(head, actual, hold.amount, captured, side)
            after, entry, writes = self._appender.entry(read, movement, op_id=op_id, hold=hold, beside=beside)
            resolved = replace(
                hold,
                state=_RESOLVED_STATES[actual],
                captured=captured,
                note=note if actual == "capture" else None,
                resolved_by=op_id,
                entry_seq=after.seq,
                entry_hash=entry.hash,
            )
            change = Change(hold_to_document(resolved), entry, after, writes)
            return Resolution(resolved, after, replayed=False), [(read, change)]

        return self._run(uid, hold_id, body)

    def _run(self, uid: str, hold_id: str, body: Callable[[AccountRead], Outcome[Result]]) -> Result:
        return self._appender.run(body, (uid, self._repository.hold_reference(uid, hold_id)))


def _known_hold(read: AccountRead, hold_id: str) -> Hold:
    if read.head is None or read.record is None:
        raise NotFound(f"There is no hold {hold_id}.")
    return hold_from_document(read.uid, hold_id, read.record)


def _open_hold(read: AccountRead, hold_id: str, fence: int | None) -> Hold:
    hold = _known_hold(read, hold_id)
    if hold.state != "held":
        raise Conflict(f"Hold {hold_id} was {hold.state} before.")
    if fence is not None and hold.fence != fence:
        raise _taken_over(hold_id)
    return hold


def _expired(hold: Hold) -> HoldExpired:
    return HoldExpired(f"Hold {hold.hold_id} expired at {hold.expires_at.isoformat(timespec='seconds')}.")


def _taken_over(hold_id: str) -> Conflict:
    return Conflict(f"Hold {hold_id} was taken over by another run.")
