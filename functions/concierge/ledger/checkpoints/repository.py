"""The Firestore documents of checkpoints.

checkpoints/{number:012d}  {number, first, size, root, leavesObject, totals: {posted, counters}, cut, partial, balanced,
                            state: decided | published, decidedAt, publishedAt?, note?}
                           it adds the leaves [first, size); `cut` is the moment up to which changes are in it
leaves/{uid}               {leaf}: the latest leaf of an account, `<checkpoint> <index> <line of the leaf file>`: one
                           field, because a checkpoint reads and writes thousands of these
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from google.api_core import exceptions as google_exceptions
from google.cloud import firestore

from concierge import paths
from concierge.errors import Unavailable
from concierge.kit.documents import get_documents
from concierge.ledger.checkpoints.leaves import LeafLine

_BATCH = 400
_THREADS = 4
_ATTEMPTS = 5
_LOST_RACE = (google_exceptions.AlreadyExists, google_exceptions.FailedPrecondition, google_exceptions.NotFound)


@dataclass(frozen=True, slots=True)
class Totals:
    """What all accounts of a tree own, and their counters, in microcredits; with all counters they add up to zero."""

    posted: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)

    def moved(self, before: "Totals", after: "Totals") -> "Totals":
        """These totals once one account has gone from `before` to `after`."""
        counters = dict(self.counters)
        for name, amount in after.counters.items():
            counters[name] = counters.get(name, 0) + amount
        for name, amount in before.counters.items():
            counters[name] = counters.get(name, 0) - amount
        return Totals(self.posted - before.posted + after.posted, counters)


@dataclass(frozen=True, slots=True)
class AccountLeaf:
    """The latest leaf of an account: its line in the leaf file of a checkpoint, and its place in the tree."""

    line: LeafLine
    index: int
    checkpoint: int

    @property
    def seq(self) -> int:
        return self.line.leaf.seq

    @property
    def hash(self) -> str:
        return self.line.leaf.hash

    @property
    def totals(self) -> Totals:
        """What the account had there."""
        return Totals(self.line.posted, self.line.counters)


@dataclass(frozen=True, slots=True)
class KnownLeaf:
    """The latest leaf of an account as it was read, None if it has none, and the update time of its document."""

    leaf: AccountLeaf | None = None
    update_time: Any = None


_NO_LEAF = KnownLeaf()


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """One checkpoint: decided, and published once it has a note. `root` is hexadecimal.

    `partial`: more accounts had changed than one checkpoint takes, so that a transfer may be half in it. `balanced`:
    the totals add up, and no transfer between accounts is half in it.
    """

    number: int
    first: int
    size: int
    root: str
    leaves_object: str
    totals: Totals
    cut: datetime
    partial: bool
    balanced: bool
    decided_at: datetime
    published_at: datetime | None = None
    note: str | None = None


class CheckpointRepository:
    """Reads and writes of these documents."""

    def __init__(self, client: firestore.Client) -> None:
        self._client = client
        self._checkpoints = client.collection(paths.CHECKPOINTS)
        self._leaves = client.collection(paths.LEAVES)

    # Checkpoints.

    def latest(self) -> CheckpointRecord | None:
        """The newest one, which may be decided only; all before it are published."""
        query = self._checkpoints.order_by("number", direction=firestore.Query.DESCENDING).limit(1)
        return next((_record(snapshot) for snapshot in query.stream()), None)

    def latest_published(self) -> CheckpointRecord | None:
        query = self._checkpoints.order_by("number", direction=firestore.Query.DESCENDING).limit(2)
        return next((record for record in map(_record, query.stream()) if record.note is not None), None)

    def get(self, number: int) -> CheckpointRecord | None:
        snapshot = self._reference(number).get()
        return _record(snapshot) if snapshot.exists else None

    def published_after(self, number: int, limit: int) -> list[CheckpointRecord]:
        query = self._checkpoints.where(filter=firestore.FieldFilter("number", ">", number)).order_by("number")
        return [record for record in map(_record, query.limit(limit).stream()) if record.note is not None]

    def published_of_size(self, size: int) -> CheckpointRecord | None:
        query = self._checkpoints.where(filter=firestore.FieldFilter("size", "==", size)).limit(1)
        return next((record for record in map(_record, query.stream()) if record.note is not None), None)

    def published_from(self, at: datetime, limit: int) -> list[CheckpointRecord]:
        """The first ones that hold the changes up to a moment."""
        query = self._checkpoints.where(filter=firestore.FieldFilter("cut", ">=", at)).order_by("cut")
        return [record for record in map(_record, query.limit(limit).stream()) if record.note is not None]

    def moment_before(self, number: int) -> datetime | None:
        """The server's time, while there is no checkpoint of this number; None if there is one."""
        snapshot = self._reference(number).get()
        moment: datetime = snapshot.read_time
        return None if snapshot.exists else moment

    def decide(self, record: CheckpointRecord) -> bool:
        """Whether this is the checkpoint of its number: False if another one has been decided before."""
        document = {
            "number": record.number,
            "first": record.first,
            "size": record.size,
            "root": record.root,
            "leavesObject": record.leaves_object,
            "totals": asdict(record.totals),
            "cut": record.cut,
            "partial": record.partial,
            "balanced": record.balanced,
            "state": "decided",
            "decidedAt": record.decided_at,
        }
        try:
            self._reference(record.number).create(document)
        except google_exceptions.AlreadyExists:
            # Ours, if the answer to a first attempt was lost.
            decided = self.get(record.number)
            return decided is not None and _same_decision(decided, record)
        return True

    def publish(self, number: int, note: str) -> None:
        """A checkpoint is published once; another run may have done so meanwhile, with the same text."""
        snapshot = self._reference(number).get()
        if snapshot.get("state") == "published":
            return
        document = {"state": "published", "note": note, "publishedAt": datetime.now(UTC)}
        unchanged = self._client.write_option(last_update_time=snapshot.update_time)
        try:
            snapshot.reference.update(document, option=unchanged)
        except google_exceptions.FailedPrecondition:
            # Only a publication changes it.
            assert snapshot.reference.get().get("state") == "published"

    # Leaves.

    def leaf(self, uid: str) -> AccountLeaf | None:
        snapshot = self._leaves.document(uid).get()
        return _leaf(snapshot.get("leaf")) if snapshot.exists else None

    def anchors(self, uid: str) -> dict[int, str]:
        """For the verification of an account: the hashes of its entries that are known from checkpoints."""
        leaf = self.leaf(uid)
        return {leaf.seq: leaf.hash} if leaf is not None else {}

    def leaves(self, uids: Sequence[str], at: datetime | None = None) -> dict[str, KnownLeaf]:
        """By uid; as of now, or of a moment."""
        found = dict.fromkeys(uids, _NO_LEAF)
        for begin in range(0, len(uids), _BATCH):
            references = [self._leaves.document(uid) for uid in uids[begin : begin + _BATCH]]
            for document in get_documents(self._client, references, at):
                found[document.id] = KnownLeaf(_leaf(document.fields["leaf"].string_value), document.update_time)
        return found

    def write_leaves(self, leaves: Mapping[str, AccountLeaf], known: Mapping[str, KnownLeaf] | None = None) -> None:
        """Makes these the latest leaves of their accounts, except where a later checkpoint has one.

        `known` are the leaves before, by uid; they are read if they are not given. Raises Unavailable if others are
        faster for too long.
        """
        uids = list(leaves)
        parts = [uids[begin : begin + _BATCH] for begin in range(0, len(uids), _BATCH)]

        def write(part: Sequence[str]) -> None:
            self._write_part({uid: leaves[uid] for uid in part}, known)

        with ThreadPoolExecutor(_THREADS, thread_name_prefix="leaves") as pool:
            list(pool.map(write, parts))

    def _write_part(self, leaves: Mapping[str, AccountLeaf], known: Mapping[str, KnownLeaf] | None) -> None:
        for attempt in range(_ATTEMPTS):
            if known is not None and attempt == 0:
                older = {uid: known[uid] for uid in leaves}
            else:
                before = self.leaves(list(leaves))
                older = {
                    uid: found
                    for uid, found in before.items()
                    if found.leaf is None or found.leaf.checkpoint < leaves[uid].checkpoint
                }
            if not older:
                return
            batch = self._client.batch()
            for uid, found in older.items():
                reference, document = self._leaves.document(uid), _leaf_document(leaves[uid])
                if found.leaf is None:
                    batch.create(reference, document)
                else:
                    unchanged = self._client.write_option(last_update_time=found.update_time)
                    batch.update(reference, document, option=unchanged)
            try:
                batch.commit()
            except _LOST_RACE:
                # Another run has written some of these: its leaves are the same ones, or newer.
                continue
            return
        raise Unavailable("The checkpoint's leaves could not be written.")

    def _reference(self, number: int) -> Any:
        return self._checkpoints.document(f"{number:012d}")


def _same_decision(one: CheckpointRecord, other: CheckpointRecord) -> bool:
    return (one.size, one.root, one.leaves_object) == (other.size, other.root, other.leaves_object)


def _record(snapshot: Any) -> CheckpointRecord:
    document: dict[str, Any] = snapshot.to_dict()
    return CheckpointRecord(
        number=document["number"],
        first=document["first"],
        size=document["size"],
        root=document["root"],
        leaves_object=document["leavesObject"],
        totals=Totals(**document["totals"]),
        cut=document["cut"],
        partial=document["partial"],
        balanced=document["balanced"],
        decided_at=document["decidedAt"],
        published_at=document.get("publishedAt"),
        note=document.get("note"),
    )


def _leaf_document(leaf: AccountLeaf) -> dict[str, Any]:
    return {"leaf": f"{leaf.checkpoint} {leaf.index} {leaf.line.to_bytes().decode()}"}


def _leaf(text: str) -> AccountLeaf:
    checkpoint, index, line = text.split(" ", 2)
    return AccountLeaf(LeafLine.from_bytes(line.encode()), int(index), int(checkpoint))
