"""An account with a bit of everything, and the ways in which somebody with the database's credentials may damage it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support.backend import Backend

from concierge.kit.canonical import canonical_bytes
from concierge.ledger.entries import entry_hash
from concierge.ledger.signatures import Keyring
from concierge.ledger.transfers import GENESIS_HASH

ENTRIES = 9
STRANGER = Keyring(Ed25519PrivateKey.from_private_bytes(b"\x63" * 32), [])
"""Somebody else's key: sealed properly, and not by us."""

Change = Callable[["Victim"], object]


@dataclass
class Victim:
    """The account, and its documents behind the app's back.

    1 grant · 2 hold r1 · 3 capture r1 · 4 hold r2 · 5 release r2 · 6 hold r3, which stays open · 7 purchase · 8 hold r4
    · 9 capture r4
    """

    backend: Backend
    uid: str = field(default_factory=lambda: uuid4().hex)

    def __post_init__(self) -> None:
        ledger = self.backend.ledger()
        ledger.credit(self.uid, op_id="bonus", kind="grant", amount=1_000_000, counter="expense:bonus")
        for hold_id, captured in (("r1", 1_234), ("r2", 0), ("r3", None)):
            self.hold(hold_id)
            if captured:
                ledger.capture(self.uid, hold_id, captured, counter="revenue:chat")
            elif captured == 0:
                ledger.release(self.uid, hold_id)
        ledger.credit(self.uid, op_id="bought", kind="purchase", amount=50, counter="liability:test")
        self.hold("r4")
        ledger.capture(self.uid, "r4", 77, counter="revenue:chat")

    def hold(self, hold_id: str) -> None:
        self.backend.ledger().place_hold(self.uid, hold_id, request_hash="h", run_id="run", amount=5_000, minimum=5_000)

    @property
    def head(self) -> Any:
        return self.backend.firestore.document(f"accounts/{self.uid}")

    def entry(self, seq: int) -> Any:
        return self.head.collection("entries").document(f"{seq:012d}")

    def hold_document(self, hold_id: str) -> Any:
        return self.head.collection("holds").document(hold_id)

    def operation(self, op_id: str) -> Any:
        return self.head.collection("ops").document(op_id)

    def stored(self, seq: int) -> dict[str, Any]:
        found: dict[str, Any] = self.entry(seq).get().to_dict()
        return found

    def documents(self) -> dict[str, Any]:
        """Everything of the account, by path."""
        found = {self.head.path: self.head.get().to_dict()}
        for collection in ("entries", "holds", "ops"):
            for snapshot in self.head.collection(collection).stream():
                found[snapshot.reference.path] = snapshot.to_dict()
        return found

    # Damage.

    def flip(self, seq: int, name: str, position: int, bit: int = 0) -> None:
        """One bit of one field of an entry; of a text, one character becomes another one."""
        raw = self.stored(seq)[name]
        if isinstance(raw, bytes):
            changed: Any = bytearray(raw)
            changed[position % len(raw)] ^= 1 << bit
            changed = bytes(changed)
        else:
            position %= len(raw)
            other = "0123456789abcdef"[(int(raw[position], 16) + 1 + bit) % 16]
            changed = raw[:position] + other + raw[position + 1 :]
        assert changed != raw
        self.entry(seq).update({name: changed})

    def swap(self, one: int, other: int) -> None:
        first, second = self.stored(one), self.stored(other)
        self.entry(one).set(second)
        self.entry(other).set(first)

    def forge(self, seq: int, keyring: Keyring = STRANGER, key_id: str | None = None, **fields: Any) -> None:
        """Another entry under this number, sealed anew with a key."""
        self.entry(seq).set(self.sealed({**json.loads(self.stored(seq)["content"]), **fields}, keyring, key_id))

    @staticmethod
    def sealed(fields: dict[str, Any], keyring: Keyring = STRANGER, key_id: str | None = None) -> dict[str, Any]:
        content = canonical_bytes(fields)
        digest = entry_hash(content)
        own_id, signature = keyring.sign(digest)
        return {"content": content, "hash": digest, "keyId": key_id or own_id, "signature": signature}

    def insert(self, seq: int) -> None:
        """A forged entry at this place; those behind it move on, and so does the head."""
        last = self.head.get().get("seq")
        fields = json.loads(self.stored(min(seq, last))["content"])
        for place in range(last, seq - 1, -1):
            self.entry(place + 1).set(self.stored(place))
        self.entry(seq).set(self.sealed({**fields, "seq": seq, "opId": "forged"}))
        if seq <= last:
            self.head.update({"seq": last + 1})

    def forge_chain(self) -> None:
        """All entries sealed anew, richer, in a chain that is right in itself, with the head behind it."""
        previous, last = GENESIS_HASH, self.head.get().get("seq")
        extra = 9_000_000
        for seq in range(1, last + 1):
            fields = json.loads(self.stored(seq)["content"])
            fields |= {"prev": previous, "postedAfter": fields["postedAfter"] + extra}
            if seq == 1:
                fields["amount"] += extra
            self.entry(seq).set(self.sealed(fields))
            previous = self.stored(seq)["hash"]
        self.head.update({"headHash": previous, "posted": self.head.get().get("posted") + extra})

    def truncate(self, last: int, *, put_head_back: bool = False, forget: bool = False) -> None:
        """All entries behind `last` are gone; with the head as it was then, and without what else knows of them."""
        now = self.head.get().get("seq")
        for seq in range(last + 1, now + 1):
            self.entry(seq).delete()
        if put_head_back:
            # As after entry 7: the purchase was the last one, and r4 did not exist.
            assert last == 7
            head = self.head.get().to_dict()
            counters = {**head["counters"], "revenue:chat": head["counters"]["revenue:chat"] - 77}
            self.head.update(
                {
                    "seq": last,
                    "headHash": self.stored(last)["hash"],
                    "posted": head["posted"] + 77,
                    "counters": counters,
                }
            )
            self.hold_document("r4").delete()
        if forget:
            self.backend.firestore.document(f"validations/{self.uid}").delete()
