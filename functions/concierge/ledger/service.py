"""The operations of the ledger. Each is one Firestore transaction, idempotent under its operation id.

Appends cost 2 reads and 3 writes. The body of a transaction is pure apart from the transaction itself: Firestore may
run it again. A commit whose answer was lost is run again too, and then finds its own record.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from google.api_core import exceptions as google_exceptions
from google.cloud import firestore

from concierge.errors import Conflict, HoldExpired, NotFound, Unavailable
from concierge.kit.canonical import fingerprint
from concierge.kit.faults import fault_point
from concierge.kit.retry import Backoff, call_with_retry
from concierge.ledger import transfers
from concierge.ledger.entries import StoredEntry, entry_content, entry_hash
from concierge.ledger.repository import (
    Hold,
    LedgerRepository,
    Operation,
    hold_from_document,
    hold_to_document,
    operation_from_document,
)
from concierge.ledger.signatures import Keyring
from concierge.ledger.transfers import CreditKind, Head, Movement, Refusal, ResolutionKind
from concierge.ledger.verification import Verification, verify_chain

Result = TypeVar("Result")

# Contention and passing faults. InvalidArgument is what Firestore answers when the client library repeats a commit
# whose first answer was lost: the transaction is used up, and only running the body again tells what happened.
_RETRYABLE = (
    google_exceptions.Aborted,
    google_exceptions.ServiceUnavailable,
    google_exceptions.DeadlineExceeded,
    google_exceptions.InternalServerError,
    google_exceptions.InvalidArgument,
    google_exceptions.AlreadyExists,
)
_BACKOFF = Backoff(attempts=8, base_seconds=0.05, cap_seconds=2.0)
# The client library retries an outage for up to a minute by itself; no further attempt starts after this.
_PATIENCE_SECONDS = 30
_RESOLVED_STATES: dict[ResolutionKind, Any] = {"capture": "captured", "release": "released", "expire": "expired"}


class _Contended(Exception):
    """The client library used up its own attempts on aborted commits."""


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

        def body(transaction: Any) -> Posting:
            head, document = self._repository.read_pair(transaction, uid, reference)
            if document is not None:
                operation = operation_from_document(document)
                if operation.request_hash != request_hash:
                    raise Conflict(f"Operation {op_id} was used for something else.")
                return Posting(operation, replayed=True)
            movement = transfers.credit(head or Head(), kind, amount, counter)
            after, entry = self._append(transaction, uid, head or Head(), movement, op_id=op_id, memo=memo)
            operation = Operation(request_hash, after.seq, entry.hash, amount)
            transaction.create(
                reference,
                {"requestHash": request_hash, "seq": after.seq, "hash": entry.hash, "amount": amount},
            )
            return Posting(operation, replayed=False)

        return self._transact(body)

    def place_hold(self, uid: str, hold_id: str, *, request_hash: str, run_id: str, amount: int, minimum: int) -> Hold:
        """Reserves `amount`, or what is available down to `minimum`; the stored outcome if the hold exists.

        The caller has won the claim only if the result's `run_id` is its own. A hold that cannot be covered is
        stored as refused, and stays refused. Raises NotFound if there is no account, Conflict if the id was used with
        another request, Unavailable if Firestore does not answer.
        """
        reference = self._repository.hold_reference(uid, hold_id)

        def body(transaction: Any) -> Hold:
            head, document = self._repository.read_pair(transaction, uid, reference)
            if document is not None:
                hold = hold_from_document(uid, hold_id, document)
                if hold.request_hash != request_hash:
                    raise Conflict(f"Request {hold_id} was used for something else.")
                return hold
            if head is None:
                raise NotFound(f"There is no account {uid}.")
            outcome = transfers.hold(head, amount, minimum)
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
            else:
                after, entry = self._append(transaction, uid, head, outcome, op_id=f"hold:{hold_id}", hold_id=hold_id)
                hold = replace(hold, amount=outcome.amount, entry_seq=after.seq, entry_hash=entry.hash)
            transaction.create(reference, hold_to_document(hold))
            return hold

        hold = self._transact(body)
        fault_point("hold.after")
        return hold

    def capture(self, uid: str, hold_id: str, amount: int, *, counter: str) -> Resolution:
        """Charges `amount` (1..the hold's) and frees the rest, once.

        The same capture again returns the stored outcome. Raises HoldExpired if the hold's time is up, swept or not (it
        is then expired by this very call), Conflict if the hold was released or captured with another amount, NotFound,
        ValueError for an amount outside the hold.
        """
        fault_point("capture.before")
        resolution = self._resolve(uid, hold_id, "capture", amount, counter)
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

    def expire_due_holds(self, limit: int) -> list[Resolution]:
        """Expires up to `limit` holds whose time is up, and returns them."""
        due = self._repository.expired_holds(self._now(), limit)
        return [self.expire(hold.uid, hold.hold_id) for hold in due]

    def _resolve(self, uid: str, hold_id: str, kind: ResolutionKind, amount: int, counter: str) -> Resolution:
        """The one resolution of a hold, under the operation id `settle:{holdId}`."""
        reference = self._repository.hold_reference(uid, hold_id)
        op_id = f"settle:{hold_id}"

        def body(transaction: Any) -> Resolution:
            head, document = self._repository.read_pair(transaction, uid, reference)
            if head is None or document is None:
                raise NotFound(f"There is no hold {hold_id}.")
            hold = hold_from_document(uid, hold_id, document)
            if hold.state != "held":
                return Resolution(hold, head, replayed=True)
            due = hold.expires_at <= self._now()
            if kind == "expire" and not due:
                return Resolution(hold, head, replayed=False)
            actual: ResolutionKind = "expire" if due else kind
            captured = amount if actual == "capture" else 0
            movement = transfers.resolve(
                head, actual, hold.amount, captured, counter if actual == "capture" else transfers.COUNTER_HELD
            )
            after, entry = self._append(transaction, uid, head, movement, op_id=op_id, hold_id=hold_id)
            resolved = replace(
                hold,
                state=_RESOLVED_STATES[actual],
                captured=captured,
                resolved_by=op_id,
                entry_seq=after.seq,
                entry_hash=entry.hash,
            )
            transaction.set(reference, hold_to_document(resolved))
            return Resolution(resolved, after, replayed=False)

        return self._transact(body)

    def _append(
        self,
        transaction: Any,
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
        after = transfers.advance(head, movement, digest)
        self._repository.append(transaction, uid, after, entry)
        return after, entry

    def _transact(self, body: Callable[[Any], Result]) -> Result:
        """Runs the body in a transaction until it commits. Raises Unavailable when that does not succeed in time."""
        run = firestore.transactional(body)

        def attempt() -> Result:
            try:
                result: Result = run(self._repository.client.transaction())
            except ValueError as error:
                # The client library reports used-up attempts as a ValueError caused by the last Aborted.
                if isinstance(error.__cause__, google_exceptions.Aborted):
                    raise _Contended from error
                raise
            return result

        deadline = time.monotonic() + _PATIENCE_SECONDS
        try:
            return call_with_retry(attempt, backoff=_BACKOFF, retry_on=(*_RETRYABLE, _Contended), deadline=deadline)
        except (*_RETRYABLE, _Contended) as error:
            raise Unavailable("The ledger does not answer at the moment.") from error
