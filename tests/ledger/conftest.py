"""Chains built without any storage."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from concierge.ledger import transfers
from concierge.ledger.entries import StoredEntry, entry_content, entry_hash
from concierge.ledger.signatures import Keyring
from concierge.ledger.transfers import Head, Movement


def signing_key(seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


@dataclass
class Chain:
    """A chain under construction."""

    uid: str = "alice"
    ledger_id: str = "test-ledger"
    keyring: Keyring = field(default_factory=lambda: Keyring(signing_key(1), []))
    head: Head = field(default_factory=Head)
    entries: list[StoredEntry] = field(default_factory=list)

    def append(self, movement: Movement | Any, op_id: str, hold_id: str | None = None) -> "Chain":
        assert isinstance(movement, Movement)
        content = entry_content(
            ledger_id=self.ledger_id,
            uid=self.uid,
            head=self.head,
            movement=movement,
            op_id=op_id,
            hold_id=hold_id,
            at="2026-01-02T03:04:05.678Z",
        )
        digest = entry_hash(content)
        self.entries.append(StoredEntry(content, digest, *self.keyring.sign(digest)))
        self.head = transfers.advance(self.head, movement, digest)
        return self

    def usual(self) -> "Chain":
        """A grant, an answer that was paid, one that was released and one that expired."""
        self.append(transfers.credit(self.head, "grant", 1_000_000_000, "expense:bonus"), "welcome-bonus")
        for name, kind, captured in (("r1", "capture", 1_234), ("r2", "release", 0), ("r3", "expire", 0)):
            self.append(transfers.hold(self.head, 50_000, 1), f"hold:{name}", name)
            movement = transfers.resolve(self.head, kind, 50_000, captured, "revenue:chat" if captured else "held")  # type: ignore[arg-type]
            self.append(movement, f"settle:{name}", name)
        return self


@pytest.fixture
def chain() -> Chain:
    return Chain().usual()


@pytest.fixture
def new_chain() -> Callable[..., Chain]:
    return Chain


@pytest.fixture
def keyring_of() -> Callable[..., Keyring]:
    """A keyring that signs with the first seed and verifies with all."""

    def build(*seeds: int) -> Keyring:
        rest: Iterable[int] = seeds[1:]
        return Keyring(signing_key(seeds[0]), [signing_key(seed).public_key() for seed in rest])

    return build
