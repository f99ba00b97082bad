"""tests/fixtures/receipts: documents with known outcomes, for whoever writes a verifier. `--check` fails if they are
out of date.

index.json names every vector: the file, its kind, the state that a verifier must come to with keys.json as the trusted
keys, and the check that fails. Everything follows from fixed keys; no vector depends on when or where it is made.
"""

import base64
import copy
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from concierge.kit.canonical import canonical_bytes
from concierge.ledger import transfers
from concierge.ledger.checkpoints import merkle
from concierge.ledger.checkpoints.leaves import Leaf
from concierge.ledger.checkpoints.notes import Checkpoint, Signer
from concierge.ledger.checkpoints.receipts import (
    CONSISTENCY_FORMAT,
    Inclusion,
    build_receipt,
    entry_to_json,
    origin_of,
)
from concierge.ledger.entries import StoredEntry, entry_content, entry_hash
from concierge.ledger.signatures import Keyring
from concierge.ledger.transfers import Head, Movement

TARGET = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "receipts"
# Both need care: a space and a slash in the origin of the checkpoints, letters beyond ASCII in the canonical JSON.
LEDGER = "example ledger/1"
UID = "zoë"
FORMED = "the receipt is well formed"
SIGNED = "the entry is signed by the ledger"
LEAF = "the leaf is the account as it was then"
NOTE = "the checkpoint is signed by the log"
TREE = "the leaf is in the tree of the checkpoint"

Files = dict[str, str]


def seed(number: int) -> bytes:
    return bytes([number]) * 32


def seed_text(number: int) -> str:
    return base64.b64encode(seed(number)).decode()


OLD_KEY, KEY, STRANGER = (Ed25519PrivateKey.from_private_bytes(seed(number)) for number in (1, 2, 9))
SIGNER = Signer(origin_of(LEDGER), seed_text(3))
# Trusted as well, and not for this ledger's checkpoints.
OTHER_SIGNER = Signer("another.log", seed_text(4))


class Account:
    """A chain of entries; the first two are signed with a key that was retired later."""

    def __init__(self, uid: str = UID, ledger: str = LEDGER) -> None:
        self.uid, self.ledger = uid, ledger
        self.head = Head()
        self.entries: list[StoredEntry] = []

    def append(self, movement: Any, op_id: str, hold_id: str | None = None) -> None:
        assert isinstance(movement, Movement), "the examples can be covered"
        content = entry_content(
            ledger_id=self.ledger,
            uid=self.uid,
            head=self.head,
            movement=movement,
            op_id=op_id,
            hold_id=hold_id,
            at=f"2026-01-02T03:{self.head.seq // 60:02d}:{self.head.seq % 60:02d}.000Z",
        )
        self.entries.append(sealed(content, OLD_KEY if self.head.seq < 2 else KEY))
        self.head = transfers.advance(self.head, movement, self.entries[-1].hash)

    def usual(self, answers: int) -> "Account":
        self.append(transfers.credit(self.head, "grant", 1_000_000_000, "expense:bonus"), "welcome-bonus")
        for number in range(answers):
            self.append(transfers.hold(self.head, 50_000, 1), f"hold:r{number}", f"r{number}")
            movement = transfers.resolve(self.head, "capture", 50_000, 1_234 + number, "revenue:chat")
            self.append(movement, f"settle:r{number}", f"r{number}")
        return self


def sealed(content: bytes, key: Ed25519PrivateKey) -> StoredEntry:
    digest = entry_hash(content)
    return StoredEntry(content, digest, *Keyring(key, []).sign(digest))


class Log:
    """A tree of these leaves, and its checkpoints."""

    def __init__(self, leaves: list[Leaf]) -> None:
        self.leaves = leaves

    def node(self, level: int, index: int) -> bytes:
        if level == 0:
            return self.leaves[index].digest
        return merkle.node_hash(self.node(level - 1, 2 * index), self.node(level - 1, 2 * index + 1))

    def checkpoint(self, size: int) -> Checkpoint:
        return Checkpoint(origin_of(LEDGER), size, merkle.tree_root(size, self.node))

    def note(self, size: int) -> str:
        return SIGNER.sign(self.checkpoint(size).text)

    def inclusion(self, index: int, size: int) -> Inclusion:
        return Inclusion(
            self.leaves[index], index, size, merkle.inclusion_proof(index, size, self.node), self.note(size)
        )

    def consistency(self, first: int, second: int) -> dict[str, Any]:
        return {
            "format": CONSISTENCY_FORMAT,
            "from": {"size": first, "note": self.note(first)},
            "to": {"size": second, "note": self.note(second)},
            "hashes": [digest.hex() for digest in merkle.consistency_proof(first, second, self.node)],
        }


def leaf_of(uid: str, entry: StoredEntry, seq: int) -> Leaf:
    return Leaf(LEDGER, uid, seq, entry.hash)


def build() -> Files:
    """The text of every file, by name."""
    account = Account().usual(30)
    other = Account("yann").usual(8)
    mine = {seq: leaf_of(UID, account.entries[seq - 1], seq) for seq in (1, 7, 61)}
    others = [leaf_of("yann", entry, seq) for seq, entry in enumerate(other.entries, 1)]
    # 4 leaves, then 7, then 11; the account is in it at 0, 5 and 9.
    leaves = [mine[1], *others[:4], mine[7], others[4], *others[5:7], mine[61], others[7]]
    log = Log(leaves)
    forked = Log([others[8], *leaves[1:]])
    vectors = _Vectors(account, other, log, forked)
    vectors.add_all()
    return vectors.files()


class _Vectors:
    def __init__(self, account: Account, other: Account, log: Log, forked: Log) -> None:
        self.account, self.other, self.log, self.forked = account, other, log, forked
        self.documents: dict[str, Any] = {}
        self.notes: Files = {}
        self.index: list[dict[str, Any]] = []

    def receipt(self, seq: int, leaf_seq: int, inclusion: Inclusion | None) -> dict[str, Any]:
        entries = self.account.entries
        keys = Keyring(KEY, [OLD_KEY.public_key()]).published()
        return build_receipt(LEDGER, entries[seq - 1], entries[seq:leaf_seq], inclusion, keys, [SIGNER.verifier.vkey])

    def add(self, name: str, kind: str, document: Any, state: str, failed: str | None = None, **more: str) -> None:
        file = f"{name}.json"
        if document is not None:
            self.documents[file] = document
        else:
            file = more.pop("file")
        self.index.append({"name": name, "file": file, "kind": kind, "state": state, "failed": failed, **more})

    def add_all(self) -> None:
        whole = self.receipt(3, 7, self.log.inclusion(5, 7))
        self.add("verified", "receipt", whole, "verified")
        self.add("verified-first-leaf", "receipt", self.receipt(1, 1, self.log.inclusion(0, 1)), "verified")
        self.add("verified-no-chain", "receipt", self.receipt(7, 7, self.log.inclusion(5, 11)), "verified")
        self.add("long-chain", "receipt", self.receipt(2, 61, self.log.inclusion(9, 11)), "verified")
        self.add("pending", "receipt", self.receipt(61, 61, None), "pending")
        for name, failed, change in self.damages():
            damaged = copy.deepcopy(whole)
            change(damaged)
            self.add(f"invalid-{name}", "receipt", damaged, "invalid", failed)
        self.add("invalid-not-an-object", "receipt", ["concierge.receipt.v1"], "invalid", FORMED)
        self.add_consistency()

    def add_consistency(self) -> None:
        def name(first: int, second: int) -> str:
            return f"the checkpoint of {second} leaves continues the one of {first}"

        older = "the older checkpoint is signed by the log"
        newer = "the newer checkpoint is signed by the log"
        for first, second in ((4, 7), (4, 11), (7, 11), (11, 11)):
            document = self.log.consistency(first, second)
            self.add(f"consistency-{first}-{second}", "consistency", document, "verified")
        forked = {**self.log.consistency(7, 11), "from": {"size": 7, "note": self.forked.note(7)}}
        self.add("consistency-forked", "consistency", forked, "invalid", name(7, 11))
        same = {**self.log.consistency(11, 11), "from": {"size": 11, "note": self.forked.note(11)}}
        self.add("consistency-forked-same-size", "consistency", same, "invalid", name(11, 11))
        good = self.log.consistency(7, 11)
        short = {**good, "hashes": good["hashes"][:-1]}
        self.add("consistency-short", "consistency", short, "invalid", name(7, 11))
        swapped = {**good, "from": good["to"], "to": good["from"]}
        self.add("consistency-backwards", "consistency", swapped, "invalid", name(11, 7))
        unsigned = {**good, "to": {"size": 11, "note": good["to"]["note"].replace("\n11\n", "\n12\n")}}
        self.add("consistency-signature", "consistency", unsigned, "invalid", newer)
        size = {**good, "from": {"size": 8, "note": good["from"]["note"]}}
        self.add("consistency-size", "consistency", size, "invalid", older)
        self.notes = {"checkpoint-4.txt": self.log.note(4), "checkpoint-forked-4.txt": self.forked.note(4)}
        for kind, state, failed in (("", "verified", None), ("-forked", "invalid", name(4, 7))):
            self.add(
                f"receipt-and-checkpoint{kind}",
                "receipt",
                None,
                state,
                failed,
                file="verified.json",
                checkpoint=f"checkpoint{kind}-4.txt",
                consistency="consistency-4-7.json",
            )

    def damages(self) -> Iterator[tuple[str, str, Callable[[dict[str, Any]], Any]]]:
        """(what is wrong, the check that fails, how it is done) to the verified receipt of entry 3 of 7."""
        yield "format", FORMED, lambda receipt: receipt.update(format="concierge.receipt.v2")
        yield "missing-field", FORMED, lambda receipt: receipt.pop("chain")
        yield "hash-in-capitals", FORMED, lambda receipt: receipt["entry"].update(hash=receipt["entry"]["hash"].upper())
        yield "base64", FORMED, lambda receipt: receipt["entry"].update(content="?" + receipt["entry"]["content"])
        yield "number-too-large", FORMED, lambda receipt: receipt["leaf"].update(index=2**53)
        yield "half-pending", FORMED, lambda receipt: receipt.update(checkpoint=None)
        yield "chain-to-nowhere", FORMED, lambda receipt: receipt.update(leaf=None, inclusion=None, checkpoint=None)
        yield from self.entry_damages()
        yield from self.chain_damages()
        yield "leaf-seq", LEAF, lambda receipt: receipt["leaf"].update(seq=6)
        yield "leaf-hash", LEAF, lambda receipt: receipt["leaf"].update(hash=self.account.entries[5].hash)
        yield "leaf-uid", LEAF, lambda receipt: receipt["leaf"].update(uid="yann")
        yield "truncated-chain", LEAF, lambda receipt: receipt["chain"].pop()
        yield from self.checkpoint_damages()
        yield "inclusion-index", TREE, lambda receipt: receipt["leaf"].update(index=4)
        yield "inclusion-index-outside", TREE, lambda receipt: receipt["leaf"].update(index=7)
        yield "inclusion-short", TREE, lambda receipt: receipt["inclusion"]["hashes"].pop()
        yield "inclusion-long", TREE, lambda receipt: receipt["inclusion"]["hashes"].append("0" * 64)
        yield "inclusion-hash", TREE, lambda receipt: receipt["inclusion"]["hashes"].__setitem__(0, "0" * 64)
        yield "inclusion-size", TREE, lambda receipt: receipt["inclusion"].update(treeSize=8)
        other = self.forked.inclusion(5, 7)
        yield "inclusion-of-a-fork", TREE, lambda receipt: receipt.update(checkpoint=other.note)

    def entry_damages(self) -> Iterator[tuple[str, str, Callable[[dict[str, Any]], Any]]]:
        third = self.account.entries[2]
        cheaper = third.content.replace(b'"amount":1234', b'"amount":1')
        yield "entry-bytes", SIGNED, self._entry(StoredEntry(cheaper, third.hash, third.key_id, third.signature))
        forged = StoredEntry(cheaper, entry_hash(cheaper), third.key_id, third.signature)
        yield "entry-forged", SIGNED, self._entry(forged)
        yield "entry-unknown-key", SIGNED, self._entry(sealed(cheaper, STRANGER))
        retired = Keyring(OLD_KEY, []).signing_key_id or ""
        yield "entry-other-key", SIGNED, lambda receipt: receipt["entry"].update(keyId=retired)
        foreign = Account(UID, "another ledger").usual(1).entries[2]
        yield "entry-of-another-ledger", SIGNED, self._entry(foreign)
        later = sealed(third.content.replace(b'"v":1', b'"v":2'), KEY)
        yield "entry-version", SIGNED, self._entry(later)
        yield "entry-not-json", SIGNED, self._entry(sealed(b"[]", KEY))
        for name, old, new in (
            ("seq", b'"seq":3', b'"seq":"3"'),
            ("uid", b'"uid":"zo\xc3\xab"', b'"uid":3'),
            ("prev", third.fields()["prev"].encode(), b"0"),
            ("ledger", b'"ledger":"example ledger/1",', b""),
        ):
            yield f"entry-{name}-type", SIGNED, self._entry(sealed(third.content.replace(old, new), KEY))

    def chain_damages(self) -> Iterator[tuple[str, str, Callable[[dict[str, Any]], Any]]]:
        four, three = "4 later entries follow it", "3 later entries follow it"
        yield "chain-gap", three, lambda receipt: receipt["chain"].pop(1)
        yield "chain-order", four, lambda receipt: receipt["chain"].reverse()
        yield "chain-bytes", four, lambda receipt: receipt["chain"][3].update(content=receipt["chain"][2]["content"])
        stranger = entry_to_json(self.other.entries[4])
        yield "chain-of-another-account", four, lambda receipt: receipt["chain"].__setitem__(1, stranger)
        fifth = self.account.entries[4]
        elsewhere = fifth.content.replace(self.account.entries[3].hash.encode(), b"f" * 64)
        link = entry_to_json(sealed(elsewhere, KEY))
        yield "chain-link", four, lambda receipt: receipt["chain"].__setitem__(1, link)

    def checkpoint_damages(self) -> Iterator[tuple[str, str, Callable[[dict[str, Any]], Any]]]:
        note = self.log.note(7)
        text = self.log.checkpoint(7).text
        notes = {
            "root": note.replace(text.split("\n")[2], base64.b64encode(bytes(32)).decode()),
            "unknown-key": Signer(origin_of(LEDGER), seed_text(9)).sign(text),
            "signed-by-another-log": OTHER_SIGNER.sign(text),
            "of-another-log": SIGNER.sign(Checkpoint("another.log", 7, self.log.checkpoint(7).root).text),
            "no-signature": text,
            "size-text": SIGNER.sign(text.replace("\n7\n", "\n07\n")),
            "control-character": note.replace("\n7\n", "\n7\r\n"),
            "signature-line": note.replace("— ", "- "),
        }
        for name, damaged in notes.items():
            yield f"checkpoint-{name}", NOTE, lambda receipt, damaged=damaged: receipt.update(checkpoint=damaged)

    def files(self) -> Files:
        published = Keyring(KEY, [OLD_KEY.public_key()]).published()
        keys = {
            "ledger": LEDGER,
            "keys": published,
            "checkpointKeys": [SIGNER.verifier.vkey, OTHER_SIGNER.verifier.vkey],
        }
        third, leaf = self.account.entries[2], self.log.leaves[5]
        steps = {
            "file": "verified.json",
            "origin": origin_of(LEDGER),
            "entryContent": third.content.decode(),
            "entryHash": third.hash,
            "leafPreimage": canonical_bytes(leaf.fields).decode(),
            "leafHash": leaf.digest.hex(),
            "root": self.log.checkpoint(7).root.hex(),
            "noteText": self.log.checkpoint(7).text,
            "noteKeyHash": SIGNER.verifier.key_hash.hex(),
        }
        documents = {**self.documents, "keys.json": keys, "index.json": {"steps": steps, "vectors": self.index}}
        shown = {
            name: json.dumps(document, ensure_ascii=False, indent=1) + "\n" for name, document in documents.items()
        }
        return {**shown, **self.notes}

    def _entry(self, entry: StoredEntry) -> Callable[[dict[str, Any]], Any]:
        return lambda receipt: receipt.update(entry=entry_to_json(entry))


def _shown(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def main() -> None:
    files = build()
    if "--check" in sys.argv[1:]:
        current = {path.name: path.read_text(encoding="utf-8") for path in TARGET.iterdir()}
        if current != files:
            sys.exit("tests/fixtures/receipts does not match: run python tools/receipt_vectors.py")
        print(f"{len(files)} files are current")
        return
    TARGET.mkdir(parents=True, exist_ok=True)
    for path in TARGET.iterdir():
        if path.name not in files:
            path.unlink()
    for name, text in files.items():
        (TARGET / name).write_text(text, encoding="utf-8")
    print(f"{len(files)} files in {TARGET}")


if __name__ == "__main__":
    main()
