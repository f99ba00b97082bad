"""An account replayed from its stored entries by rules of its own, and compared with its head.

Written from the description of the ledger (docs/ARCHITECTURE.md), and sharing nothing with the code under test.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from chaos.documents import Documents
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

DOMAIN = b"concierge.ledger.entry.v1\x00"
_POSTED = {
    "grant": 1,
    "purchase": 1,
    "refund": 1,
    "adjust": 1,
    "transfer-in": 1,
    "capture": -1,
    "clawback": -1,
    "transfer-out": -1,
    "hold": 0,
    "release": 0,
    "expire": 0,
}
_FIELDS = {"v", "ledger", "uid", "seq", "prev", "kind", "amount", "postedAfter", "heldAfter", "opId", "counter", "at"}
_RESOLUTIONS = ("capture", "release", "expire")


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored entry, parsed."""

    seq: int
    kind: str
    amount: int
    counter: str
    op_id: str
    hold_id: str | None
    memo_hash: str | None
    at: datetime
    hash: str


@dataclass(frozen=True, slots=True)
class State:
    """An account after an entry. `holds` are the amounts of the open holds."""

    posted: int = 0
    held: int = 0
    frozen: bool = False
    holds: Mapping[str, int] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)

    @property
    def available(self) -> int:
        return self.posted - self.held


class Books:
    """`states[n]` is the account after entry n, `entries[n - 1]` that entry; `problems` says what is wrong."""

    def __init__(self, uid: str, documents: Documents, ledger_id: str, public_key: Ed25519PublicKey) -> None:
        self.uid = uid
        self.entries: list[Entry] = []
        self.states = [State()]
        self.problems: list[str] = []
        self._ledger_id, self._public_key = ledger_id, public_key
        prefix = f"accounts/{uid}/entries/"
        stored = sorted((path, document) for path, document in documents.items() if path.startswith(prefix))
        for place, (path, document) in enumerate(stored, start=1):
            if path != f"{prefix}{place:012d}":
                self._problem(place, f"{path} stands where entry {place} belongs")
                break
            entry = self._read(place, document)
            if entry is None:
                break
            self._follow(entry, json.loads(document["content"]))
        self._compare(documents.get(f"accounts/{uid}"))

    def by_operation(self, op_id: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.op_id == op_id]

    def by_hold(self, hold_id: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.hold_id == hold_id]

    def between(self, first: int, last: int | None) -> list[State]:
        """The states that somebody may have seen who looked between two entries."""
        return self.states[first:] if last is None else self.states[first : last + 1]

    def _problem(self, seq: int, message: str) -> None:
        self.problems.append(f"{self.uid} entry {seq}: {message}")

    def _read(self, place: int, document: Mapping[str, Any]) -> Entry | None:
        content, digest = document["content"], document["hash"]
        raw = json.loads(content)
        if hashlib.sha256(DOMAIN + content).hexdigest() != digest:
            self._problem(place, "the hash is not that of the bytes")
        try:
            self._public_key.verify(document["signature"], bytes.fromhex(digest))
        except InvalidSignature:
            self._problem(place, "the signature is not of the ledger's key")
        if json.dumps(raw, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() != content:
            self._problem(place, "the bytes are not canonical")
        if set(raw) - {"holdId", "memoHash"} != _FIELDS or raw["kind"] not in _POSTED:
            self._problem(place, f"the fields are {sorted(raw)} of kind {raw.get('kind')}")
            return None
        previous = self.entries[-1].hash if self.entries else "0" * 64
        said = (raw["v"], raw["ledger"], raw["uid"], raw["seq"], raw["prev"])
        if said != (1, self._ledger_id, self.uid, place, previous):
            self._problem(place, f"it says that it is {said}")
        return Entry(
            seq=place,
            kind=raw["kind"],
            amount=raw["amount"],
            counter=raw["counter"],
            op_id=raw["opId"],
            hold_id=raw.get("holdId"),
            memo_hash=raw.get("memoHash"),
            at=datetime.fromisoformat(raw["at"]),
            hash=digest,
        )

    def _follow(self, entry: Entry, raw: Mapping[str, Any]) -> None:
        before = self.states[-1]
        change = _POSTED[entry.kind] * entry.amount
        held, holds, frozen = before.held, dict(before.holds), before.frozen
        if entry.kind == "hold":
            self._check_hold(entry, before)
            held += entry.amount
            holds[str(entry.hold_id)] = entry.amount
        elif entry.kind in _RESOLUTIONS:
            amount = holds.pop(str(entry.hold_id), 0)
            if not amount:
                self._problem(entry.seq, f"a {entry.kind} of hold {entry.hold_id}, which is not open")
            elif entry.amount > amount or (entry.kind != "capture" and entry.amount != amount):
                self._problem(entry.seq, f"a {entry.kind} of {entry.amount} from a hold of {amount}")
            held -= amount
        elif entry.hold_id is not None:
            self._problem(entry.seq, f"a {entry.kind} names a hold")
        if entry.counter in ("control:freeze", "control:unfreeze"):
            frozen = entry.counter == "control:freeze"
            if frozen is before.frozen or entry.amount or entry.kind != "adjust":
                self._problem(entry.seq, "a freeze that changes nothing, or an amount")
        elif entry.amount == 0 or (entry.amount < 0 and entry.kind != "adjust"):
            self._problem(entry.seq, f"a {entry.kind} of {entry.amount}")
        if entry.kind == "transfer-out" and before.frozen:
            self._problem(entry.seq, "a frozen account sends credits")
        counters = dict(before.counters)
        if change:
            side = entry.counter.partition(":")[0] if entry.counter.startswith("account:") else entry.counter
            counters[side] = counters.get(side, 0) - change
        after = State(before.posted + change, held, frozen, holds, counters)
        if (raw["postedAfter"], raw["heldAfter"]) != (after.posted, after.held):
            self._problem(entry.seq, f"it leaves {raw['postedAfter']}/{raw['heldAfter']}, not {after}")
        if after.available < min(0, before.available) and entry.kind != "clawback":
            self._problem(entry.seq, f"a {entry.kind} overdraws the account to {after.available}")
        if after.held != sum(holds.values()) or after.held < 0:
            self._problem(entry.seq, f"held is {after.held}, the open holds are {holds}")
        if after.posted + sum(counters.values()):
            self._problem(entry.seq, "posted and the counters do not come to zero")
        self.entries.append(entry)
        self.states.append(after)

    def _check_hold(self, entry: Entry, before: State) -> None:
        if before.frozen:
            self._problem(entry.seq, "a frozen account takes a hold")
        if entry.amount > before.available:
            self._problem(entry.seq, f"a hold of {entry.amount} with {before.available} available")
        if any(other.hold_id == entry.hold_id for other in self.entries):
            self._problem(entry.seq, f"hold {entry.hold_id} is placed again")

    def _compare(self, head: Mapping[str, Any] | None) -> None:
        state, seq = self.states[-1], len(self.entries)
        if head is None:
            if self.entries:
                self._problem(seq, "there are entries without a head")
            return
        expected = {
            "seq": seq,
            "headHash": self.entries[-1].hash if self.entries else None,
            "posted": state.posted,
            "held": state.held,
            "debt": max(0, -state.posted),
            "frozen": state.frozen,
            "quarantined": False,
            "counters": dict(state.counters),
        }
        for name, value in expected.items():
            if head[name] != value:
                self._problem(seq, f"the head says {name} = {head[name]}, the entries {value}")
