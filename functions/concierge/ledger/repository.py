"""The ledger's Firestore documents.

accounts/{uid}                     {seq, headHash, posted, held, debt, frozen, epoch}
accounts/{uid}/entries/{seq:012d}  {content, hash, keyId, signature}
accounts/{uid}/ops/{opId}          {requestHash, seq, hash, amount}
accounts/{uid}/holds/{holdId}      the hold, which is also the op record of its placing and of its resolution
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from google.cloud import firestore

from concierge import paths
from concierge.ledger.entries import StoredEntry
from concierge.ledger.transfers import Head, Refusal

HoldState = Literal["held", "captured", "released", "expired", "refused"]


@dataclass(frozen=True, slots=True)
class Hold:
    """One hold and what became of it. Amounts in microcredits.

    `run_id` names the run that placed it: whoever finds another run's id there did not win the claim. `entry_seq` and
    `entry_hash` are those of the last entry made for it: its own, then its resolution's; a refused hold has none.
    """

    hold_id: str
    uid: str
    state: HoldState
    request_hash: str
    run_id: str
    amount: int
    placed_at: datetime
    expires_at: datetime
    captured: int = 0
    note: str | None = None
    entry_seq: int = 0
    entry_hash: str = ""
    resolved_by: str | None = None
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """The record of one idempotent credit: what was asked for, and the entry that came of it."""

    request_hash: str
    seq: int
    hash: str
    amount: int


@dataclass(frozen=True, slots=True)
class AccountRead:
    """What one operation decides from: snapshots of the account and of the operation's own record."""

    uid: str
    account_snapshot: Any
    record_snapshot: Any

    @property
    def head(self) -> Head | None:
        """None for an account that does not exist."""
        return head_from_document(self.account_snapshot.to_dict()) if self.account_snapshot.exists else None

    @property
    def record(self) -> dict[str, Any] | None:
        """None for an operation that was never done."""
        document: dict[str, Any] | None = self.record_snapshot.to_dict()
        return document


@dataclass(frozen=True, slots=True)
class Change:
    """What one operation writes: its record, and, unless it was refused, an entry with the head behind it."""

    record: dict[str, Any]
    entry: StoredEntry | None = None
    head: Head | None = None


class LedgerRepository:
    """Reads and writes of the ledger's documents."""

    def __init__(self, client: firestore.Client) -> None:
        self.client = client

    def account_reference(self, uid: str) -> Any:
        return self.client.collection(paths.ACCOUNTS).document(uid)

    def operation_reference(self, uid: str, op_id: str) -> Any:
        return self.account_reference(uid).collection(paths.OPS).document(op_id)

    def hold_reference(self, uid: str, hold_id: str) -> Any:
        return self.account_reference(uid).collection(paths.HOLDS).document(hold_id)

    def entry_reference(self, uid: str, seq: int) -> Any:
        return self.account_reference(uid).collection(paths.ENTRIES).document(f"{seq:012d}")

    def read(self, uid: str, record: Any) -> "AccountRead":
        """The head of an account and the record of one operation, as of one moment, in a single round trip."""
        account = self.account_reference(uid)
        found = {snapshot.reference.path: snapshot for snapshot in self.client.get_all([account, record])}
        return AccountRead(uid, found[account.path], found[record.path])

    def commit(self, read: "AccountRead", change: "Change") -> None:
        """Writes an operation whole, or not at all if the account or the record has changed since it was read.

        Then raises what Firestore answers: FailedPrecondition, AlreadyExists or Aborted.
        """
        batch = self.client.batch()
        if change.entry is not None and change.head is not None:
            entry = change.entry
            batch.create(
                self.entry_reference(read.uid, change.head.seq),
                {"content": entry.content, "hash": entry.hash, "keyId": entry.key_id, "signature": entry.signature},
            )
            self._replace(batch, read.account_snapshot, head_to_document(change.head))
        self._replace(batch, read.record_snapshot, change.record)
        batch.commit()

    def _replace(self, batch: Any, read: Any, document: dict[str, Any]) -> None:
        """Writes all fields of a document, on the condition that it is as it was read: absent, or not changed since."""
        if read.exists:
            unchanged = self.client.write_option(last_update_time=read.update_time)
            batch.update(read.reference, document, option=unchanged)
        else:
            batch.create(read.reference, document)

    def head(self, uid: str) -> Head | None:
        snapshot = self.account_reference(uid).get()
        return head_from_document(snapshot.to_dict()) if snapshot.exists else None

    def hold(self, uid: str, hold_id: str) -> Hold | None:
        snapshot = self.hold_reference(uid, hold_id).get()
        return hold_from_document(uid, hold_id, snapshot.to_dict()) if snapshot.exists else None

    def operation(self, uid: str, op_id: str) -> Operation | None:
        snapshot = self.operation_reference(uid, op_id).get()
        return operation_from_document(snapshot.to_dict()) if snapshot.exists else None

    def entries(self, uid: str, after_seq: int = 0, limit: int | None = None) -> Iterator[StoredEntry]:
        """Entries in the order of their numbers, from the one after `after_seq`."""
        query = self.account_reference(uid).collection(paths.ENTRIES).order_by("__name__")
        if after_seq:
            query = query.start_after({"__name__": self.entry_reference(uid, after_seq)})
        if limit is not None:
            query = query.limit(limit)
        for snapshot in query.stream():
            yield entry_from_document(snapshot.to_dict())

    def entry(self, uid: str, seq: int) -> StoredEntry | None:
        snapshot = self.entry_reference(uid, seq).get()
        return entry_from_document(snapshot.to_dict()) if snapshot.exists else None

    def due_holds(self, now: datetime, limit: int) -> list[Hold]:
        """Open holds of all accounts whose time is up, oldest first; needs the index on (state, expiresAt)."""
        query = (
            self.client.collection_group(paths.HOLDS)
            .where(filter=firestore.FieldFilter("state", "==", "held"))
            .where(filter=firestore.FieldFilter("expiresAt", "<=", now))
            .order_by("expiresAt")
            .limit(limit)
        )
        return [
            hold_from_document(snapshot.reference.parent.parent.id, snapshot.id, snapshot.to_dict())
            for snapshot in query.stream()
        ]


def head_to_document(head: Head) -> dict[str, Any]:
    document = asdict(head)
    document["headHash"] = document.pop("hash")
    return document


def head_from_document(document: dict[str, Any]) -> Head:
    return Head(
        seq=document["seq"],
        hash=document["headHash"],
        posted=document["posted"],
        held=document["held"],
        debt=document["debt"],
        frozen=document["frozen"],
        epoch=document["epoch"],
    )


def entry_from_document(document: dict[str, Any]) -> StoredEntry:
    return StoredEntry(document["content"], document["hash"], document["keyId"], document["signature"])


def operation_to_document(operation: Operation) -> dict[str, Any]:
    return {
        "requestHash": operation.request_hash,
        "seq": operation.seq,
        "hash": operation.hash,
        "amount": operation.amount,
    }


def operation_from_document(document: dict[str, Any]) -> Operation:
    return Operation(document["requestHash"], document["seq"], document["hash"], document["amount"])


def hold_to_document(hold: Hold) -> dict[str, Any]:
    return {
        "state": hold.state,
        "requestHash": hold.request_hash,
        "runId": hold.run_id,
        "amount": hold.amount,
        "placedAt": hold.placed_at,
        "expiresAt": hold.expires_at,
        "captured": hold.captured,
        "note": hold.note,
        "entrySeq": hold.entry_seq,
        "entryHash": hold.entry_hash,
        "resolvedBy": hold.resolved_by,
        "refusal": asdict(hold.refusal) if hold.refusal is not None else None,
    }


def hold_from_document(uid: str, hold_id: str, document: dict[str, Any]) -> Hold:
    refusal = document["refusal"]
    return Hold(
        hold_id=hold_id,
        uid=uid,
        state=document["state"],
        request_hash=document["requestHash"],
        run_id=document["runId"],
        amount=document["amount"],
        placed_at=document["placedAt"],
        expires_at=document["expiresAt"],
        captured=document["captured"],
        note=document["note"],
        entry_seq=document["entrySeq"],
        entry_hash=document["entryHash"],
        resolved_by=document["resolvedBy"],
        refusal=Refusal(**refusal) if refusal is not None else None,
    )
