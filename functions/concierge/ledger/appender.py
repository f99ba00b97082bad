"""How an entry gets into the ledger: read, decide, commit, and again from the start while others are faster.

An append is 2 reads in one round trip and 3 writes in another: the commit is atomic, and is refused if the account or
the operation's record has changed since it was read. Then the body runs again on what is there now; so bodies are pure.
A commit whose answer was lost is run again too, and then finds its own record. See docs/decisions/0011.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from google.api_core import exceptions as google_exceptions

from concierge.errors import AccountFrozen, Unavailable
from concierge.kit.canonical import fingerprint
from concierge.kit.faults import fault_point
from concierge.kit.retry import Backoff, call_with_retry
from concierge.kit.timestamps import rfc3339
from concierge.ledger import transfers
from concierge.ledger.entries import StoredEntry, entry_content, entry_hash
from concierge.ledger.repository import AccountRead, Change, Hold, LedgerRepository, Write
from concierge.ledger.signatures import Keyring
from concierge.ledger.transfers import Head, Movement

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


@dataclass(frozen=True, slots=True)
class Appended:
    """An entry that is about to be written. `hold` is the hold that it resolves, before its resolution."""

    uid: str
    movement: Movement
    entry_seq: int
    at: datetime
    hold: Hold | None = None


Beside = Callable[[Appended], Sequence[Write]]
"""What a feature keeps in the commit of an entry. Called in every attempt, just before the commit; may read documents,
and may raise a ConciergeError, upon which nothing is written."""

Outcome = tuple[Result, Sequence[tuple[AccountRead, Change]]]
"""What an operation returns, and what it writes; nothing if it finds itself done."""


class Appender:
    """The one way into the ledger's documents. `ledger_id` is part of every entry, so none can move to another one."""

    def __init__(
        self, repository: LedgerRepository, keyring: Keyring, *, ledger_id: str, now: Callable[[], datetime]
    ) -> None:
        self.repository = repository
        self.keyring = keyring
        self.ledger_id = ledger_id
        self.now = now
        # Threads of one instance that want the same account take turns here instead of losing races in Firestore.
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def entry(
        self,
        read: AccountRead,
        movement: Movement,
        *,
        op_id: str,
        hold: Hold | None = None,
        hold_id: str | None = None,
        memo: str | None = None,
        beside: Beside | None = None,
    ) -> tuple[Head, StoredEntry, Sequence[Write]]:
        """The next entry of an account, the head behind it, and what is written beside it.

        Raises AccountFrozen for a damaged account: nothing may be appended before it is repaired.
        """
        head = read.head or Head()
        if head.quarantined:
            raise AccountFrozen("This account is being repaired.")
        at = self.now().astimezone(UTC)
        content = entry_content(
            ledger_id=self.ledger_id,
            uid=read.uid,
            head=head,
            movement=movement,
            op_id=op_id,
            hold_id=hold.hold_id if hold is not None else hold_id,
            memo_hash=fingerprint(memo) if memo is not None else None,
            at=rfc3339(at),
        )
        digest = entry_hash(content)
        key_id, signature = self.keyring.sign(digest)
        after = transfers.advance(head, movement, digest)
        writes = beside(Appended(read.uid, movement, after.seq, at, hold)) if beside is not None else ()
        return after, StoredEntry(content, digest, key_id, signature, after.seq), writes

    def run(self, body: Callable[..., Outcome[Result]], *records: tuple[str, Any]) -> Result:
        """Calls `body` with one AccountRead for each (uid, reference of the operation's record) and commits what it
        answers. Raises Unavailable if Firestore does not answer, or others are faster for too long."""

        def attempt() -> Result:
            result, steps = body(*self.repository.read(*records))
            if steps:
                fault_point("commit.before")
                self.repository.commit(*steps)
                fault_point("commit.after")
            return result

        deadline = time.monotonic() + _PATIENCE_SECONDS
        with ExitStack() as held:
            # In the order of their numbers, so that two transfers never wait for each other.
            for number in sorted({hash(uid) % _LOCKS for uid, _ in records}):
                lock = self._locks[number]
                # In an outage nobody waits for everybody before: the patience is the same for all.
                if not lock.acquire(timeout=_PATIENCE_SECONDS):
                    raise Unavailable("The ledger does not answer at the moment.")
                held.callback(lock.release)
            try:
                return call_with_retry(attempt, backoff=_BACKOFF, retry_on=_RETRYABLE, deadline=deadline)
            except _RETRYABLE as error:
                raise Unavailable("The ledger does not answer at the moment.") from error
