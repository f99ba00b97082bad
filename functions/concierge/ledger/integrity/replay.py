"""Replay: what the entries of an account imply for its head, its holds, its operations and its shown balance. Pure.

Everything but the entries is derived from them. A difference is a Damage, which names the account, the entry and the
kind:

    HEAD_MISSING    there are entries, and no head
    HEAD_MISMATCH   the head is not what the entries add up to
    HOLD_MISSING    an entry's hold has no document
    HOLD_MISMATCH   a hold's document says something else than its entries
    HOLD_UNKNOWN    a document of a hold for which there is no entry
    OP_MISSING      an entry's operation has no record: it could be done a second time
    OP_MISMATCH     the record of an operation says something else than its entry
    OP_UNKNOWN      a record of an operation for which there is no entry
    STRAY_DOCUMENT  stored among the entries, under a name that no entry has
    MIRROR_MISMATCH the balance that clients see contradicts the ledger

and, from verification.py, all that can be wrong with the entries themselves.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from concierge.ledger.entries import StoredEntry
from concierge.ledger.repository import HoldState, bucket_of
from concierge.ledger.transfers import COUNTER_OPENING, GENESIS_HASH, RESOLUTION_KINDS, Head
from concierge.ledger.verification import ChainState, Finding

_STATES: Mapping[str, HoldState] = {"capture": "captured", "release": "released", "expire": "expired"}
_ABSENT = "nothing"
# How far the clock of an instance may be ahead of the server's: entries have the one, heads the other.
_CLOCK_SKEW = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Damage:
    """One difference. `subject` is the hold or operation that it is about, empty for entries and heads."""

    uid: str
    seq: int
    code: str
    message: str
    subject: str = ""

    @classmethod
    def of(cls, uid: str, finding: Finding) -> "Damage":
        return cls(uid, finding.seq, finding.code, finding.message)


@dataclass(frozen=True, slots=True)
class OpenHold:
    """A hold that is not resolved yet, with the number, hash and time of its entry."""

    amount: int
    seq: int
    hash: str
    at: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an account has been replayed: the head there, the holds that are open there, and a running digest of the
    entries' key ids and signatures, which their hashes do not cover."""

    head: Head = field(default_factory=Head)
    holds: Mapping[str, OpenHold] = field(default_factory=dict)
    seals: str = GENESIS_HASH

    @property
    def chain(self) -> ChainState:
        return ChainState(self.head, {hold_id: hold.amount for hold_id, hold in self.holds.items()})


@dataclass(frozen=True, slots=True)
class HoldTruth:
    """What the entries say of one hold."""

    state: HoldState
    amount: int
    captured: int
    placed_seq: int
    placed_at: str
    entry_seq: int
    entry_hash: str
    resolved_by: str | None

    @property
    def fields(self) -> dict[str, Any]:
        """Those of its document that follow from entries."""
        return {
            "state": self.state,
            "amount": self.amount,
            "captured": self.captured,
            "entrySeq": self.entry_seq,
            "entryHash": self.entry_hash,
            "resolvedBy": self.resolved_by,
            "refusal": None,
            "placedSeq": self.placed_seq,
        }


@dataclass(frozen=True, slots=True)
class OperationTruth:
    """What the entries say of one posting."""

    seq: int
    hash: str
    kind: str
    amount: int
    counter: str
    memo_hash: str | None


class Derivation:
    """Collects, entry by entry, what the entries imply; those that cannot be read imply nothing. Whether they are
    genuine is for the verification to say."""

    def __init__(self, start: Progress | None = None) -> None:
        start = start or Progress()
        self.open: dict[str, OpenHold] = dict(start.holds)
        self._seals = bytes.fromhex(start.seals)
        self.holds: dict[str, HoldTruth] = {}
        self.operations: dict[str, OperationTruth] = {}
        self.newest: dict[str, Any] = {}

    def through(self, entries: Iterable[StoredEntry]) -> Iterator[StoredEntry]:
        """The same entries, collected on their way."""
        for entry in entries:
            self.take(entry)
            yield entry

    @property
    def seals(self) -> str:
        return self._seals.hex()

    def take(self, entry: StoredEntry) -> None:
        seal = entry.key_id.encode(errors="surrogatepass") + b"\x00" + entry.signature
        self._seals = hashlib.sha256(self._seals + seal).digest()
        try:
            fields = entry.fields()
            kind, amount, op_id, at = fields["kind"], fields["amount"], fields["opId"], fields["at"]
            hold_id = fields.get("holdId")
        except (ValueError, KeyError, RecursionError):
            return
        self.newest = fields
        if kind == "hold" and isinstance(hold_id, str):
            self.open[hold_id] = OpenHold(amount, entry.place, entry.hash, at)
            self.holds[hold_id] = HoldTruth("held", amount, 0, entry.place, at, entry.place, entry.hash, None)
        elif kind in RESOLUTION_KINDS and isinstance(hold_id, str):
            opened = self.open.pop(hold_id, None) or OpenHold(0, 0, "", at)
            captured = amount if kind == "capture" else 0
            self.holds[hold_id] = HoldTruth(
                _STATES[kind], opened.amount, captured, opened.seq, opened.at, entry.place, entry.hash, op_id
            )
        elif isinstance(op_id, str):
            self.operations[op_id] = OperationTruth(
                entry.place, entry.hash, kind, amount, fields["counter"], fields.get("memoHash")
            )


def compare_head(
    uid: str, document: Mapping[str, Any] | None, truth: Head, *, newest: Mapping[str, Any], read_at: datetime
) -> list[Damage]:
    """Every field of the head, but quarantine, which does not follow from the entries. `newest` are the fields of the
    last entry, if there are new ones."""
    if document is None:
        message = f"entries up to {truth.seq} have no head"
        return [Damage(uid, truth.seq, "HEAD_MISSING", message)] if truth.seq else []
    wanted: dict[str, Any] = {
        "seq": truth.seq,
        "headHash": truth.hash,
        "posted": truth.posted,
        "held": truth.held,
        "debt": truth.debt,
        "frozen": truth.frozen,
        "epoch": truth.epoch,
        "counters": dict(truth.counters),
        "bucket": bucket_of(uid),
    }
    counters = document.get("counters")
    if isinstance(counters, dict) and COUNTER_OPENING in counters and COUNTER_OPENING not in truth.counters:
        # Older than the counters are: they began with what the account owned then.
        balanced = sum(amount for amount in counters.values() if isinstance(amount, int)) + truth.posted == 0
        wanted["counters"] = counters if balanced else wanted["counters"]
    different = _differences(document, wanted)
    if not _is_plausible(document.get("changedAt"), newest, read_at):
        different.append("changedAt is not a time at which the last entry can have been made")
    if type(document.get("quarantined", False)) is not bool:
        different.append(f"quarantined is {document['quarantined']!r}")
    seq = document.get("seq")
    place = seq if type(seq) is int and seq > truth.seq else truth.seq
    return [Damage(uid, place, "HEAD_MISMATCH", "; ".join(different))] if different else []


def compare_hold(uid: str, hold_id: str, document: Mapping[str, Any] | None, truth: HoldTruth) -> list[Damage]:
    """What of a hold's document follows from entries. Its times, its run and its note do not."""
    if document is None:
        return [Damage(uid, truth.entry_seq, "HOLD_MISSING", f"hold {hold_id} has no document", hold_id)]
    wanted = truth.fields
    if "placedSeq" not in document:
        # Written before holds knew it.
        del wanted["placedSeq"]
    different = _differences(document, wanted)
    message = f"hold {hold_id}: {'; '.join(different)}"
    return [Damage(uid, truth.entry_seq, "HOLD_MISMATCH", message, hold_id)] if different else []


def compare_operation(uid: str, op_id: str, document: Mapping[str, Any] | None, truth: OperationTruth) -> list[Damage]:
    if document is None:
        return [Damage(uid, truth.seq, "OP_MISSING", f"operation {op_id} has no record", op_id)]
    wanted = {"seq": truth.seq, "hash": truth.hash, "amount": truth.amount, "refusal": None}
    different = _differences({"refusal": None, **document}, wanted)
    message = f"operation {op_id}: {'; '.join(different)}"
    return [Damage(uid, truth.seq, "OP_MISMATCH", message, op_id)] if different else []


def unknown_hold(uid: str, hold_id: str, document: Mapping[str, Any]) -> list[Damage]:
    """A hold's document without any entry: only a refused one has none."""
    if document.get("state") == "refused" and document.get("entrySeq") == 0:
        return []
    message = f"hold {hold_id} is {document.get('state')!r}, and has no entry"
    return [Damage(uid, _number(document.get("entrySeq")), "HOLD_UNKNOWN", message, hold_id)]


def unknown_operation(uid: str, op_id: str, document: Mapping[str, Any]) -> list[Damage]:
    """An operation's record without any entry: only a refused one has none."""
    if document.get("refusal") is not None and document.get("seq") == 0:
        return []
    message = f"operation {op_id} says that it was done, and has no entry"
    return [Damage(uid, _number(document.get("seq")), "OP_UNKNOWN", message, op_id)]


def compare_mirror(uid: str, shown: Any, truth: Head) -> list[Damage]:
    """A balance that is shown, with the head that it must not contradict; an older one is only late."""
    if shown is None:
        return []
    seq = shown.get("seq") if isinstance(shown, dict) else None
    if type(seq) is int and 0 <= seq < truth.seq:
        return []
    wanted = {"seq": truth.seq, "posted": truth.posted, "held": truth.held, "available": truth.available}
    different = _differences(shown, wanted) if isinstance(shown, dict) else ["it is no balance"]
    return [Damage(uid, truth.seq, "MIRROR_MISMATCH", "; ".join(different))] if different else []


def _differences(document: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    different = []
    for name, expected in wanted.items():
        found = document.get(name, _ABSENT)
        # True is not 1: what the database holds has types.
        if found != expected or type(found) is not type(expected):
            different.append(f"{name} is {found!r}, the entries say {expected!r}")
    return different


def _is_plausible(changed_at: Any, newest: Mapping[str, Any], read_at: datetime) -> bool:
    """Whether consumers of the change feed can have met the last entry at this time."""
    if not isinstance(changed_at, datetime) or changed_at > read_at:
        return False
    try:
        made_at = datetime.fromisoformat(newest["at"])
    except (KeyError, ValueError, TypeError):
        return True
    return changed_at >= made_at - _CLOCK_SKEW


def _number(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0
