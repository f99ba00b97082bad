"""The ledger's Firestore documents.

accounts/{uid}                     {seq, headHash, posted, held, debt, frozen, quarantined, epoch, counters, bucket,
                                    changedAt}: the head; the last two are the change feed's (changes.py)
accounts/{uid}/entries/{seq:012d}  {content, hash, keyId, signature}
accounts/{uid}/ops/{opId}          {requestHash, seq, hash, amount, memo?, actor?, refusal?}
accounts/{uid}/holds/{holdId}      the hold, which is also the op record of its placing and of its resolution
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

from google.cloud import firestore

from concierge import paths
from concierge.kit.logging import log
from concierge.ledger.entries import StoredEntry
from concierge.ledger.transfers import COUNTER_OPENING, Head, Refusal

BUCKETS = 16
"""Into how many ranges the index of the change feed is split: one range takes some 500 appends a second."""

Value = TypeVar("Value", str, bytes)
HoldState = Literal["held", "captured", "released", "expired", "refused"]


@dataclass(frozen=True, slots=True)
class Work:
    """What a hold is for: the kind of task, and the model that is asked first."""

    kind: str
    model: str


@dataclass(frozen=True, slots=True)
class Hold:
    """One hold and what became of it. Amounts in microcredits.

    `run_id` names the run that placed it: whoever finds another run's id there did not win the claim. `fence` counts
    the runs that took the work over: a run with an older number is refused, and so are all of `former_runs`, who had it
    before. `entry_seq` and `entry_hash` are those of
    the last entry made for it: its own, then its resolution's; a refused hold has none. `placed_seq` is the
    number of its own. `work` is None where the owner placed the hold directly, and in holds of earlier versions.
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
    fence: int = 0
    placed_seq: int = 0
    work: Work | None = None
    former_runs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """The record of one idempotent posting: what was asked for, and the entry that came of it, or the refusal.

    `actor` is who ordered it and `memo` why, where an administrator did; the entry holds only the memo's hash.
    """

    request_hash: str
    seq: int
    hash: str
    amount: int
    memo: str | None = None
    actor: str | None = None
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """A document that a feature writes in the same commit as an entry."""

    reference: Any
    document: dict[str, Any]
    read: Any = None
    merges: bool = False

    @classmethod
    def create(cls, reference: Any, document: dict[str, Any]) -> "Write":
        """A new document; if it exists, nothing of the commit happens and the operation runs again."""
        return cls(reference, document)

    @classmethod
    def replace(cls, snapshot: Any, document: dict[str, Any]) -> "Write":
        """All of a document, provided that it is as in the snapshot: absent, or not changed since."""
        return cls(snapshot.reference, document, read=snapshot)

    @classmethod
    def merge(cls, reference: Any, document: dict[str, Any]) -> "Write":
        """Some fields, whatever is there: increments and server timestamps."""
        return cls(reference, document, merges=True)


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
    """What one operation writes: its record; unless it was refused, an entry with the head behind it; and what features
    keep beside that."""

    record: dict[str, Any]
    entry: StoredEntry | None = None
    head: Head | None = None
    beside: Sequence[Write] = ()


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

    def read(self, *records: tuple[str, Any]) -> "list[AccountRead]":
        """For each (uid, record of one operation) the head and the record, all as of one moment, in a single round
        trip."""
        wanted = [reference for uid, record in records for reference in (self.account_reference(uid), record)]
        found = {snapshot.reference.path: snapshot for snapshot in self.client.get_all(wanted)}
        return [
            AccountRead(uid, found[self.account_reference(uid).path], found[record.path]) for uid, record in records
        ]

    def commit(self, *steps: "tuple[AccountRead, Change]") -> None:
        """Writes an operation whole, or not at all if an account or a record has changed since it was read.

        Then raises what Firestore answers: FailedPrecondition, AlreadyExists or Aborted.
        """
        batch = self.client.batch()
        for read, change in steps:
            if change.entry is not None and change.head is not None:
                batch.create(self.entry_reference(read.uid, change.head.seq), entry_to_document(change.entry))
                replace_unchanged(self.client, batch, read.account_snapshot, account_to_document(read.uid, change.head))
            replace_unchanged(self.client, batch, read.record_snapshot, change.record)
            for write in change.beside:
                if write.merges:
                    batch.set(write.reference, write.document, merge=True)
                elif write.read is not None:
                    replace_unchanged(self.client, batch, write.read, write.document)
                else:
                    batch.create(write.reference, write.document)
        batch.commit()

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
            if snapshot.id.isascii() and snapshot.id.isdigit():
                yield entry_from_document(snapshot.to_dict(), int(snapshot.id))
            else:
                # No entry of ours; the validation reports it, and nobody's history ends there.
                log("CRITICAL", "entry.stray", uid=uid, name=snapshot.id)

    def entry(self, uid: str, seq: int) -> StoredEntry | None:
        snapshot = self.entry_reference(uid, seq).get()
        return entry_from_document(snapshot.to_dict(), seq) if snapshot.exists else None

    def accounts(self, after: str | None, limit: int) -> list[tuple[str, Head]]:
        """Accounts with their heads in the order of their ids, from the one behind `after`."""
        found = _page(self.client.collection(paths.ACCOUNTS), after, limit)
        return [(snapshot.id, head_from_document(snapshot.to_dict())) for snapshot in found]

    def operations(self, uid: str, after: str | None, limit: int) -> list[tuple[str, Operation]]:
        """An account's operations in the order of their ids, from the one behind `after`."""
        found = _page(self.account_reference(uid).collection(paths.OPS), after, limit)
        return [(snapshot.id, operation_from_document(snapshot.to_dict())) for snapshot in found]

    def holds(self, uid: str, after: str | None, limit: int) -> list[Hold]:
        """An account's holds in the order of their ids, from the one behind `after`."""
        found = _page(self.account_reference(uid).collection(paths.HOLDS), after, limit)
        return [hold_from_document(uid, snapshot.id, snapshot.to_dict()) for snapshot in found]

    def placings(self, uid: str, hold_ids: Iterable[str]) -> dict[str, StoredEntry]:
        """The entries that placed these holds, by hold, in two round trips; without those that cannot be found."""
        holds = [self.hold_reference(uid, hold_id) for hold_id in hold_ids]
        placed: dict[str, Any] = {}
        for snapshot in self.client.get_all(holds) if holds else ():
            number = (snapshot.to_dict() or {}).get("placedSeq")
            if type(number) is int and number > 0:
                placed[snapshot.id] = self.entry_reference(uid, number)
        entries = self.client.get_all(list(placed.values())) if placed else ()
        found = {
            snapshot.reference.path: entry_from_document(snapshot.to_dict(), int(snapshot.id))
            for snapshot in entries
            if snapshot.exists
        }
        return {hold_id: found[reference.path] for hold_id, reference in placed.items() if reference.path in found}

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


def _page(collection: Any, after: str | None, limit: int) -> Any:
    """Documents in the order of their ids, from the one behind `after`."""
    query = collection.order_by("__name__").limit(limit)
    if after is not None:
        query = query.start_after({"__name__": collection.document(after)})
    return query.stream()


def replace_unchanged(client: firestore.Client, batch: Any, read: Any, document: dict[str, Any]) -> None:
    """Writes all fields of a document, on the condition that it is as in the snapshot `read`: absent, or not changed
    since."""
    if read.exists:
        unchanged = client.write_option(last_update_time=read.update_time)
        batch.update(read.reference, document, option=unchanged)
    else:
        batch.create(read.reference, document)


def bucket_of(uid: str) -> int:
    """The range of the change feed's index in which an account lies."""
    return hashlib.sha256(uid.encode()).digest()[0] % BUCKETS


def account_to_document(uid: str, head: Head) -> dict[str, Any]:
    """The head, with what the change feed goes by."""
    return {**head_to_document(head), "bucket": bucket_of(uid), "changedAt": firestore.SERVER_TIMESTAMP}


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
        quarantined=document.get("quarantined", False),
        epoch=document["epoch"],
        counters=counters_from_document(document),
    )


def counters_from_document(document: dict[str, Any]) -> dict[str, int]:
    """Those of an account that is older than they are begin with what it owned."""
    counters: dict[str, int] = document.get("counters", {COUNTER_OPENING: -document["posted"]})
    return counters


def entry_to_document(entry: StoredEntry) -> dict[str, Any]:
    return {"content": entry.content, "hash": entry.hash, "keyId": entry.key_id, "signature": entry.signature}


def entry_from_document(document: dict[str, Any], place: int) -> StoredEntry:
    """Whatever is there: what has lost a field, or holds another type in it, is an entry that does not verify."""
    content, signature = (_typed(document.get(name), b"") for name in ("content", "signature"))
    digest, key_id = (_typed(document.get(name), "") for name in ("hash", "keyId"))
    return StoredEntry(content, digest, key_id, signature, place)


def _typed(value: Any, default: Value) -> Value:
    return value if isinstance(value, type(default)) else default


def operation_to_document(operation: Operation) -> dict[str, Any]:
    document = {
        "requestHash": operation.request_hash,
        "seq": operation.seq,
        "hash": operation.hash,
        "amount": operation.amount,
        "memo": operation.memo,
        "actor": operation.actor,
        "refusal": asdict(operation.refusal) if operation.refusal is not None else None,
    }
    return {key: value for key, value in document.items() if value is not None}


def operation_from_document(document: dict[str, Any]) -> Operation:
    refusal = document.get("refusal")
    return Operation(
        request_hash=document["requestHash"],
        seq=document["seq"],
        hash=document["hash"],
        amount=document["amount"],
        memo=document.get("memo"),
        actor=document.get("actor"),
        refusal=Refusal(**refusal) if refusal is not None else None,
    )


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
        "fence": hold.fence,
        "placedSeq": hold.placed_seq,
        "work": asdict(hold.work) if hold.work is not None else None,
        "formerRuns": list(hold.former_runs),
    }


def hold_from_document(uid: str, hold_id: str, document: dict[str, Any]) -> Hold:
    refusal, work = document["refusal"], document.get("work")
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
        fence=document.get("fence", 0),
        placed_seq=document.get("placedSeq", 0),
        work=Work(**work) if work is not None else None,
        former_runs=tuple(document.get("formerRuns", ())),
    )
