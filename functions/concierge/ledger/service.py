"""The operations of the ledger, idempotent under their operation ids.

An append is 2 reads in one round trip and 3 writes in another: the commit is atomic, and is refused if the account or
the operation's record has changed since it was read. Then the body runs again on what is there now; so bodies are pure.
A commit whose answer was lost is run again too, and then finds its own record. See docs/decisions/0011.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from google.api_core import exceptions as google_exceptions

from concierge.errors import Conflict, HoldExpired, NotFound, Unavailable
from concierge.kit.canonical import fingerprint
from concierge.kit.faults import fault_point
from concierge.kit.retry import Backoff, call_with_retry
from concierge.ledger import transfers
from concierge.ledger.entries import StoredEntry, entry_content, entry_hash
from concierge.ledger.repository import (
    AccountRead,
    Change,
    Hold,
    LedgerRepository,
    Operation,
    hold_from_document,
    hold_to_document,
    operation_from_document,
    operation_to_document,
)
from concierge.ledger.signatures import Keyring
from concierge.ledger.transfers import CreditKind, Head, Movement, Refusal, ResolutionKind
from concierge.ledger.verification import Verification, verify_chain

Result = TypeVar("Result")

# Lost races, and passing faults.
_RETRYABLE = (
    google_exceptions.Aborted,
    google_exceptions.AlreadyExists,
    google_exceptions.FailedPrecondition,
    google_exceptions.ServiceUnavailable,
    google_exceptions.DeadlineExceeded,
    google_exceptions.InternalServerError,
    # What the client library raises after retrying an outage for as long as it is willing to.
    google_exceptions.RetryError,
    google_exceptions.ResourceExhausted,
)
_BACKOFF = Backoff(attempts=20, base_seconds=0.02, cap_seconds=0.5)
# The client library retries an outage for up to a minute by itself; no further attempt starts after this.
_PATIENCE_SECONDS = 30
_LOCKS = 256
_RESOLVED_STATES: dict[ResolutionKind, Any] = {"capture": "captured", "release": "released", "expire": "expired"}


Outcome = tuple[Result, Change | None]
"""What an operation returns, and what it writes; None if it finds itself done."""


@dataclass(frozen=True, slots=True)
class Posting:
    """The outcome of a credit. `replayed` is True if the operation had been done before."""

    operation: Operation
    replayed: bool


@dataclass(frozen=True, slots=True)
class Resolution:
    """A hold after its resolution, and the account's head that this call saw or made.

    `replayed` is True if the hold had been resolved before this call; the earlier attempt of a call whose answer was
    lost counts as before.
    """

    hold: Hold
    head: Head
    replayed: bool


class Ledger:
    """The credit ledger of one deployment. `ledger_id` is part of every entry, so none can move to another one."""

    def __init__(
        self,
        repository: LedgerRepository,
        keyring: Keyring,
        *,
        ledger_id: str,
        hold_lifetime: timedelta,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._repository = repository
        self._keyring = keyring
        self._ledger_id = ledger_id
        self._hold_lifetime = hold_lifetime
        self._now = now
        # Threads of one instance that want the same account take turns here instead of losing races in Firestore.
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    # Reading.

    def head(self, uid: str) -> Head | None:
        return self._repository.head(uid)

    def find_hold(self, uid: str, hold_id: str) -> Hold | None:
        return self._repository.hold(uid, hold_id)

    def entries(self, uid: str, after_seq: int = 0, limit: int | None = None) -> list[StoredEntry]:
        return list(self._repository.entries(uid, after_seq, limit))

    def entry(self, uid: str, seq: int) -> StoredEntry | None:
        return self._repository.entry(uid, seq)

    def credit_outcome(self, uid: str, op_id: str) -> Operation | None:
        """What a credit's operation id came to, None if it was never used."""
        return self._repository.operation(uid, op_id)

    def published_keys(self) -> dict[str, str]:
        return self._keyring.published()

    @property
    def ledger_id(self) -> str:
        return self._ledger_id

    def verify(self, uid: str) -> Verification:
        """Replays the whole account and compares the result with its head."""
        # The head is read first: entries appended meanwhile lie behind it and are left out.
        head = self._repository.head(uid)
        limit = head.seq if head is not None else 0
        entries = self._repository.entries(uid, limit=limit) if limit else iter(())
        return verify_chain(entries, ledger_id=self._ledger_id, uid=uid, keyring=self._keyring, head=head or Head())

    # Writing.

    def credit(
        self, uid: str, *, op_id: str, kind: CreditKind, amount: int, counter: str, memo: str | None = None
    ) -> Posting:
        """Adds credits once, opening the account if it is the first operation on it.

        Raises Conflict if the operation id was used with another body, ValueError for an amount that is not a positive
        integer, Unavailable if Firestore does not answer.
        """
        request_hash = fingerprint({"kind": kind, "amount": amount, "counter": counter, "memo": memo})
        reference = self._repository.operation_reference(uid, op_id)

        def body(read: AccountRead) -> Outcome[Posting]:
            if read.record is not None:
                operation = operation_from_document(read.record)
                if operation.request_hash != request_hash:
                    raise Conflict(f"Operation {op_id} was used for something else.")
                return Posting(operation, replayed=True), None
            head = read.head or Head()
            movement = transfers.credit(head, kind, amount, counter)
            after, entry = self._entry(uid, head, movement, op_id=op_id, memo=memo)
            operation = Operation(request_hash, after.seq, entry.hash, amount)
            return Posting(operation, replayed=False), Change(operation_to_document(operation), entry, after)

        return self._run(uid, reference, body)

    def place_hold(self, uid: str, hold_id: str, *, request_hash: str, run_id: str, amount: int, minimum: int) -> Hold:
        """Reserves `amount`, or what is available down to `minimum`; the stored outcome if the hold exists.

        The caller has won the claim only if the result's `run_id` is its own. A hold that cannot be covered is
        stored as refused, and stays refused. Raises NotFound if there is no account, Conflict if the id was used with
        another request, Unavailable if Firestore does not answer.
        """
        reference = self._repository.hold_reference(uid, hold_id)

        def body(read: AccountRead) -> Outcome[Hold]:
            if read.record is not None:
                hold = hold_from_document(uid, hold_id, read.record)
                if hold.request_hash != request_hash:
                    raise Conflict(f"Request {hold_id} was used for something else.")
                return hold, None
            if read.head is None:
                raise NotFound(f"There is no account {uid}.")
            outcome = transfers.hold(read.head, amount, minimum)
            now = self._now()
            hold = Hold(
                hold_id=hold_id,
                uid=uid,
                state="held",
                request_hash=request_hash,
                run_id=run_id,
                amount=0,
                placed_at=now,
                expires_at=now + self._hold_lifetime,
            )
            if isinstance(outcome, Refusal):
                hold = replace(hold, state="refused", refusal=outcome)
                return hold, Change(hold_to_document(hold))
            after, entry = self._entry(uid, read.head, outcome, op_id=f"hold:{hold_id}", hold_id=hold_id)
            hold = replace(hold, amount=outcome.amount, entry_seq=after.seq, entry_hash=entry.hash)
            return hold, Change(hold_to_document(hold), entry, after)

        hold = self._run(uid, reference, body)
        fault_point("hold.after")
        return hold

    def capture(self, uid: str, hold_id: str, amount: int, *, counter: str, note: str | None = None) -> Resolution:
        """Charges `amount` (1..the hold's) and frees the rest, once. `note` is kept with the hold, for who repairs.

        The same capture again returns the stored outcome. Raises HoldExpired if the hold's time is up, swept or not (it
        is then expired by this very call), Conflict if the hold was released or captured with another amount, NotFound,
        ValueError for an amount outside the hold.
        """
        fault_point("capture.before")
        resolution = self._resolve(uid, hold_id, "capture", amount, counter, note)
        fault_point("capture.after")
        hold = resolution.hold
        if hold.state == "expired":
            raise HoldExpired(f"Hold {hold_id} expired at {hold.expires_at.isoformat(timespec='seconds')}.")
        if hold.state != "captured" or hold.captured != amount:
            raise Conflict(f"Hold {hold_id} was {hold.state} before.")
        return resolution

    def release(self, uid: str, hold_id: str) -> Resolution:
        """Frees a hold without a charge. Returns the stored outcome if it was resolved before, however that was."""
        return self._resolve(uid, hold_id, "release", 0, transfers.COUNTER_HELD)

    def expire(self, uid: str, hold_id: str) -> Resolution:
        """Frees a hold whose time is up; returns it unchanged if it is resolved or not due yet."""
        return self._resolve(uid, hold_id, "expire", 0, transfers.COUNTER_HELD)

    def due_holds(self, limit: int) -> list[Hold]:
        """Up to `limit` open holds whose time is up, oldest first, of all accounts."""
        return self._repository.due_holds(self._now(), limit)

    def _resolve(
        self, uid: str, hold_id: str, kind: ResolutionKind, amount: int, counter: str, note: str | None = None
    ) -> Resolution:
        """The one resolution of a hold, under the operation id `settle:{holdId}`."""
        reference = self._repository.hold_reference(uid, hold_id)
        op_id = f"settle:{hold_id}"

        def body(read: AccountRead) -> Outcome[Resolution]:
            if read.head is None or read.record is None:
                raise NotFound(f"There is no hold {hold_id}.")
            hold = hold_from_document(uid, hold_id, read.record)
            if hold.state != "held":
                return Resolution(hold, read.head, replayed=True), None
            due = hold.expires_at <= self._now()
            if kind == "expire" and not due:
                return Resolution(hold, read.head, replayed=False), None
            actual: ResolutionKind = "expire" if due else kind
            captured = amount if actual == "capture" else 0
            side = counter if actual == "capture" else transfers.COUNTER_HELD
            movement = transfers.resolve(read.head, actual, hold.amount, captured, side)
            after, entry = self._entry(uid, read.head, movement, op_id=op_id, hold_id=hold_id)
            resolved = replace(
                hold,
                state=_RESOLVED_STATES[actual],
                captured=captured,
                note=note if actual == "capture" else None,
                resolved_by=op_id,
                entry_seq=after.seq,
                entry_hash=entry.hash,
            )
            return Resolution(resolved, after, replayed=False), Change(hold_to_document(resolved), entry, after)

        return self._run(uid, reference, body)

    def _entry(
        self,
        uid: str,
        head: Head,
        movement: Movement,
        *,
        op_id: str,
        hold_id: str | None = None,
        memo: str | None = None,
    ) -> tuple[Head, StoredEntry]:
        content = entry_content(
            ledger_id=self._ledger_id,
            uid=uid,
            head=head,
            movement=movement,
            op_id=op_id,
            hold_id=hold_id,
            memo_hash=fingerprint(memo) if memo is not None else None,
            at=self._now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )
        digest = entry_hash(content)
        key_id, signature = self._keyring.sign(digest)
        entry = StoredEntry(content, digest, key_id, signature)
        return transfers.advance(head, movement, digest), entry

    def _run(self, uid: str, record: Any, body: Callable[[AccountRead], Outcome[Result]]) -> Result:
        """Reads, decides, commits; again from the start while others are faster. Raises Unavailable in the end."""

        def attempt() -> Result:
            read = self._repository.read(uid, record)
            result, change = body(read)
            if change is not None:
                self._repository.commit(read, change)
            return result

        deadline = time.monotonic() + _PATIENCE_SECONDS
        lock = self._locks[hash(uid) % _LOCKS]
        # In an outage nobody waits for everybody before: the patience is the same for all.
        if not lock.acquire(timeout=_PATIENCE_SECONDS):
            raise Unavailable("The ledger does not answer at the moment.")
        try:
            return call_with_retry(attempt, backoff=_BACKOFF, retry_on=_RETRYABLE, deadline=deadline)
        except _RETRYABLE as error:
            raise Unavailable("The ledger does not answer at the moment.") from error
        finally:
            lock.release()
