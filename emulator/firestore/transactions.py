"""Transactions: serializable reads and writes over the document store. Pure but for the futures of the locks.

A read-write transaction locks every document it reads, and so nobody else changes it before the transaction ends;
commits without a transaction wait as well. A query locks the documents it returns, and is run again at the commit: if
another document has come in, the transaction is aborted, and its retry locks the whole selection.

A transaction that loses its locks (it is the youngest in a deadlock, or waited too long to read) is not told so by its
next read, for the Python client retries a commit that is ABORTED but not a read. It goes on reading from a snapshot of
that moment, at which all it has read was still true, and its commit succeeds only if all of it is true then too.
Limits: https://firebase.google.com/docs/firestore/quotas#writes_and_transactions.
"""

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from emulator.clock import Clock
from emulator.firestore.documents import StoredDocument, timestamp_us
from emulator.firestore.errors import Aborted, InvalidArgument
from emulator.firestore.locks import LockTable, Outcome, Owner
from emulator.firestore.names import document_name
from emulator.firestore.store import DocumentStore, Selection, Snapshot, View, version_us
from emulator.firestore.writes import Plan, plan, target_names

IDLE_MS_MAX = 60_000
TOTAL_MS_MAX = 270_000
LOCK_TIMEOUT_S = 10.0
QUERY_ROUNDS_MAX = 8

_LOCK_TIMEOUT = "Transaction lock timeout."
_CONTENTION = (
    "Aborted due to cross-transaction contention. This occurs when multiple transactions attempt to access the same "
    "data, requiring Firestore to abort at least one in order to enforce serializability."
)

Run = Callable[[View], list[StoredDocument]]
Fingerprint = list[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class _QueryRead:
    """A query that a transaction has run: what it found, and the version of the collections it looked at (None if it
    was run on a snapshot)."""

    run: Run
    selection: Selection
    version: int | None
    found: Fingerprint


class Transaction(Owner):
    """One open transaction. `snapshot` is what it reads from, None for the present with locks."""

    def __init__(self, transaction_id: bytes, seniority: int, root: str, began_ms: int, *, retried: bool) -> None:
        super().__init__(seniority)
        self.id: Final = transaction_id
        self.root: Final = root
        self.retried: Final = retried
        self.began_ms: Final = began_ms
        self.used_ms = began_ms
        self.read_only = False
        self.snapshot: Snapshot | None = None
        self.reads: dict[str, int] = {}
        self.queries: list[_QueryRead] = []
        self.on_lose: Callable[[Transaction], None] | None = None

    @property
    def can_lose(self) -> bool:
        return True

    def lose(self) -> None:
        assert self.on_lose is not None, "a transaction is registered before it waits"
        self.on_lose(self)


class Transactions:
    """All open transactions, and the only way to commit. `lock_timeout_s` is how long anybody waits for locks."""

    def __init__(self, store: DocumentStore, clock: Clock, lock_timeout_s: float = LOCK_TIMEOUT_S) -> None:
        self._store = store
        self._clock = clock
        self._lock_timeout_s = lock_timeout_s
        self._locks = LockTable()
        self._open: dict[bytes, Transaction] = {}
        # The transactions that lock whole selections, so that commits need not ask for those while there are none.
        self._selecting: set[Transaction] = set()
        self._count = 0
        # Ids of another run of the process must not be taken for ids of this one.
        self._nonce = secrets.token_bytes(8)

    def __len__(self) -> int:
        """The number of open transactions."""
        return len(self._open)

    def waiting(self) -> int:
        """How many places in the queues for locks are taken."""
        return self._locks.waiting()

    def begin(self, root: str, options: Any | None) -> Transaction:
        """Begins one with TransactionOptions. Raises InvalidArgument; FailedPrecondition for an old read time."""
        self._count += 1
        seniority = self._count
        retry_id = b"" if options is None else options.read_write.retry_transaction
        if retry_id:
            seniority = self._number(retry_id)
            if retry_id in self._open:
                self.close(self._open[retry_id])
        transaction = Transaction(
            self._nonce + self._count.to_bytes(8, "big"),
            seniority,
            root,
            self._clock.now_ms(),
            retried=bool(retry_id),
        )
        if options is not None and options.HasField("read_only"):
            read_only = options.read_only
            at_us = timestamp_us(read_only.read_time) if read_only.HasField("read_time") else None
            transaction.read_only = True
            transaction.snapshot = self._store.snapshot(at_us)
        transaction.on_lose = self._take_locks_from
        self._open[transaction.id] = transaction
        return transaction

    def find(self, root: str, transaction_id: bytes) -> Transaction:
        """The open transaction with this id. Raises InvalidArgument for one that is unknown, over or expired."""
        self._number(transaction_id)
        transaction = self._open.get(transaction_id)
        if transaction is not None and self._has_expired(transaction):
            self.close(transaction)
            transaction = None
        if transaction is None:
            raise InvalidArgument("Transaction is invalid or closed.")
        if transaction.root != root:
            raise InvalidArgument("Invalid transaction.")
        transaction.used_ms = self._clock.now_ms()
        return transaction

    def rollback(self, transaction_id: bytes) -> None:
        """Ends a transaction; one that is over already stays so. Raises InvalidArgument for an unknown id."""
        self._number(transaction_id)
        transaction = self._open.get(transaction_id)
        if transaction is not None:
            self.close(transaction)

    def close(self, transaction: Transaction) -> None:
        """Ends a transaction and releases its locks."""
        self._open.pop(transaction.id, None)
        self._release(transaction)

    def close_all(self, project: str | None = None) -> None:
        """Ends the transactions of a project, or of all."""
        for transaction in list(self._open.values()):
            if project is None or transaction.root.startswith(f"projects/{project}/"):
                self.close(transaction)

    def expire(self) -> None:
        """Ends what was idle for 60 s or is older than 270 s."""
        for transaction in list(self._open.values()):
            if self._has_expired(transaction):
                self.close(transaction)

    async def read(self, transaction: Transaction, names: Iterable[str]) -> View:
        """The view from which a transaction reads these documents, locked for it if it still holds locks."""
        names = set(names)
        if transaction.snapshot is None:
            await self._lock_to_read(transaction, sorted(names))
        view: View = transaction.snapshot or self._store
        if not transaction.read_only:
            for name in names:
                transaction.reads.setdefault(name, version_us(view.get(name)))
        return view

    async def query(self, transaction: Transaction, selection: Selection, run: Run) -> list[StoredDocument]:
        """Runs a query for a transaction, and makes sure that its result is still the same at the commit."""
        if transaction.snapshot is None and transaction.retried:
            self._selecting.add(transaction)
            await self._lock_to_read(transaction, [_selection_key(selection)])
        for _ in range(QUERY_ROUNDS_MAX):
            if transaction.snapshot is not None:
                break
            documents = run(self._store)
            names = {document.name.name for document in documents}
            if names <= transaction.held:
                version = self._store.collection_version(selection)
                transaction.queries.append(_QueryRead(run, selection, version, _fingerprint(documents)))
                return documents
            # While it waits for the locks the result may change, so that it has to look again.
            await self._lock_to_read(transaction, sorted(names))
        if transaction.snapshot is None:
            self._take_locks_from(transaction)
        assert transaction.snapshot is not None, "a transaction without locks has a snapshot"
        documents = run(transaction.snapshot)
        if not transaction.read_only:
            transaction.queries.append(_QueryRead(run, selection, None, _fingerprint(documents)))
        return documents

    def read_us(self, transaction: Transaction | None) -> int:
        """The time of what a transaction, or nobody in particular, reads now."""
        if transaction is not None and transaction.snapshot is not None:
            return transaction.snapshot.at_us
        return self._store.read_us()

    async def commit(
        self, root: str, writes: Iterable[Any], transaction: Transaction | None = None
    ) -> tuple[Plan, int]:
        """Applies writes, all or none. Returns what they did and the commit time in microseconds.

        Ends the transaction, whatever happens, unless it is a read-only one that is asked to write. Raises Aborted if
        another transaction is in the way for too long or has changed what this one has read, or the FirestoreError of
        the write that is not allowed.
        """
        writes = list(writes)
        if transaction is not None and transaction.read_only and writes:
            raise InvalidArgument("Cannot modify entities in a read-only transaction.")
        if transaction is not None:
            # From here on a second commit of the same transaction finds it closed.
            self._open.pop(transaction.id, None)
        owner: Owner = transaction or Owner(self._next_seniority())
        try:
            await self._lock_to_write(owner, target_names(writes, root))
            # Nothing may suspend from here to the end: that makes the commit atomic.
            if transaction is not None:
                self._validate(transaction)
            commit_us = self._store.commit_us()
            result = plan(self._store, writes, commit_us)
            self._store.apply(result.changes, commit_us)
            return result, commit_us
        finally:
            self._release(owner)

    def _next_seniority(self) -> int:
        self._count += 1
        return self._count

    def _number(self, transaction_id: bytes) -> int:
        """The number within an id of this run. Raises InvalidArgument."""
        number = int.from_bytes(transaction_id[8:], "big")
        if len(transaction_id) != 16 or transaction_id[:8] != self._nonce or not 0 < number <= self._count:
            raise InvalidArgument("Invalid transaction.")
        return number

    def _has_expired(self, transaction: Transaction) -> bool:
        now_ms = self._clock.now_ms()
        return now_ms - transaction.used_ms > IDLE_MS_MAX or now_ms - transaction.began_ms > TOTAL_MS_MAX

    def _release(self, owner: Owner) -> None:
        if isinstance(owner, Transaction):
            self._selecting.discard(owner)
        self._locks.release_all(owner)

    def _take_locks_from(self, transaction: Transaction) -> None:
        if transaction.snapshot is None:
            transaction.snapshot = self._store.snapshot()
        self._release(transaction)

    async def _lock_to_read(self, transaction: Transaction, keys: list[str]) -> None:
        """Locks for a read, or leaves the transaction with a snapshot. Raises InvalidArgument if it ends meanwhile."""
        try:
            outcome = await self._locks.acquire(transaction, keys, self._lock_timeout_s)
        except BaseException:
            # The client went away while it was waiting: nobody will end this transaction.
            self.close(transaction)
            raise
        if transaction.id not in self._open:
            self._release(transaction)
            raise InvalidArgument("Transaction is invalid or closed.")
        if outcome is Outcome.TIMEOUT:
            self._take_locks_from(transaction)

    async def _lock_to_write(self, owner: Owner, names: list[str]) -> None:
        """Returns once nobody else holds a lock on any of these documents. Raises Aborted."""
        while True:
            keys = sorted(set(names))
            if self._selecting:
                keys += sorted({key for name in keys for key in _selection_keys_of(name) if self._locks.is_held(key)})
            if not any(self._locks.is_blocked(owner, key) for key in keys):
                return
            outcome = await self._locks.acquire(owner, keys, self._lock_timeout_s)
            if outcome is not Outcome.GRANTED:
                raise Aborted(_LOCK_TIMEOUT if outcome is Outcome.TIMEOUT else _CONTENTION)

    def _validate(self, transaction: Transaction) -> None:
        """Raises Aborted if anything that the transaction has read is not true any more."""
        if transaction.read_only:
            return
        if transaction.snapshot is not None:
            for name, version in transaction.reads.items():
                if version_us(self._store.get(name)) != version:
                    raise Aborted(_CONTENTION)
        for query in transaction.queries:
            unchanged = query.version == self._store.collection_version(query.selection)
            if not unchanged and _fingerprint(query.run(self._store)) != query.found:
                raise Aborted(_CONTENTION)


def _fingerprint(documents: list[StoredDocument]) -> Fingerprint:
    return [(document.name.name, document.update_us) for document in documents]


def _selection_key(selection: Selection) -> str:
    """The lock that stands for all documents that a query may ever find. No document is named like that."""
    if selection.collection_id and not selection.all_descendants:
        return f"{selection.parent}/{selection.collection_id}"
    root = "/".join(selection.parent.split("/", 5)[:5])
    return f"{root}//{selection.collection_id}"


def _selection_keys_of(name: str) -> list[str]:
    """The locks of all selections that may contain a document."""
    parsed = document_name(name)
    return [parsed.collection, f"{parsed.root}//{parsed.segments[-2]}", f"{parsed.root}//"]
