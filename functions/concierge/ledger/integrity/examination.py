"""One account, read as of one moment and verified: from where it was verified before, a page of it, or all of it.

Everything is read as of the moment of the account's own document, so an account that is being appended to is never seen
half way, and what differs is different in the database.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from concierge.ledger.entries import StoredEntry
from concierge.ledger.integrity.replay import (
    Damage,
    Derivation,
    HoldTruth,
    OpenHold,
    Progress,
    compare_head,
    compare_hold,
    compare_mirror,
    compare_operation,
    unknown_hold,
    unknown_operation,
)
from concierge.ledger.integrity.repository import AccountDocument, IntegrityRepository
from concierge.ledger.signatures import Keyring
from concierge.ledger.transfers import Head
from concierge.ledger.verification import Verification, chain_is_unchanged, verify_chain

Anchors = Mapping[int, str]
"""Hashes of entries by their numbers, known from elsewhere: a checkpoint, a backup, an earlier verification."""
Shown = Callable[[str], Any]
"""The balance that clients see of an account, as it is in the database."""


@dataclass(slots=True)
class Examination:
    """What was found. `entries` is how many were looked at; `progress` is how far the account verifies, if nothing is
    damaged; `derivation` is what the entries imply, as far as they were read; `complete` unless a limit stopped it."""

    account: AccountDocument
    progress: Progress = field(default_factory=Progress)
    derivation: Derivation = field(default_factory=Derivation)
    damages: list[Damage] = field(default_factory=list)
    entries: int = 0
    complete: bool = True
    read: list[StoredEntry] = field(default_factory=list)
    hold_snapshots: Mapping[str, Any] = field(default_factory=dict)
    operation_snapshots: Mapping[str, Any] = field(default_factory=dict)

    @property
    def chain_is_sound(self) -> bool:
        return all(damage.code in DERIVED_CODES for damage in self.damages)


DERIVED_CODES = frozenset(
    {
        "HEAD_MISSING",
        "HEAD_MISMATCH",
        "HOLD_MISSING",
        "HOLD_MISMATCH",
        "HOLD_UNKNOWN",
        "OP_MISSING",
        "OP_MISMATCH",
        "OP_UNKNOWN",
        "MIRROR_MISMATCH",
    }
)
"""Damage of what is derived: the entries themselves are sound."""


class Examiner:
    """Reads and verifies, and writes nothing."""

    def __init__(self, repository: IntegrityRepository, keyring: Keyring, ledger_id: str, shown: Shown) -> None:
        self._repository = repository
        self._keyring = keyring
        self._ledger_id = ledger_id
        self._shown = shown

    def page(
        self, account: AccountDocument, start: Progress, anchors: Anchors, limit: int, *, open_holds: bool = True
    ) -> Examination:
        """At most `limit` entries behind `start`, with the records of the operations and holds that they end. With the
        last of them comes what is to be compared with the whole: the head, and the holds that are left open; only
        those of this page, without `open_holds`, for who has compared the others before."""
        uid, at = account.uid, account.read_at
        strays: list[str] = []
        entries = list(self._repository.entries(uid, at=at, after=start.head.seq, limit=limit, strays=strays))
        complete = len(entries) + len(strays) < limit
        reached = entries[-1].place if entries else start.head.seq
        known = {seq: digest for seq, digest in anchors.items() if complete or seq <= reached}
        derivation = Derivation(start)
        verification = self._verify(uid, derivation.through(entries), start, known)
        found = Examination(
            account, _progress(verification, derivation), derivation, entries=len(entries), complete=complete
        )
        found.read = entries
        found.damages = _chain_damages(account, verification, strays)
        if found.damages:
            return found
        if not complete:
            ended = {hold_id: truth for hold_id, truth in derivation.holds.items() if truth.state != "held"}
            found.damages += self._record_damages(found, ended)
            return found
        found.damages += self._head_damages(account, found)
        before = _still_open(derivation) if open_holds else {}
        found.damages += self._record_damages(found, {**before, **derivation.holds})
        return found

    def whole(self, account: AccountDocument, anchors: Anchors) -> Examination:
        """Everything there is of an account: each entry with its signature, the head, every hold and every operation's
        record, and the balance that is shown. Reads as many documents as there are."""
        uid, at = account.uid, account.read_at
        strays: list[str] = []
        derivation = Derivation()
        entries = self._repository.entries(uid, at=at, strays=strays)
        verification = self._verify(uid, derivation.through(entries), Progress(), anchors)
        found = Examination(account, _progress(verification, derivation), derivation, entries=verification.entries)
        found.damages = _chain_damages(account, verification, strays)
        if not found.damages:
            found.damages += self._head_damages(account, found)
            found.damages += self._all_record_damages(found)
            found.damages += self.mirror_damages(account, found.progress.head)
        return found

    def unchanged(self, account: AccountDocument, verified: Progress) -> bool:
        """Whether an account that was verified up to its head is still what it was, and so is all that is derived from
        it in Firestore: by hashes alone, hence many times faster than `whole`."""
        derivation = Derivation()
        strays: list[str] = []
        entries = self._repository.entries(account.uid, at=account.read_at, strays=strays)
        count = chain_is_unchanged(derivation.through(entries), last_hash=verified.head.hash)
        if count != verified.head.seq or strays or derivation.seals != verified.seals:
            return False
        found = Examination(account, verified, derivation)
        return not (self._head_damages(account, found) or self._all_record_damages(found))

    def mirror_damages(self, account: AccountDocument, truth: Head) -> list[Damage]:
        """What the shown balance contradicts. It may be ahead of the moment, but not of the ledger."""
        shown = self._shown(account.uid)
        if not compare_mirror(account.uid, shown, truth):
            return []
        # Read again, the mirror first: what the ledger says afterwards is at least as new.
        shown = self._shown(account.uid)
        now = self._repository.account(account.uid).head
        return compare_mirror(account.uid, shown, now or truth)

    def carried(self, uid: str, head: Head, places: list[int], at: datetime) -> tuple[Progress, list[Damage]]:
        """The progress at `head`, whose open holds have their entries at `places`; they are read again, and checked."""
        entries = self._repository.entries_at(uid, places, at)
        holds: dict[str, OpenHold] = {}
        damages: list[Damage] = []
        for place in places:
            entry = entries.get(place)
            if entry is None:
                damages.append(Damage(uid, place, "MISSING_ENTRY", f"entry {place} is not there"))
                continue
            single = Derivation()
            single.take(entry)
            verified = self._verify(uid, [entry], Progress(Head(seq=place - 1)), {})
            seals = ("HASH_MISMATCH", "BAD_SIGNATURE", "UNKNOWN_KEY")
            damages += [Damage.of(uid, finding) for finding in verified.findings if finding.code in seals]
            holds.update(single.open)
        return Progress(head, holds), damages

    def _verify(
        self, uid: str, entries: Iterable[StoredEntry], start: Progress, anchors: Mapping[int, str]
    ) -> Verification:
        return verify_chain(
            entries,
            ledger_id=self._ledger_id,
            uid=uid,
            keyring=self._keyring,
            head=None,
            start=start.chain,
            anchors={seq: digest for seq, digest in anchors.items() if seq > start.head.seq},
        )

    def _head_damages(self, account: AccountDocument, found: Examination) -> list[Damage]:
        truth, newest = found.progress.head, found.derivation.newest
        if account.seq > truth.seq and (account.document or {}).get("headHash") != truth.hash:
            message = f"the head names entry {account.seq}, the chain ends at {truth.seq}"
            return [Damage(account.uid, truth.seq + 1, "TRUNCATED", message)]
        return compare_head(account.uid, account.document, truth, newest=newest, read_at=account.read_at)

    def _record_damages(self, found: Examination, holds: Mapping[str, HoldTruth]) -> list[Damage]:
        """The records of these holds and of all operations that were met."""
        uid, operations = found.account.uid, found.derivation.operations
        hold_snapshots, operation_snapshots = self._repository.records(uid, holds, operations, found.account.read_at)
        damages: list[Damage] = []
        for hold_id, truth in holds.items():
            damages += compare_hold(uid, hold_id, hold_snapshots[hold_id].to_dict(), truth)
        for op_id, done in operations.items():
            damages += compare_operation(uid, op_id, operation_snapshots[op_id].to_dict(), done)
        return damages

    def _all_record_damages(self, found: Examination) -> list[Damage]:
        uid, derivation = found.account.uid, found.derivation
        holds, operations = self._repository.all_records(uid, found.account.read_at)
        found.hold_snapshots, found.operation_snapshots = holds, operations
        damages: list[Damage] = []
        for hold_id, truth in derivation.holds.items():
            document = holds[hold_id].to_dict() if hold_id in holds else None
            damages += compare_hold(uid, hold_id, document, truth)
        for op_id, done in derivation.operations.items():
            document = operations[op_id].to_dict() if op_id in operations else None
            damages += compare_operation(uid, op_id, document, done)
        for hold_id in holds.keys() - derivation.holds.keys():
            damages += unknown_hold(uid, hold_id, holds[hold_id].to_dict())
        for op_id in operations.keys() - derivation.operations.keys():
            damages += unknown_operation(uid, op_id, operations[op_id].to_dict())
        return sorted(damages, key=lambda damage: damage.seq)


def _progress(verification: Verification, derivation: Derivation) -> Progress:
    # Quarantine is of the stored head, and not of what entries add up to.
    return Progress(replace(verification.head, quarantined=False), dict(derivation.open), derivation.seals)


def _chain_damages(account: AccountDocument, verification: Verification, strays: Iterable[str]) -> list[Damage]:
    damages = [Damage.of(account.uid, finding) for finding in verification.findings]
    end = verification.head.seq + 1
    return damages + [
        Damage(account.uid, end, "STRAY_DOCUMENT", f"{name!r} is stored among the entries", name) for name in strays
    ]


def _still_open(derivation: Derivation) -> dict[str, HoldTruth]:
    return {
        hold_id: HoldTruth("held", hold.amount, 0, hold.seq, hold.at, hold.seq, hold.hash, None)
        for hold_id, hold in derivation.open.items()
    }
