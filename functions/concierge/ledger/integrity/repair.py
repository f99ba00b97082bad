"""Repair: derived state from the entries, entries from the backup, and history never.

    1. quarantine the account, so that nothing is appended meanwhile
    2. walk along the chain; an entry that is damaged or gone is taken from the backup, if the backup's has a genuine
       seal, follows the entry before it, and is followed by the one behind it
    3. replay, and write what the head, the holds and the operations' records have to be
    4. examine all of it again, with every signature and with all that was published; only if nothing is wrong is the
       quarantine lifted, in one commit with the record of who repaired it and why

Each step writes only over what it has read, and does no harm if it is done again, so a repair that dies is repaired by
another one. What cannot be restored leaves the account quarantined.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from concierge.errors import Unavailable
from concierge.kit.canonical import fingerprint
from concierge.kit.faults import fault_point
from concierge.kit.logging import log
from concierge.ledger.entries import StoredEntry
from concierge.ledger.integrity.alerts import Alerts
from concierge.ledger.integrity.backups import Backups, Seal
from concierge.ledger.integrity.examination import Examination, Examiner
from concierge.ledger.integrity.replay import (
    Damage,
    HoldTruth,
    OperationTruth,
    compare_hold,
    compare_operation,
    unknown_hold,
    unknown_operation,
)
from concierge.ledger.integrity.repository import IntegrityRepository
from concierge.ledger.integrity.validation import Validation
from concierge.ledger.repository import account_to_document, entry_to_document
from concierge.ledger.transfers import CREDIT_KINDS, GENESIS_HASH

_ATTEMPTS = 10
_FORGOTTEN = "forgotten"
"""The request hash of a rebuilt record whose request the entry does not tell: any repetition is a conflict."""

Write = tuple[Any, dict[str, Any] | None]


@dataclass(slots=True)
class Repair:
    """What was wrong, what was done or, unless `applied`, would be done, and what is still wrong afterwards."""

    uid: str
    applied: bool
    before: list[Damage] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    after: list[Damage] = field(default_factory=list)
    quarantined: bool = False

    @property
    def repaired(self) -> bool:
        return not self.after and not self.quarantined


class Repairer:
    """Repairs one account at a time. `sync_mirror` makes the shown balance say what the head says."""

    def __init__(
        self,
        repository: IntegrityRepository,
        examiner: Examiner,
        validation: Validation,
        backups: Backups,
        alerts: Alerts,
        seal: Seal,
        sync_mirror: Callable[[str], object],
    ) -> None:
        self._repository = repository
        self._examiner = examiner
        self._validation = validation
        self._backups = backups
        self._alerts = alerts
        self._seal = seal
        self._sync_mirror = sync_mirror

    def plan(self, uid: str) -> Repair:
        """What is wrong and what a repair would do first; nothing is written."""
        found = self.examine(uid)
        result = Repair(uid, applied=False, before=list(found.damages), quarantined=found.account.quarantined)
        result.after = list(found.damages)
        if not found.chain_is_sound:
            _, actions, hopeless = self._entry_writes(found)
            result.actions = [*actions, *hopeless]
        else:
            _, result.actions = self._derived_writes(found)
            result.actions += _mirror_action(found.damages)
        if found.account.quarantined:
            result.actions.append("lift the quarantine, once nothing is wrong any more")
        return result

    def apply(self, uid: str, *, actor: str, reason: str) -> Repair:
        """Repairs what can be repaired. Raises Unavailable if others keep changing what is being repaired."""
        result = Repair(uid, applied=True)
        for _ in range(_ATTEMPTS):
            found = self.examine(uid)
            result.before = result.before or list(found.damages) or self._reported(found)
            if not found.damages and not found.account.quarantined:
                if result.before:
                    self._repository.close_report(uid, by=actor)
                    self._close(uid, actor)
                return result
            if not self._contain(found, result):
                continue
            done = self._step(found, result, actor, reason)
            if done is not None:
                return done
        raise Unavailable("The account keeps changing while it is repaired. Try again.")

    def examine(self, uid: str) -> Examination:
        """All of an account now, against everything that is known of it from elsewhere."""
        # What is known from elsewhere is read first: of an account that moves, it is never ahead then.
        anchors, state = self._backups.anchors(uid), self._validation.state(uid)
        account = self._repository.account(uid)
        return self._examiner.whole(account, anchors | self._validation.anchors(uid, state, account.read_at))

    def _reported(self, found: Examination) -> list[Damage]:
        """Why an account is quarantined in which nothing is wrong any more."""
        report = self._repository.report(found.account.uid) if found.account.quarantined else None
        return [Damage(**damage) for damage in (report or {}).get("damages", ())]

    def _contain(self, found: Examination, result: Repair) -> bool:
        """Nothing is appended while the ledger's own documents are repaired; False if the account has just changed."""
        account = found.account
        if account.quarantined or account.document is None:
            return True
        if all(damage.code == "MIRROR_MISMATCH" for damage in found.damages):
            return True
        if not self._repository.quarantine(account):
            return False
        self._repository.save_report(account.uid, found.damages, quarantined=True, found_at=account.read_at)
        fault_point("repair.quarantined")
        result.actions.append("quarantined the account")
        return False

    def _step(self, found: Examination, result: Repair, actor: str, reason: str) -> Repair | None:
        """One round on what was found; None if it has to be looked at again."""
        uid = found.account.uid
        if not found.chain_is_sound:
            writes, actions, hopeless = self._entry_writes(found)
            if hopeless or not writes:
                return self._given_up(found, result, [*actions, *hopeless])
            if self._repository.write(writes):
                result.actions += actions
            fault_point("repair.restored")
            return None
        writes, actions = self._derived_writes(found)
        if writes:
            if self._repository.write(writes):
                result.actions += actions
            fault_point("repair.derived")
            return None
        if any(damage.code == "MIRROR_MISMATCH" for damage in found.damages):
            self._sync_mirror(uid)
            result.actions += _mirror_action(found.damages)
            return None
        if found.damages:
            return self._given_up(found, result, ["what is left cannot be repaired"])
        return self._lift(found, result, actor, reason)

    def _lift(self, found: Examination, result: Repair, actor: str, reason: str) -> Repair | None:
        uid = found.account.uid
        fault_point("repair.before_lift")
        self._validation.start_again(uid, found)
        actions = [*result.actions, "lifted the quarantine"]
        lifted = self._repository.finish_repair(
            found.account, actor=actor, reason=reason, before=result.before, actions=actions
        )
        if not lifted:
            return None
        fault_point("repair.lifted")
        result.actions = actions
        self._close(uid, actor)
        log("WARNING", "integrity.repaired", uid=uid, actor=actor, actions=len(actions))
        return result

    def _close(self, uid: str, actor: str) -> None:
        self._alerts.resolve(uid, by=actor)

    def _given_up(self, found: Examination, result: Repair, why: Sequence[str]) -> Repair:
        result.actions += why
        result.after = list(found.damages)
        result.quarantined = found.account.quarantined
        log("ERROR", "integrity.not_repaired", uid=found.account.uid, damages=len(result.after))
        return result

    # Entries.

    def _entry_writes(self, found: Examination) -> tuple[list[Write], list[str], list[str]]:
        """What has to be written so that the entries are a chain again: the writes, what they do, and what cannot be
        done."""
        uid, at = found.account.uid, found.account.read_at
        strays: list[str] = []
        stored = {entry.place: entry for entry in self._repository.entries(uid, at=at, strays=strays)}
        anchors = self._backups.anchors(uid) | self._validation.anchors(uid, self._validation.state(uid), at)
        end = max([found.account.seq, *anchors, *self._genuine(uid, stored)])
        chosen, hopeless = self._walk(uid, stored, end, anchors)
        writes: list[Write] = []
        actions: list[str] = []
        wrong = [seq for seq in sorted({*stored, *chosen}) if chosen.get(seq) != stored.get(seq)]
        snapshots = self._snapshots(uid, wrong, at)
        for seq in wrong:
            entry = chosen.get(seq)
            if entry is not None:
                writes.append((snapshots[seq], entry_to_document(entry)))
                actions.append(f"entry {seq} restored from the backup")
            elif seq > end:
                writes.append((snapshots[seq], None))
                actions.append(f"removed document {seq}, which is no entry of this account")
        for name in strays:
            snapshot = self._repository.stray(uid, name)
            writes.append((snapshot, None))
            actions.append(f"removed document {name!r}, which is no entry")
        return ([] if hopeless else writes), actions, hopeless

    def _genuine(self, uid: str, stored: Mapping[int, StoredEntry]) -> list[int]:
        """The numbers of stored entries that are ours, by their own seals and links; forged ones behind the end must
        not move it."""
        found = []
        for seq, entry in stored.items():
            before = stored.get(seq - 1)
            previous = before.hash if before is not None else GENESIS_HASH
            if self._seal.holds(entry, uid, seq, previous):
                found.append(seq)
        return found

    def _walk(
        self, uid: str, stored: Mapping[int, StoredEntry], end: int, anchors: Mapping[int, str]
    ) -> tuple[dict[int, StoredEntry], list[str]]:
        """For each number the entry that belongs there: the stored one if it is genuine, else the backup's."""
        doubtful = self._doubtful(uid, stored, end, anchors)
        saved = self._backups.candidates(uid, doubtful) if doubtful else {}
        chosen: dict[int, StoredEntry] = {}
        previous = GENESIS_HASH
        for seq in range(1, end + 1):
            candidates = [*([stored[seq]] if seq in stored else []), *saved.get(seq, [])]
            genuine = [entry for entry in candidates if self._seal.holds(entry, uid, seq, previous)]
            if seq in anchors:
                genuine = [entry for entry in genuine if entry.hash == anchors[seq]]
            different = {entry.hash for entry in genuine}
            if len(different) != 1:
                kind = "no backup holds its genuine bytes" if not different else "there are several genuine ones"
                return chosen, [f"entry {seq} cannot be restored: {kind}"]
            chosen[seq] = genuine[0]
            previous = genuine[0].hash
        return chosen, []

    def _doubtful(self, uid: str, stored: Mapping[int, StoredEntry], end: int, anchors: Mapping[int, str]) -> list[int]:
        """The numbers whose stored entries are not genuine, or not linked on either side, or gone."""
        doubtful = set()
        previous = GENESIS_HASH
        for seq in range(1, end + 1):
            entry = stored.get(seq)
            if entry is None or entry.hash != anchors.get(seq, entry.hash):
                doubtful.add(seq)
            elif not self._seal.holds(entry, uid, seq, previous):
                doubtful |= {seq - 1, seq} if seq > 1 else {seq}
            previous = entry.hash if entry is not None else ""
        return sorted(doubtful)

    def _snapshots(self, uid: str, places: Sequence[int], at: datetime) -> dict[int, Any]:
        return self._repository.entry_snapshots(uid, places, at, missing=True)

    # Derived state.

    def _derived_writes(self, found: Examination) -> tuple[list[Write], list[str]]:
        """What the head, the holds and the operations' records have to be."""
        uid = found.account.uid
        writes: list[Write] = []
        actions: list[str] = []
        codes = {damage.code for damage in found.damages}
        if codes & {"HEAD_MISSING", "HEAD_MISMATCH"}:
            document = account_to_document(uid, found.progress.head) | {"quarantined": True}
            writes.append((found.account.snapshot, document))
            actions.append(f"head rebuilt from {found.progress.head.seq} entries")
        if codes & {"HOLD_MISSING", "HOLD_MISMATCH", "HOLD_UNKNOWN", "OP_MISSING", "OP_MISMATCH", "OP_UNKNOWN"}:
            self._hold_writes(found, writes, actions)
            self._operation_writes(found, writes, actions)
        return writes, actions

    def _hold_writes(self, found: Examination, writes: list[Write], actions: list[str]) -> None:
        uid, truths = found.account.uid, found.derivation.holds
        snapshots = found.hold_snapshots
        missing, _ = self._repository.records(uid, truths.keys() - snapshots.keys(), (), found.account.read_at)
        for hold_id, truth in truths.items():
            snapshot = snapshots.get(hold_id) or missing[hold_id]
            document = snapshot.to_dict()
            if compare_hold(uid, hold_id, document, truth):
                writes.append((snapshot, _hold_document(document, truth)))
                actions.append(f"hold {hold_id} rebuilt from entry {truth.entry_seq}")
        for hold_id in snapshots.keys() - truths.keys():
            if unknown_hold(uid, hold_id, snapshots[hold_id].to_dict()):
                writes.append((snapshots[hold_id], None))
                actions.append(f"removed hold {hold_id}, which has no entry")

    def _operation_writes(self, found: Examination, writes: list[Write], actions: list[str]) -> None:
        uid, truths = found.account.uid, found.derivation.operations
        snapshots = found.operation_snapshots
        _, missing = self._repository.records(uid, (), truths.keys() - snapshots.keys(), found.account.read_at)
        for op_id, truth in truths.items():
            snapshot = snapshots.get(op_id) or missing[op_id]
            document = snapshot.to_dict()
            if compare_operation(uid, op_id, document, truth):
                writes.append((snapshot, _operation_document(document, truth)))
                actions.append(f"operation {op_id} rebuilt from entry {truth.seq}")
        for op_id in snapshots.keys() - truths.keys():
            if unknown_operation(uid, op_id, snapshots[op_id].to_dict()):
                writes.append((snapshots[op_id], None))
                actions.append(f"removed operation {op_id}, which has no entry")


def _hold_document(document: Mapping[str, Any] | None, truth: HoldTruth) -> dict[str, Any]:
    """What the entries say of a hold, over what else its document says. Of a lost one the request is not known: any
    repetition of it is a conflict; and its time is up, so that the sweeper frees what is left of it."""
    placed_at = datetime.fromisoformat(truth.placed_at)
    lost = {
        "requestHash": _FORGOTTEN,
        "runId": "",
        "placedAt": placed_at,
        "expiresAt": placed_at,
        "note": None,
        "fence": 0,
        "formerRuns": [],
        "work": None,
    }
    return {**(document or lost), **truth.fields}


def _operation_document(document: Mapping[str, Any] | None, truth: OperationTruth) -> dict[str, Any]:
    """What the entries say of an operation, over what else its record says."""
    request_hash = _FORGOTTEN
    if truth.memo_hash is None and (truth.kind in CREDIT_KINDS or truth.kind == "clawback"):
        # As service.py makes it; without a memo the entry tells all of the request.
        request_hash = fingerprint({"kind": truth.kind, "amount": truth.amount, "counter": truth.counter, "memo": None})
    kept = {key: value for key, value in (document or {"requestHash": request_hash}).items() if key != "refusal"}
    return {**kept, "seq": truth.seq, "hash": truth.hash, "amount": truth.amount}


def _mirror_action(damages: Sequence[Damage]) -> list[str]:
    wrong = any(damage.code == "MIRROR_MISMATCH" for damage in damages)
    return ["shown balance written from the head"] if wrong else []
