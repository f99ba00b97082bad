"""What is asked about checkpoints: published notes, proofs, receipts, and an account's latest leaf."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from concierge import paths
from concierge.errors import Internal, InvalidArgument, NotFound, Unavailable
from concierge.kit.logging import log
from concierge.kit.objects import ObjectStore, ObjectsUnavailable
from concierge.ledger.checkpoints import merkle
from concierge.ledger.checkpoints.leaves import Leaf, find_leaf
from concierge.ledger.checkpoints.notes import Verifier
from concierge.ledger.checkpoints.receipts import CONSISTENCY_FORMAT, Inclusion, build_receipt
from concierge.ledger.checkpoints.repository import AccountLeaf, CheckpointRecord, CheckpointRepository
from concierge.ledger.checkpoints.tiles import TileError, TileReader
from concierge.ledger.entries import StoredEntry
from concierge.ledger.service import Ledger

CHAIN_MAX_ENTRIES = 5_000
_NEAR_ENTRIES = 20
"""A chain of so many entries is short enough that no leaf nearer to the entry is looked for."""
_LEAF_FILES_MAX = 12
# Entries have the time of the instance that made them, which may be ahead of the server's.
_CLOCK_SKEW = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class _Place:
    """A leaf that covers an entry, and the published checkpoint that added it."""

    leaf: Leaf
    index: int
    record: CheckpointRecord


class Checkpoints:
    """Reads only; the scheduled publisher writes. `verifiers` are all keys under which notes verify; `objects` is
    asked for when the first proof is made."""

    def __init__(
        self,
        repository: CheckpointRepository,
        ledger: Ledger,
        objects: Callable[[], ObjectStore],
        verifiers: Sequence[Verifier],
    ) -> None:
        self._repository = repository
        self._ledger = ledger
        self._objects = objects
        self._verifiers = verifiers

    @property
    def vkeys(self) -> list[str]:
        """All keys under which notes verify, as C2SP vkeys."""
        return sorted({verifier.vkey for verifier in self._verifiers})

    def latest(self) -> CheckpointRecord | None:
        """The newest published one."""
        return self._repository.latest_published()

    def published(self, after: int, limit: int) -> list[CheckpointRecord]:
        """In the order of their numbers, from the one behind `after`."""
        return self._repository.published_after(after, limit)

    def latest_leaf(self, uid: str) -> AccountLeaf | None:
        """What was last put into the tree of an account: it has had this entry. None if it is in no checkpoint yet."""
        return self._repository.leaf(uid)

    def anchors(self, uid: str) -> dict[int, str]:
        """For the verification of an account: the hashes of its entries that are known from checkpoints."""
        return self._repository.anchors(uid)

    def consistency(self, first: int, second: int) -> dict[str, Any]:
        """A `concierge.consistency.v1`: `{format, from, to, hashes}`, that the tree of `second` leaves begins with that
        of `first`.

        Raises InvalidArgument unless both are sizes of published checkpoints, in this order; Unavailable.
        """
        if first > second:
            raise InvalidArgument("to", "to is at least from.")
        older, newer = self._of_size("from", first), self._of_size("to", second)
        proof = self._proved(
            newer,
            lambda node: merkle.consistency_proof(first, second, node),
            lambda hashes: merkle.verify_consistency(
                first, second, bytes.fromhex(older.root), bytes.fromhex(newer.root), hashes
            ),
        )
        return {
            "format": CONSISTENCY_FORMAT,
            "from": {"size": older.size, "note": older.note},
            "to": {"size": newer.size, "note": newer.note},
            "hashes": [digest.hex() for digest in proof],
        }

    def receipt(self, uid: str, seq: int) -> dict[str, Any]:
        """The `concierge.receipt.v1` of an entry (receipts.py), pending if no checkpoint covers it yet.

        Raises NotFound, Unavailable.
        """
        entry = self._ledger.entry(uid, seq)
        if entry is None:
            raise NotFound(f"There is no entry {seq}.")
        place = self._place(uid, seq, entry)
        chain: list[StoredEntry] = []
        inclusion = None
        if place is not None:
            chain = self._ledger.entries(uid, after_seq=seq, limit=place.leaf.seq - seq) if place.leaf.seq > seq else []
            inclusion = self._inclusion(place)
        return build_receipt(self._ledger.ledger_id, entry, chain, inclusion, self._ledger.published_keys(), self.vkeys)

    def _place(self, uid: str, seq: int, entry: StoredEntry) -> _Place | None:
        """A leaf that covers an entry, rather a near one than a far one; None if there is none."""
        latest = self._repository.leaf(uid)
        if latest is None or latest.seq < seq:
            return None
        if latest.seq - seq > _NEAR_ENTRIES:
            near = next((place for place in self._places_from(uid, entry) if place.leaf.seq >= seq), None)
            if near is not None and near.leaf.seq - seq <= CHAIN_MAX_ENTRIES:
                return near
        record = self._repository.get(latest.checkpoint)
        if record is None or record.note is None:
            # Decided, and not published for some seconds yet.
            return None
        if latest.seq - seq > CHAIN_MAX_ENTRIES:
            log("ERROR", "receipt.too_long", uid=uid, seq=seq, leaf=latest.seq)
            raise Internal
        return _Place(latest.line.leaf, latest.index, record)

    def _places_from(self, uid: str, entry: StoredEntry) -> Iterator[_Place]:
        """The leaves of an account in the first checkpoints after an entry."""
        at = datetime.fromisoformat(json.loads(entry.content)["at"])
        for record in self._repository.published_from(at - _CLOCK_SKEW, _LEAF_FILES_MAX):
            data = self._read(record.leaves_object)
            found = find_leaf(data, uid) if data is not None else None
            if found is not None:
                place, leaf = found
                yield _Place(leaf, record.first + place, record)

    def _inclusion(self, place: _Place) -> Inclusion:
        record, digest = place.record, place.leaf.digest
        hashes = self._proved(
            record,
            lambda node: merkle.inclusion_proof(place.index, record.size, node),
            lambda proof: merkle.verify_inclusion(digest, place.index, record.size, proof, bytes.fromhex(record.root)),
        )
        assert record.note is not None, "only published checkpoints are proved"
        return Inclusion(place.leaf, place.index, record.size, hashes, record.note)

    def _proved(
        self,
        record: CheckpointRecord,
        make: Callable[[merkle.NodeReader], list[bytes]],
        holds: Callable[[list[bytes]], bool],
    ) -> list[bytes]:
        """A proof from the tiles of a checkpoint. What does not prove anything is never handed out: it raises an alert
        and Unavailable."""
        try:
            proof = make(TileReader(lambda path: self._read(paths.tile(path)), record.size).node)
            fault = "" if holds(proof) else "the tiles do not give the signed root"
        except TileError as error:
            fault = str(error)
        if fault:
            log("CRITICAL", "checkpoint.tiles_damaged", number=record.number, message=fault)
            raise Unavailable("This proof cannot be made at the moment.")
        return proof

    def _read(self, name: str) -> bytes | None:
        try:
            return self._objects().read(name)
        except ObjectsUnavailable as error:
            raise Unavailable("The checkpoints cannot be read at the moment.") from error

    def _of_size(self, name: str, size: int) -> CheckpointRecord:
        record = self._repository.published_of_size(size)
        if record is None:
            raise InvalidArgument(name, f"{name} is the size of a published checkpoint.")
        return record
