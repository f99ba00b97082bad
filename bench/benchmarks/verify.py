"""Verification of an account over the cryptography alone.

Measured over one account's entries in memory, holds and captures in turns: chain_is_unchanged, which checks by the
hashes that a chain is still what was verified before; and verify_chain, which checks everything. Floor: hashlib's
SHA-256 of the same bytes, and with signatures also cryptography's Ed25519 verification of the same digests. Both once
over the whole chain, in turns. Budget: at least 0.5 times the floor's rate.
"""

import base64
import hashlib
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.environment import Bench
from bench.rows import Budget, Row
from bench.series import interleaved, timed
from concierge.ledger import transfers
from concierge.ledger.entries import HASH_DOMAIN, StoredEntry, entry_content, entry_hash
from concierge.ledger.signatures import Keyring
from concierge.ledger.transfers import Head, Movement
from concierge.ledger.verification import chain_is_unchanged, verify_chain

NAME = "verify"
LEDGER, UID = "demo-concierge", "x" * 28
_SEED = bytes(range(32))
KEYRING = Keyring.from_text(base64.b64encode(_SEED).decode(), [])


def measure(bench: Bench) -> list[Row]:
    entries, _ = chain(bench.rounds(50_000, 300))
    some = entries[: bench.rounds(2000, 300)]
    public_key = Ed25519PrivateKey.from_private_bytes(_SEED).public_key()
    contents = [entry.content for entry in entries]

    def hashes() -> None:
        for content in contents:
            hashlib.sha256(HASH_DOMAIN + content).hexdigest()

    def unchanged() -> None:
        assert chain_is_unchanged(entries, last_hash=entries[-1].hash) == len(entries)

    def hashes_and_signatures() -> None:
        for entry in some:
            public_key.verify(entry.signature, hashlib.sha256(HASH_DOMAIN + entry.content).digest())

    def verified() -> None:
        verification = verify_chain(some, ledger_id=LEDGER, uid=UID, keyring=KEYRING, head=None)
        assert verification.verified, verification.findings[:3]

    return [
        _row(bench, "signatures", "verify with signatures, rate", len(some), verified, hashes_and_signatures),
        _row(bench, "hashes", "verify hashes only, rate", len(entries), unchanged, hashes),
    ]


def _row(
    bench: Bench, name: str, title: str, entries: int, measured: Callable[[], None], floor: Callable[[], None]
) -> Row:
    pairs = interleaved(
        lambda: timed(measured) * 1000 / entries,
        lambda: timed(floor) * 1000 / entries,
        rounds=bench.rounds(15, 5),
        seconds_max=bench.seconds_max / 2,
    )
    return Row(
        name=f"{NAME}_{name}",
        title=title,
        unit="us/entry",
        measured=pairs.measured,
        floor=pairs.floor,
        floor_title="hashlib" if name == "hashes" else "hashlib and cryptography",
        figure=pairs.inverse_ratios.median,
        figure_unit="x",
        budget=Budget(0.5, "at least"),
        notes=(f"  a chain of {entries:,} entries",),
        details={"entries": entries, "pairwise": pairs.inverse_ratios.as_json()},
    )


def chain(pairs: int) -> tuple[list[StoredEntry], Head]:
    """A sound account: a grant, then this many holds with their captures."""
    entries: list[StoredEntry] = []
    head = Head()

    def append(movement: Movement | transfers.Refusal, op_id: str, hold_id: str | None = None) -> None:
        nonlocal head
        assert isinstance(movement, Movement)
        content = entry_content(
            ledger_id=LEDGER,
            uid=UID,
            head=head,
            movement=movement,
            op_id=op_id,
            at="2026-01-01T00:00:00.000Z",
            hold_id=hold_id,
        )
        digest = entry_hash(content)
        entries.append(StoredEntry(content, digest, *KEYRING.sign(digest)))
        head = transfers.advance(head, movement, digest)

    append(transfers.credit(head, "grant", 1_000_000_000_000, "expense:bonus"), "welcome-bonus")
    for number in range(pairs):
        hold_id = f"{number:032x}"
        append(transfers.hold(head, 42_760, 2_000), f"hold:{hold_id}", hold_id)
        append(transfers.resolve(head, "capture", 42_760, 4_410, "revenue:chat"), f"settle:{hold_id}", hold_id)
    return entries, head
