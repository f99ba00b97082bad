"""The scheduled work: one checkpoint over the accounts that changed since the last one.

    1. write the leaf file, under a name that holds its digest
    2. decide: create the checkpoint's document, with its root; of two runs one wins, and the other stops
    3. write the tiles
    4. update the latest leaves of the accounts
    5. sign the root, and publish

Whatever is decided is finished, by this run or by the next one, and no other root is ever signed for its size. Before
anything is added, the stored tree has to reproduce the root that was signed last.

All heads are read as of one moment, so both accounts of a transfer are in a checkpoint as they were before it, or both
as they were after it: over all accounts the transfers between them add up to zero. The exception is a partial
checkpoint, which takes only the changes that are oldest, because there are more than one run takes.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Never

from concierge import paths
from concierge.kit.faults import fault_point
from concierge.kit.logging import log
from concierge.kit.objects import ObjectConflict, ObjectStore
from concierge.ledger.changes import AccountPosition, ChangeFeed
from concierge.ledger.checkpoints import tiles
from concierge.ledger.checkpoints.leaves import Leaf, LeafLine, leaf_file, read_leaf_file
from concierge.ledger.checkpoints.notes import Checkpoint, NoteError, Signer, Verifier, open_note
from concierge.ledger.checkpoints.repository import (
    AccountLeaf,
    CheckpointRecord,
    CheckpointRepository,
    KnownLeaf,
    Totals,
)
from concierge.ledger.repository import BUCKETS
from concierge.ledger.transfers import account_counter, total_name

ACCOUNTS_MAX = 65_536
"""About as many changed accounts as one checkpoint takes; the next one takes the rest."""

_THREADS = 4
_TRANSFERS = total_name(account_counter(""))


class CheckpointDamaged(Exception):
    """What is stored contradicts what was signed. Nothing more is signed before somebody has looked into it."""


@dataclass(frozen=True, slots=True)
class _Changes:
    """The new leaves, in their order; the latest leaves of their accounts before them, by uid; and the moment
    up to which they hold all changes."""

    lines: Sequence[LeafLine]
    before: Mapping[str, KnownLeaf]
    cut: datetime
    partial: bool


@dataclass(frozen=True, slots=True)
class _Addition:
    """What a decided checkpoint adds to the stored tree."""

    lines: Sequence[LeafLine]
    growth: tiles.Growth
    known: Mapping[str, KnownLeaf] | None = None


class CheckpointPublisher:
    """Appends to the one tree of a ledger. `verifiers` are all keys under which its notes may be signed."""

    def __init__(
        self,
        feed: ChangeFeed,
        repository: CheckpointRepository,
        objects: ObjectStore,
        signer: Signer,
        verifiers: Sequence[Verifier],
        *,
        ledger_id: str,
        accounts_max: int = ACCOUNTS_MAX,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._feed = feed
        self._repository = repository
        self._objects = objects
        self._signer = signer
        self._verifiers = [*verifiers, signer.verifier]
        self._ledger_id = ledger_id
        self._bucket_max = max(1, accounts_max // BUCKETS)
        self._now = now

    def run(self) -> int:
        """Finishes what an earlier run left, then publishes as many checkpoints as there is work for; how many it did.

        Raises CheckpointDamaged, ObjectsUnavailable, Unavailable; the next run goes on from there.
        """
        published = 0
        while True:
            latest = self._repository.latest()
            resumes = latest is not None and latest.note is None
            if latest is not None and latest.note is None:
                record, addition = latest, self._addition_of(latest)
                log("WARNING", "checkpoint.resumed", number=latest.number)
            else:
                decided = self._decide(latest)
                if decided is None:
                    return published
                record, addition = decided
            self._finish(record, addition)
            published += 1
            leaves = record.size - record.first
            log("INFO", "checkpoint.published", number=record.number, size=record.size, leaves=leaves)
            if not resumes and not record.partial:
                return published

    # Deciding.

    def _decide(self, previous: CheckpointRecord | None) -> tuple[CheckpointRecord, _Addition] | None:
        """The next checkpoint, or None: nothing has changed, or another run decides."""
        number = previous.number + 1 if previous is not None else 1
        moment = self._repository.moment_before(number)
        if moment is None:
            return None
        changes = self._changes(previous.cut if previous is not None else None, number, moment)
        while changes.partial and not changes.lines:
            changes = self._changes(changes.cut, number, moment)
        if not changes.lines:
            return None
        growth = self._grown(previous, changes.lines)
        data = leaf_file(changes.lines)
        leaves_object = paths.leaf_file(number, hashlib.sha256(data).hexdigest())
        self._objects.create(leaves_object, data, "application/jsonl")
        fault_point("checkpoint.uploaded")
        totals = previous.totals if previous is not None else Totals()
        for line in changes.lines:
            before = changes.before[line.leaf.uid].leaf
            totals = totals.moved(before.totals if before is not None else Totals(), Totals(line.posted, line.counters))
        record = CheckpointRecord(
            number=number,
            first=previous.size if previous is not None else 0,
            size=growth.size,
            root=growth.root.hex(),
            leaves_object=leaves_object,
            totals=totals,
            cut=changes.cut,
            partial=changes.partial,
            balanced=_is_balanced(totals, partial=changes.partial),
            decided_at=self._now(),
        )
        if not self._repository.decide(record):
            log("INFO", "checkpoint.left_to_another_run", number=number)
            return None
        fault_point("checkpoint.decided")
        if not record.balanced:
            log("CRITICAL", "checkpoint.unbalanced", number=number, totals=_as_json(totals))
        return record, _Addition(changes.lines, growth, changes.before)

    def _changes(self, cursor: datetime | None, number: int, moment: datetime) -> _Changes:
        def read(bucket: int) -> tuple[list[AccountPosition], dict[str, KnownLeaf], bool]:
            accounts, truncated = self._oldest(bucket, cursor, moment)
            return accounts, self._repository.leaves([account.uid for account in accounts]), truncated

        with ThreadPoolExecutor(_THREADS, thread_name_prefix="changes") as pool:
            buckets = list(pool.map(read, range(BUCKETS)))
        # What lies behind the end of a truncated bucket is left to the next checkpoint, from all buckets.
        ends = [accounts[-1].changed_at for accounts, _, truncated in buckets if truncated]
        cut = min(ends, default=moment)
        before = {uid: found for _, leaves, _ in buckets for uid, found in leaves.items()}
        if any(known.leaf is not None and known.leaf.checkpoint >= number for known in before.values()):
            if self._repository.get(number) is None:
                self._alert("checkpoint.history_damaged", f"accounts have leaves of checkpoint {number}, which is gone")
            return _Changes((), {}, cut, partial=False)
        lines = [
            LeafLine(
                Leaf(self._ledger_id, account.uid, account.seq, account.hash),
                account.posted,
                account.counters,
            )
            for accounts, _, _ in buckets
            for account in accounts
            if account.changed_at <= cut and _has_moved(account, before[account.uid].leaf)
        ]
        lines.sort(key=lambda line: line.leaf.uid)
        return _Changes(lines, {line.leaf.uid: before[line.leaf.uid] for line in lines}, cut, partial=bool(ends))

    def _oldest(self, bucket: int, cursor: datetime | None, moment: datetime) -> tuple[list[AccountPosition], bool]:
        """The accounts of a bucket whose changes are oldest, and whether there are more of them. It goes on beyond the
        cursor in any case: within the margin before it they may all be known."""
        accounts: list[AccountPosition] = []
        for account in self._feed.positions(bucket, cursor, moment):
            if len(accounts) >= self._bucket_max and (cursor is None or accounts[-1].changed_at > cursor):
                return accounts, True
            accounts.append(account)
        return accounts, False

    # The stored tree.

    def _grown(self, previous: CheckpointRecord | None, lines: Sequence[LeafLine]) -> tiles.Growth:
        """The tree with these leaves behind the ones that are stored. Raises CheckpointDamaged unless what is stored
        gives the root that was signed."""
        size = previous.size if previous is not None else 0
        try:
            edge = tiles.TileReader(lambda path: self._objects.read(paths.tile(path)), size).right_edge()
        except tiles.TileError as error:
            self._alert("checkpoint.tiles_damaged", str(error))
        if previous is not None and tiles.edge_root(edge) != self._signed_root(previous):
            self._alert("checkpoint.tiles_damaged", f"the tiles do not give the root of checkpoint {previous.number}")
        return tiles.append(size, edge, [line.leaf.digest for line in lines])

    def _signed_root(self, record: CheckpointRecord) -> bytes:
        """The root of a published checkpoint, as far as its note, which is signed, and its document agree."""
        assert record.note is not None, "only what is published is built upon"
        try:
            signed = Checkpoint.parse(open_note(record.note, self._verifiers)[0])
        except NoteError as error:
            self._alert("checkpoint.note_damaged", f"checkpoint {record.number}: {error}")
        if (signed.origin, signed.size, signed.root.hex()) != (self._signer.verifier.name, record.size, record.root):
            self._alert("checkpoint.note_damaged", f"checkpoint {record.number} is not what was signed")
        return signed.root

    def _addition_of(self, record: CheckpointRecord) -> _Addition:
        """What an earlier run decided to add, from its leaf file."""
        data = self._objects.read(record.leaves_object)
        if data is None or paths.leaf_file(record.number, hashlib.sha256(data).hexdigest()) != record.leaves_object:
            self._alert("checkpoint.leaves_damaged", f"the leaf file of checkpoint {record.number} is not what it was")
        lines = read_leaf_file(data)
        previous = self._repository.get(record.number - 1) if record.number > 1 else None
        return _Addition(lines, self._grown(previous, lines))

    # Finishing.

    def _finish(self, record: CheckpointRecord, addition: _Addition) -> None:
        """Does what is left to do for a decided checkpoint; each step again does no harm."""
        growth = addition.growth
        if (growth.size, growth.root.hex()) != (record.size, record.root):
            self._alert("checkpoint.tiles_damaged", f"the tree does not give the root of checkpoint {record.number}")
        try:
            with ThreadPoolExecutor(_THREADS, thread_name_prefix="tiles") as pool:
                list(pool.map(lambda tile: self._objects.create(paths.tile(tile[0]), tile[1]), growth.tiles.items()))
        except ObjectConflict as error:
            self._alert("checkpoint.tiles_damaged", str(error))
        fault_point("checkpoint.tiled")
        leaves = {
            line.leaf.uid: AccountLeaf(line, record.first + place, record.number)
            for place, line in enumerate(addition.lines)
        }
        self._repository.write_leaves(leaves, addition.known)
        fault_point("checkpoint.recorded")
        note = self._signer.sign(Checkpoint(self._signer.verifier.name, record.size, growth.root).text)
        self._repository.publish(record.number, note)
        fault_point("checkpoint.published")

    def _alert(self, event: str, message: str) -> Never:
        log("CRITICAL", event, message=message)
        raise CheckpointDamaged(message)


def _has_moved(account: AccountPosition, leaf: AccountLeaf | None) -> bool:
    """Whether an account has entries behind its latest leaf. An alert if it has been put back or forked: its published
    leaf stays what it is."""
    if leaf is None or account.seq > leaf.seq:
        return True
    if (account.seq, account.hash) != (leaf.seq, leaf.hash):
        log("CRITICAL", "checkpoint.account_damaged", uid=account.uid, seq=account.seq, published=leaf.seq)
    return False


def _is_balanced(totals: Totals, *, partial: bool) -> bool:
    if totals.posted + sum(totals.counters.values()) != 0:
        return False
    return partial or totals.counters.get(_TRANSFERS, 0) == 0


def _as_json(totals: Totals) -> dict[str, Any]:
    return {"posted": totals.posted, "counters": dict(totals.counters)}
