"""The operations of the ledger, idempotent under their operation ids."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from concierge.errors import AccountFrozen, ConciergeError, Conflict, InsufficientCredits, NotFound
from concierge.kit.canonical import fingerprint
from concierge.ledger import transfers
from concierge.ledger.appender import Appender, Beside, Outcome
from concierge.ledger.entries import StoredEntry, entry_hash
from concierge.ledger.repository import (
    AccountRead,
    Change,
    Hold,
    LedgerRepository,
    Operation,
    operation_from_document,
    operation_to_document,
)
from concierge.ledger.reservations import Reservations
from concierge.ledger.signatures import Keyring
from concierge.ledger.transfers import CreditKind, Head, Movement, Refusal
from concierge.ledger.verification import ChainState, Finding, Verification, verify_chain

_HOLD_LIFETIME_MAX = timedelta(days=1)

Movements = Callable[[Head], Movement | Refusal]


@dataclass(frozen=True, slots=True)
class Posting:
    """The outcome of a posting. `replayed` is True if the operation had been done before."""

    operation: Operation
    replayed: bool


class Ledger(Reservations):
    """The credit ledger of one deployment."""

    def __init__(
        self,
        repository: LedgerRepository,
        keyring: Keyring,
        *,
        ledger_id: str,
        hold_lifetime: timedelta,
        hold_lifetime_max: timedelta = _HOLD_LIFETIME_MAX,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        appender = Appender(repository, keyring, ledger_id=ledger_id, now=now)
        super().__init__(appender, lifetime=hold_lifetime, lifetime_max=hold_lifetime_max)
        self._keyring = keyring
        self._ledger_id = ledger_id

    # Reading.

    def head(self, uid: str) -> Head | None:
        return self._repository.head(uid)

    def entries(self, uid: str, after_seq: int = 0, limit: int | None = None) -> list[StoredEntry]:
        return list(self._repository.entries(uid, after_seq, limit))

    def entry(self, uid: str, seq: int) -> StoredEntry | None:
        return self._repository.entry(uid, seq)

    def accounts(self, *, after: str | None, limit: int) -> list[tuple[str, Head]]:
        """Accounts with their heads, in the order of their ids."""
        return self._repository.accounts(after, limit)

    def operations(self, uid: str, *, after: str | None, limit: int) -> list[tuple[str, Operation]]:
        """The records of an account's operations under their ids, in the order of those."""
        return self._repository.operations(uid, after, limit)

    def holds(self, uid: str, *, after: str | None, limit: int) -> list[Hold]:
        """An account's holds, resolved ones included, in the order of their ids."""
        return self._repository.holds(uid, after, limit)

    def placings(self, uid: str, hold_ids: Iterable[str]) -> dict[str, StoredEntry]:
        """The entries that placed these holds, by hold; without those that cannot be found."""
        return self._repository.placings(uid, hold_ids)

    def is_sealed(self, entry: StoredEntry) -> bool:
        """Whether an entry's bytes are those that were hashed and signed; whatever else may be wrong with it."""
        return entry_hash(entry.content) == entry.hash and self._keyring.verifies(
            entry.key_id, entry.hash, entry.signature
        )

    def outcome(self, uid: str, op_id: str) -> Operation | None:
        """What an operation id came to, None if it was never used."""
        return self._repository.operation(uid, op_id)

    def published_keys(self) -> dict[str, str]:
        return self._keyring.published()

    @property
    def ledger_id(self) -> str:
        return self._ledger_id

    def verify(self, uid: str, anchors: dict[int, str] | None = None) -> Verification:
        """Replays the whole account and compares the result with its head, and with `anchors`: hashes by sequence
        number that were published."""
        # The head is read first: entries appended meanwhile lie behind it and are left out.
        head = self._repository.head(uid)
        limit = head.seq if head is not None else 0
        entries = self._repository.entries(uid, limit=limit) if limit else iter(())
        verification = verify_chain(
            entries, ledger_id=self._ledger_id, uid=uid, keyring=self._keyring, head=head or Head(), anchors=anchors
        )
        # An append moves entry and head in one commit: an entry beyond a head that stays is a head that was put back.
        if self._repository.entry(uid, limit + 1) is not None and self._repository.head(uid) == head:
            message = f"there are entries behind the head of entry {limit}"
            verification.findings.append(Finding(limit + 1, "HEAD_MISMATCH", message))
        return verification

    def verify_part(
        self, uid: str, entries: list[StoredEntry], start: ChainState, anchors: dict[int, str] | None = None
    ) -> Verification:
        """Replays some entries from the state that those before them left; `anchors` as for `verify`."""
        return verify_chain(
            entries,
            ledger_id=self._ledger_id,
            uid=uid,
            keyring=self._keyring,
            head=None,
            start=start,
            anchors=anchors,
        )

    # Writing.

    def credit(
        self,
        uid: str,
        *,
        op_id: str,
        kind: CreditKind,
        amount: int,
        counter: str,
        memo: str | None = None,
        beside: Beside | None = None,
    ) -> Posting:
        """Adds credits once, opening the account if it is the first operation on it.

        Raises Conflict if the operation id was used with another body, ValueError for an amount that is not a positive
        integer, AccountFrozen for an account under repair, Unavailable if Firestore does not answer.
        """
        body = {"kind": kind, "amount": amount, "counter": counter, "memo": memo}

        def movement(head: Head) -> Movement:
            return transfers.credit(head, kind, amount, counter)

        return self._post(uid, op_id, body, amount, movement, memo=memo, opens=True, beside=beside)

    def clawback(
        self, uid: str, *, op_id: str, amount: int, counter: str, memo: str | None = None, beside: Beside | None = None
    ) -> Posting:
        """Takes back credits whose payment was refunded or disputed, also spent ones, which leaves a debt.

        Raises as `credit`, and NotFound if there is no account.
        """
        body = {"kind": "clawback", "amount": amount, "counter": counter, "memo": memo}

        def movement(head: Head) -> Movement:
            return transfers.clawback(head, amount, counter)

        return self._post(uid, op_id, body, amount, movement, memo=memo, beside=beside)

    def adjust(self, uid: str, *, op_id: str, amount: int, counter: str, memo: str, actor: str) -> Posting:
        """Corrects a balance by a signed amount; `memo` says why and `actor` who ordered it, both kept with the
        operation.

        Raises as `credit`; InsufficientCredits if more is to be taken than is available, which is stored and stays;
        NotFound if there is no account.
        """
        body = {"kind": "adjust", "amount": amount, "counter": counter, "memo": memo}

        def movement(head: Head) -> Movement | Refusal:
            return transfers.adjust(head, amount, counter)

        return self._post(uid, op_id, body, amount, movement, memo=memo, actor=actor)

    def freeze(self, uid: str, *, op_id: str, reason: str, actor: str) -> Posting:
        """No new holds, no outgoing transfers. Raises Conflict if the account is frozen already, NotFound."""
        return self._set_frozen(uid, op_id, transfers.COUNTER_FREEZE, reason, actor)

    def unfreeze(self, uid: str, *, op_id: str, reason: str, actor: str) -> Posting:
        """Raises Conflict if the account is not frozen, NotFound."""
        return self._set_frozen(uid, op_id, transfers.COUNTER_UNFREEZE, reason, actor)

    def transfer(
        self, source: str, target: str, *, op_id: str, amount: int, memo: str | None = None
    ) -> tuple[Posting, Posting]:
        """Moves credits between two accounts of one organisation, in one commit: the postings of source and target.

        Whether the two belong together is for the caller to know. Raises InsufficientCredits or AccountFrozen if the
        source cannot pay, which is stored and stays; NotFound unless both accounts exist; Conflict if the operation id
        was used with another body; ValueError.
        """
        if source == target:
            raise ValueError("a transfer has two accounts")
        request_hash = fingerprint({"source": source, "target": target, "amount": amount, "memo": memo})

        def body(paying: AccountRead, receiving: AccountRead) -> Outcome[tuple[Posting, Posting]]:
            before = [_posting_before(read, op_id, request_hash) for read in (paying, receiving)]
            if before[0] is not None and before[1] is not None:
                return (before[0], before[1]), ()
            if paying.head is None or receiving.head is None:
                raise NotFound("A transfer needs two accounts that exist.")
            outgoing = transfers.transfer_out(paying.head, amount, target)
            if isinstance(outgoing, Refusal):
                refused = Operation(request_hash, 0, "", amount, memo=memo, refusal=outgoing)
                posting, change = Posting(refused, replayed=False), Change(operation_to_document(refused))
                return (posting, posting), [(paying, change), (receiving, change)]
            incoming = transfers.transfer_in(receiving.head, amount, source)
            steps = [
                self._step(read, movement, op_id, request_hash, amount, memo)
                for read, movement in ((paying, outgoing), (receiving, incoming))
            ]
            return (steps[0][0], steps[1][0]), [(paying, steps[0][1]), (receiving, steps[1][1])]

        records = [(uid, self._repository.operation_reference(uid, op_id)) for uid in (source, target)]
        paid, received = self._appender.run(body, *records)
        _raise_refusal(paid.operation)
        return paid, received

    def _set_frozen(self, uid: str, op_id: str, counter: str, reason: str, actor: str) -> Posting:
        def movement(head: Head) -> Movement | Refusal:
            if head.frozen is (counter == transfers.COUNTER_FREEZE):
                raise Conflict("The account is frozen already." if head.frozen else "The account is not frozen.")
            return transfers.adjust(head, 0, counter)

        return self._post(uid, op_id, {"counter": counter, "memo": reason}, 0, movement, memo=reason, actor=actor)

    def _post(
        self,
        uid: str,
        op_id: str,
        request: dict[str, Any],
        amount: int,
        movements: Movements,
        *,
        memo: str | None = None,
        actor: str | None = None,
        opens: bool = False,
        beside: Beside | None = None,
    ) -> Posting:
        """One entry on one account, under an operation id of its own."""
        request_hash = fingerprint(request)

        def body(read: AccountRead) -> Outcome[Posting]:
            before = _posting_before(read, op_id, request_hash)
            if before is not None:
                return before, ()
            if read.head is None and not opens:
                raise NotFound(f"There is no account {uid}.")
            movement = movements(read.head or Head())
            if isinstance(movement, Refusal):
                refused = Operation(request_hash, 0, "", amount, memo=memo, actor=actor, refusal=movement)
                return Posting(refused, replayed=False), [(read, Change(operation_to_document(refused)))]
            posting, change = self._step(read, movement, op_id, request_hash, amount, memo, actor, beside)
            return posting, [(read, change)]

        posting = self._appender.run(body, (uid, self._repository.operation_reference(uid, op_id)))
        _raise_refusal(posting.operation)
        return posting

    def _step(
        self,
        read: AccountRead,
        movement: Movement,
        op_id: str,
        request_hash: str,
        amount: int,
        memo: str | None,
        actor: str | None = None,
        beside: Beside | None = None,
    ) -> tuple[Posting, Change]:
        after, entry, writes = self._appender.entry(read, movement, op_id=op_id, memo=memo, beside=beside)
        # A credit's memo is its payer's reference and lives with the payment; only orders keep theirs here.
        operation = Operation(request_hash, after.seq, entry.hash, amount, memo if actor else None, actor)
        return Posting(operation, replayed=False), Change(operation_to_document(operation), entry, after, writes)


def _posting_before(read: AccountRead, op_id: str, request_hash: str) -> Posting | None:
    if read.record is None:
        return None
    operation = operation_from_document(read.record)
    if operation.request_hash != request_hash:
        raise Conflict(f"Operation {op_id} was used for something else.")
    return Posting(operation, replayed=True)


def _raise_refusal(operation: Operation) -> None:
    if operation.refusal is not None:
        raise refusal_error(operation.refusal)


def refusal_error(refusal: Refusal) -> ConciergeError:
    """What whoever asked for a refused hold or transfer is told."""
    if refusal.reason == "ACCOUNT_FROZEN":
        return AccountFrozen("This account is frozen.")
    return InsufficientCredits(refusal.missing, refusal.available)
