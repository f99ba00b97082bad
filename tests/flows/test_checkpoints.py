"""Checkpoints, from the scheduled function to a receipt that verifies without any of our services."""

import base64
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Any
from uuid import uuid4

import httpx
import pytest
from support.backend import CHECKPOINT_KEY, Backend
from support.waiting import eventually

from cli.client import ClientError
from concierge import paths
from concierge.ledger.changes import ChangeFeed
from concierge.ledger.checkpoints import tiles
from concierge.ledger.checkpoints.leaves import read_leaf_file
from concierge.ledger.checkpoints.notes import Checkpoint, Signer, Verifier, open_note
from concierge.ledger.checkpoints.publisher import ACCOUNTS_MAX, CheckpointDamaged, CheckpointPublisher
from concierge.ledger.checkpoints.receipts import origin_of, verify_consistency_document, verify_receipt
from concierge.ledger.checkpoints.repository import CheckpointRecord, CheckpointRepository
from concierge.ledger.repository import LedgerRepository
from concierge.ledger.signatures import Keyring
from concierge.ledger.transfers import posted_change, total_name

FAULT_POINTS = ["uploaded", "decided", "tiled", "recorded", "published"]


@pytest.fixture
def backend(own_backend: Backend) -> Iterator[Backend]:
    yield own_backend
    own_backend.clear_faults()
    own_backend.close_clients()


@pytest.fixture
def repository(backend: Backend) -> CheckpointRepository:
    return CheckpointRepository(backend.firestore)


def publisher(backend: Backend, accounts_max: int = ACCOUNTS_MAX) -> CheckpointPublisher:
    """One more instance of the scheduled function."""
    return CheckpointPublisher(
        ChangeFeed(backend.firestore),
        CheckpointRepository(backend.firestore),
        backend.objects,
        Signer(origin_of(backend.stack.project), CHECKPOINT_KEY),
        [],
        ledger_id=backend.stack.project,
        accounts_max=accounts_max,
    )


def public(backend: Backend, path: str, **parameters: Any) -> httpx.Response:
    """GET below /api/v1/ledger without any token."""
    url = f"{backend.stack.addresses.api}/api/v1/ledger{path}"
    return httpx.get(url, params=parameters, trust_env=False, verify=False, timeout=60)


def trusted(backend: Backend) -> tuple[Keyring, list[Verifier]]:
    """The published keys."""
    keys = public(backend, "/keys").json()
    assert keys["ledger"] == backend.stack.project
    return Keyring.from_text(None, keys["keys"].values()), [Verifier.from_vkey(vkey) for vkey in keys["checkpointKeys"]]


def receipt(client: Any, seq: int) -> dict[str, Any]:
    found: dict[str, Any] = client.api(f"/accounts/{client.session.uid}/ledger/entries/{seq}/receipt")
    return found


def state(backend: Backend, document: dict[str, Any]) -> str:
    return verify_receipt(json.loads(json.dumps(document)), *trusted(backend)).state


def credit(backend: Backend, uid: str, amount: int = 1_000) -> None:
    backend.ledger().credit(uid, op_id=uuid4().hex, kind="grant", amount=amount, counter="expense:test")


def accounts(backend: Backend, count: int) -> list[str]:
    """New accounts with one entry each."""
    uids = [f"{uuid4().hex}" for _ in range(count)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda uid: credit(backend, uid), uids))
    return uids


def all_published(backend: Backend) -> list[CheckpointRecord]:
    """All checkpoints in their order. What must hold for each of them at any time, holds."""
    records = CheckpointRepository(backend.firestore).published_after(0, 1_000)
    _, verifiers = trusted(backend)
    seen: set[tuple[str, int]] = set()
    size = 0
    for number, record in enumerate(records, start=1):
        assert (record.number, record.first) == (number, size)
        assert record.note is not None
        signed = Checkpoint.parse(open_note(record.note, verifiers)[0])
        assert (signed.size, signed.root.hex()) == (record.size, record.root)
        data = backend.objects.read(record.leaves_object)
        assert data is not None
        lines = read_leaf_file(data)
        assert [line.leaf.uid for line in lines] == sorted(line.leaf.uid for line in lines)
        leaves = {(line.leaf.uid, line.leaf.seq) for line in lines}
        assert len(leaves) == len(lines) == record.size - record.first
        assert not leaves & seen, "no head is put into the tree twice"
        seen |= leaves
        size = record.size
    return records


def logged(backend: Backend, event: str) -> list[dict[str, Any]]:
    lines = [line for line in backend.log.read_text().splitlines() if f'"{event}"' in line]
    return [json.loads(line[line.index('{"severity"') :]) for line in lines if '{"severity"' in line]


@contextmanager
def tampered_object(backend: Backend, name: str, change: Callable[[bytes], bytes]) -> Iterator[None]:
    """An object of the bucket with other content, for a while."""
    sound = backend.objects.read(name)
    assert sound is not None and change(sound) != sound
    backend.objects.write(name, change(sound))
    try:
        yield
    finally:
        backend.objects.write(name, sound)


@contextmanager
def tampered_document(reference: Any, change: Callable[[Any], Any]) -> Iterator[None]:
    """A document changed behind the app's back, for a while: `change` gets its reference."""
    sound = reference.get().to_dict()
    change(reference)
    try:
        yield
    finally:
        reference.set(sound)


def test_an_answer_is_proven_offline(backend: Backend) -> None:
    client = backend.funded(10_000_000)
    response = backend.answer(client, "hello")
    seq = response["receipt"]["entrySeq"]
    before = receipt(client, seq)
    assert (before["checkpoint"], before["leaf"], before["inclusion"], before["chain"]) == (None, None, None, [])
    assert state(backend, before) == "pending"
    assert backend.checkpoint() == 200
    after = receipt(client, seq)
    verification = verify_receipt(after, *trusted(backend))
    assert [check.fault for check in verification.checks] == [""] * 6
    assert verification.state == "verified"
    assert verification.fields["opId"].startswith("settle:")
    latest = public(backend, "/checkpoints/latest").json()
    assert after["checkpoint"] == latest["note"]
    assert after["leaf"]["hash"] == response["receipt"]["hash"]
    assert verification.checkpoint is not None
    assert (verification.checkpoint.size, verification.checkpoint.root.hex()) == (latest["size"], latest["root"])
    # An earlier entry is proven by the chain that leads from it to the leaf.
    first = receipt(client, 1)
    assert len(first["chain"]) == seq - 1
    assert state(backend, first) == "verified"


def test_a_changed_receipt_does_not_verify(backend: Backend) -> None:
    client = backend.funded(10_000_000)
    for _ in range(3):
        credit(backend, client.session.uid)  # type: ignore[union-attr]
    accounts(backend, 5)
    assert backend.checkpoint() == 200
    document = receipt(client, 2)
    assert state(backend, document) == "verified"
    assert len(document["chain"]) == 2
    other = receipt(client, 1)
    changes: list[tuple[str, Any]] = [
        ("format", "concierge.receipt.v2"),
        ("ledger", "another"),
        ("entry", other["entry"]),
        ("entry", {**document["entry"], "content": base64.b64encode(b"{}").decode()}),
        ("entry", {**document["entry"], "hash": "0" * 64}),
        ("entry", {**document["entry"], "signature": other["entry"]["signature"]}),
        ("entry", {**document["entry"], "keyId": "0" * 16}),
        ("chain", document["chain"][1:]),
        ("chain", document["chain"][:1]),
        ("chain", document["chain"][::-1]),
        ("chain", []),
        ("leaf", {**document["leaf"], "index": document["leaf"]["index"] + 1}),
        ("leaf", {**document["leaf"], "seq": 3}),
        ("leaf", {**document["leaf"], "uid": "somebody"}),
        ("leaf", {**document["leaf"], "hash": "0" * 64}),
        ("leaf", None),
        ("inclusion", {**document["inclusion"], "treeSize": document["inclusion"]["treeSize"] + 1}),
        ("inclusion", {**document["inclusion"], "hashes": document["inclusion"]["hashes"][:-1]}),
        ("inclusion", {**document["inclusion"], "hashes": ["0" * 64]}),
        ("checkpoint", None),
        ("checkpoint", document["checkpoint"].replace("\n", "\n1", 1)),
        ("entry", None),
        ("leaf", 5),
        ("chain", {}),
        ("checkpoint", Signer(origin_of(backend.stack.project), CHECKPOINT_KEY).sign("x\n")),
        # Signed by the key of this log, and yet the checkpoint of another ledger.
        (
            "checkpoint",
            Signer("concierge.ledger/other", CHECKPOINT_KEY).sign(
                open_note(document["checkpoint"], trusted(backend)[1])[0]
            ),
        ),
    ]
    for part, value in changes:
        changed = {**document, part: value}
        assert state(backend, changed) == "invalid", (part, value)
        assert state(backend, {key: kept for key, kept in document.items() if key != part}) == "invalid", part
    # Cut down to its entry it is a pending receipt, and says no more than that.
    assert state(backend, {**document, "chain": [], "leaf": None, "inclusion": None, "checkpoint": None}) == "pending"


def test_old_entries_are_proven_by_a_leaf_near_them(backend: Backend) -> None:
    """However many entries came later: the chain in the receipt leads to the first checkpoint behind the entry."""
    client = backend.funded(10_000_000)
    uid = client.session.uid  # type: ignore[union-attr]
    assert backend.checkpoint() == 200
    for _ in range(30):
        credit(backend, uid)
    assert backend.checkpoint() == 200
    credit(backend, uid)
    assert backend.checkpoint() == 200
    assert [len(receipt(client, seq)["chain"]) for seq in (1, 2, 5, 12, 31, 32)] == [0, 29, 26, 20, 1, 0]
    for seq in (1, 2, 5, 12, 31, 32):
        assert state(backend, receipt(client, seq)) == "verified"
    credit(backend, uid)
    assert state(backend, receipt(client, 33)) == "pending"


def test_nothing_changed_is_no_checkpoint(backend: Backend) -> None:
    accounts(backend, 2)
    assert backend.checkpoint() == 200
    before = all_published(backend)
    assert backend.checkpoint() == 200
    assert all_published(backend) == before


@pytest.mark.parametrize("point", FAULT_POINTS)
def test_a_crash_at_any_step_is_made_good_by_the_next_run(
    backend: Backend, repository: CheckpointRepository, point: str
) -> None:
    backend.checkpoint()
    before = all_published(backend)
    uids = accounts(backend, 3)
    backend.restart_functions(CONCIERGE_FAULT=f"checkpoint.{point}:exit")
    assert backend.checkpoint() != 200
    backend.await_crash()
    decided = repository.latest()
    # Accounts go on moving between the crash and the next run.
    credit(backend, uids[0])
    assert backend.checkpoint() == 200
    after = all_published(backend)
    assert len(after) == len(before) + (1 if point == "uploaded" else 2)
    if point != "uploaded":
        assert decided is not None
        finished = after[len(before)]
        assert (finished.number, finished.root, finished.size) == (decided.number, decided.root, decided.size)
        assert {line.leaf.uid for line in leaves_of(backend, finished)} == set(uids)
    ledger = backend.ledger()
    for uid in uids:
        head, leaf = ledger.head(uid), repository.leaf(uid)
        assert head is not None and leaf is not None
        assert (leaf.seq, leaf.hash, leaf.totals.posted) == (head.seq, head.hash, head.posted)
    assert after[-1].balanced


def leaves_of(backend: Backend, record: CheckpointRecord) -> list[Any]:
    data = backend.objects.read(record.leaves_object)
    assert data is not None
    return read_leaf_file(data)


def test_runs_at_the_same_time_agree(backend: Backend, repository: CheckpointRepository) -> None:
    """Several instances, the deployed one among them, while accounts move: one sequence of checkpoints, each head in it
    once, and nobody is left with an old leaf."""
    uids = accounts(backend, 12)
    ended = threading.Event()

    def move(number: int) -> None:
        while not ended.is_set():
            credit(backend, uids[number])

    with ThreadPoolExecutor(12) as pool:
        movers = [pool.submit(move, number) for number in range(3)]
        try:
            runs = [pool.submit(backend.checkpoint) for _ in range(3)]
            instances = [pool.submit(lambda: [publisher(backend).run() for _ in range(3)]) for _ in range(3)]
            statuses = [run.result() for run in runs]
            counts = [sum(instance.result()) for instance in instances]
        finally:
            ended.set()
        for mover in movers:
            mover.result()
    assert statuses == [200] * 3
    assert sum(counts) >= 1
    assert backend.checkpoint() == 200
    all_published(backend)
    ledger = backend.ledger()
    for uid in uids:
        leaf, head = repository.leaf(uid), ledger.head(uid)
        assert leaf is not None and head is not None
        assert (leaf.seq, leaf.hash, leaf.totals.posted) == (head.seq, head.hash, head.posted)


@pytest.mark.parametrize("known", [False, True], ids=["new accounts", "accounts with leaves"])
def test_a_late_run_does_not_put_older_leaves_back(
    backend: Backend, repository: CheckpointRepository, known: bool
) -> None:
    """An instance that decided a checkpoint and then stood still, while another one finished it and published the next
    one for the same accounts."""
    uids = accounts(backend, 2)
    if known:
        assert backend.checkpoint() == 200
        for uid in uids:
            credit(backend, uid)
    slow = publisher(backend)
    latest = repository.latest()
    decided = slow._decide(latest)
    assert decided is not None
    for uid in uids:
        credit(backend, uid)
    assert backend.checkpoint() == 200
    newer = {uid: repository.leaf(uid) for uid in uids}
    slow._finish(*decided)
    assert {uid: repository.leaf(uid) for uid in uids} == newer
    assert [leaf.seq for leaf in newer.values() if leaf is not None] == [3 if known else 2] * 2
    all_published(backend)


@pytest.mark.parametrize("change", [lambda sound: bytes([sound[0] ^ 1]) + sound[1:], lambda sound: sound[:-32]])
def test_tampered_tiles_are_noticed_before_anything_is_signed(backend: Backend, change: Any) -> None:
    client = backend.funded(1_000_000)
    accounts(backend, 3)
    assert backend.checkpoint() == 200
    latest = all_published(backend)[-1]
    document = receipt(client, 1)
    with tampered_object(backend, paths.tile(tiles.tile_path(0, latest.size // 256, latest.size % 256)), change):
        accounts(backend, 1)
        alerts = len(logged(backend, "checkpoint.tiles_damaged"))
        assert backend.checkpoint() == 500
        eventually(lambda: len(logged(backend, "checkpoint.tiles_damaged")) > alerts, "the alert")
        assert logged(backend, "checkpoint.tiles_damaged")[-1]["severity"] == "CRITICAL"
        assert all_published(backend)[-1] == latest
        # No false proof is handed out, and the receipts that people have stay what they are.
        with pytest.raises(ClientError, match="UNAVAILABLE"):
            receipt(client, 1)
        assert state(backend, document) == "verified"
    assert backend.checkpoint() == 200
    assert all_published(backend)[-1].number == latest.number + 1


@pytest.mark.parametrize("part", ["note", "root", "size"])
def test_a_tampered_checkpoint_is_not_built_upon(backend: Backend, part: str) -> None:
    accounts(backend, 1)
    assert backend.checkpoint() == 200
    latest = all_published(backend)[-1]
    origin = origin_of(backend.stack.project)
    forged = Signer(origin, base64.b64encode(bytes(32)).decode())
    other = {
        "note": forged.sign(Checkpoint(origin, latest.size, bytes.fromhex(latest.root)).text),
        "root": "0" * 64,
        "size": latest.size - 1,
    }
    with tampered_document(checkpoint_document(backend, latest), lambda found: found.update({part: other[part]})):
        accounts(backend, 1)
        with pytest.raises(CheckpointDamaged):
            publisher(backend).run()
    assert publisher(backend).run() == 1
    all_published(backend)


def checkpoint_document(backend: Backend, record: CheckpointRecord) -> Any:
    return backend.firestore.collection(paths.CHECKPOINTS).document(f"{record.number:012d}")


def test_a_tampered_leaf_file_is_not_finished(backend: Backend, repository: CheckpointRepository) -> None:
    assert backend.checkpoint() == 200
    accounts(backend, 2)
    backend.restart_functions(CONCIERGE_FAULT="checkpoint.decided:exit")
    assert backend.checkpoint() != 200
    backend.await_crash()
    decided = repository.latest()
    assert decided is not None and decided.note is None
    with tampered_object(
        backend, decided.leaves_object, lambda sound: sound.replace(b'"posted":1000', b'"posted":9000')
    ):
        with pytest.raises(CheckpointDamaged, match="leaf file"):
            publisher(backend).run()
        assert repository.latest() == decided
    assert publisher(backend).run() == 1
    all_published(backend)


def test_a_checkpoint_that_was_removed_is_not_signed_anew(backend: Backend) -> None:
    """Otherwise a second root would be signed for its size."""
    uids = accounts(backend, 2)
    assert backend.checkpoint() == 200
    latest = all_published(backend)[-1]
    with tampered_document(checkpoint_document(backend, latest), lambda found: found.delete()):
        credit(backend, uids[0])
        with pytest.raises(CheckpointDamaged, match="gone"):
            publisher(backend).run()
    assert publisher(backend).run() == 1
    all_published(backend)


def test_an_account_without_its_newest_entries_shows(backend: Backend, repository: CheckpointRepository) -> None:
    """Entries, records and head are put back behind the app's back, and everything agrees with itself again; only the
    checkpoint knows better."""
    (uid,) = accounts(backend, 1)
    old = LedgerRepository(backend.firestore).account_reference(uid).get().to_dict()
    credit(backend, uid)
    assert backend.checkpoint() == 200
    published = repository.leaf(uid)
    assert published is not None and published.seq == 2
    account = LedgerRepository(backend.firestore).account_reference(uid)
    last = account.collection(paths.ENTRIES).document(f"{2:012d}")
    sound, entry = account.get().to_dict(), last.get().to_dict()
    last.delete()
    account.set({**old, "changedAt": sound["changedAt"]})
    anchors = {published.seq: published.hash}
    assert backend.ledger().verify(uid).verified, "without the checkpoint nobody could tell"
    findings = backend.ledger().verify(uid, anchors=anchors).findings
    assert [(finding.seq, finding.code) for finding in findings] == [(2, "TRUNCATED")]
    # A fork: another second entry. The next checkpoint does not take it up.
    credit(backend, uid, amount=7)
    assert [finding.code for finding in backend.ledger().verify(uid, anchors=anchors).findings] == ["FORKED"]
    alerts = len(logged(backend, "checkpoint.account_damaged"))
    assert backend.checkpoint() == 200
    eventually(lambda: len(logged(backend, "checkpoint.account_damaged")) > alerts, "the alert")
    assert logged(backend, "checkpoint.account_damaged")[-1]["uid"] == uid
    assert repository.leaf(uid) == published
    last.set(entry)
    account.set(sound)
    assert backend.ledger().verify(uid, anchors=anchors).verified


def test_a_head_that_does_not_add_up_is_an_alert(backend: Backend, repository: CheckpointRepository) -> None:
    backend.checkpoint()
    (uid,) = accounts(backend, 1)
    account = LedgerRepository(backend.firestore).account_reference(uid)
    account.update({"posted": 1_000_000})
    alerts = len(logged(backend, "checkpoint.unbalanced"))
    assert backend.checkpoint() == 200
    eventually(lambda: len(logged(backend, "checkpoint.unbalanced")) > alerts, "the alert")
    latest = repository.latest()
    assert latest is not None and not latest.balanced
    assert latest.totals.posted + sum(latest.totals.counters.values()) == 999_000
    account.update({"posted": 1_000})
    credit(backend, uid)
    assert backend.checkpoint() == 200
    repaired = all_published(backend)[-1]
    assert repaired.balanced
    assert repaired.totals.posted + sum(repaired.totals.counters.values()) == 0


def test_more_changes_than_one_checkpoint_takes(backend: Backend, repository: CheckpointRepository) -> None:
    """The oldest first, as many checkpoints as it needs; each account is in one of them."""
    backend.checkpoint()
    before = len(all_published(backend))
    uids = accounts(backend, 40)
    backend.ledger().transfer(uids[0], uids[1], op_id="half", amount=10)
    assert publisher(backend, accounts_max=16).run() > 1
    after = all_published(backend)
    assert [record.partial for record in after[before:]][-1] is False
    assert after[before].partial
    assert all(record.balanced for record in after[before:])
    assert sorted(line.leaf.uid for record in after[before:] for line in leaves_of(backend, record)) == sorted(uids)


@pytest.mark.acceptance("M17")
def test_all_entries_and_counters_add_up_to_zero_at_every_checkpoint(backend: Backend) -> None:
    """Summed up here from the entries themselves, up to each account's leaf at each checkpoint, while credits move in
    every way there is, and between accounts all the time."""
    ledger = backend.ledger()
    uids = accounts(backend, 6)
    for uid in uids:
        credit(backend, uid, amount=1_000_000)
    client = backend.funded(10_000_000)

    def transfer(number: int) -> None:
        for _ in range(8):
            ledger.transfer(uids[number], uids[(number + 1) % 6], op_id=uuid4().hex, amount=1)

    with ThreadPoolExecutor(4) as pool:
        for step in range(4):
            backend.answer(client, "hello")
            ledger.clawback(uids[step], op_id=f"dispute-{step}", amount=2_000, counter="liability:stripe")
            ledger.adjust(uids[step], op_id=f"fix-{step}", amount=-7, counter="expense:support", memo="m", actor="a")
            movers = [pool.submit(transfer, number) for number in range(0, 6, 2)]
            while not all(mover.done() for mover in movers):
                assert backend.checkpoint() == 200
            for mover in movers:
                mover.result()
    assert backend.checkpoint() == 200
    heads: dict[str, int] = {}
    posted, counters, transfers_seen = 0, Counter[str](), 0
    for record in all_published(backend):
        for line in leaves_of(backend, record):
            uid, before = line.leaf.uid, heads.get(line.leaf.uid, 0)
            for entry in ledger.entries(uid, after_seq=before, limit=line.leaf.seq - before):
                fields = entry.fields()
                change = posted_change(fields["kind"], fields["amount"])
                posted += change
                counters[total_name(fields["counter"])] -= change
                transfers_seen += fields["kind"] == "transfer-in"
            heads[uid] = line.leaf.seq
        assert posted + sum(counters.values()) == 0
        assert counters["account"] == 0 or record.partial, "both halves of every transfer are in it"
        if record.balanced:
            assert posted == record.totals.posted
            expected = {name: amount for name, amount in counters.items() if amount}
            assert {name: amount for name, amount in record.totals.counters.items() if amount} == expected
    assert transfers_seen > 0
    assert record.balanced


def test_all_published_checkpoints_are_consistent(backend: Backend) -> None:
    """For whoever watches the log: from any checkpoint to any later one, by the public routes alone."""
    for _ in range(3):
        accounts(backend, 2)
        backend.checkpoint()
    _, verifiers = trusted(backend)
    found: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        page = public(backend, "/checkpoints", after=after, limit=4).json()
        assert len(page["checkpoints"]) <= 4
        found += page["checkpoints"]
        after = page["next"]
    assert [each["number"] for each in found] == list(range(1, len(found) + 1))
    assert len(found) == len(all_published(backend))
    assert public(backend, "/checkpoints/latest").json() == found[-1]
    signed = [Checkpoint.parse(open_note(each["note"], verifiers)[0]) for each in found]
    pairs = [*pairwise(signed), *((signed[0], each) for each in signed), *((each, signed[-1]) for each in signed)]
    for older, newer in pairs:
        proof = public(backend, "/consistency", **{"from": older.size, "to": newer.size}).json()
        assert verify_consistency_document(proof, older, newer).passed
    forged = Checkpoint(signed[0].origin, signed[0].size, bytes(32))
    proof = public(backend, "/consistency", **{"from": forged.size, "to": signed[-1].size}).json()
    assert not verify_consistency_document(proof, forged, signed[-1]).passed


@pytest.mark.parametrize(
    ("path", "parameters", "field"),
    [
        ("/consistency", {"from": "2"}, "to"),
        ("/consistency", {"to": "2"}, "from"),
        ("/consistency", {"from": "x", "to": "2"}, "from"),
        ("/consistency", {"from": "0", "to": "2"}, "from"),
        ("/consistency", {"from": "-1", "to": "2"}, "from"),
        ("/consistency", {"from": "3", "to": "2"}, "to"),
        ("/consistency", {"from": "999998", "to": "999999"}, "from"),
        ("/checkpoints", {"after": "-1"}, "after"),
        ("/checkpoints", {"after": "1" * 40}, "after"),
        ("/checkpoints", {"limit": "0"}, "limit"),
        ("/checkpoints", {"limit": "101"}, "limit"),
        ("/checkpoints", {"limit": "١"}, "limit"),
    ],
)
def test_bad_ranges_are_named(backend: Backend, path: str, parameters: dict[str, str], field: str) -> None:
    accounts(backend, 2)
    backend.checkpoint()
    answer = public(backend, path, **parameters)
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_ARGUMENT")
    assert answer.json()["field"] == field


def test_receipts_are_for_their_owners(backend: Backend) -> None:
    owner, stranger = backend.funded(1_000), backend.client()
    path = f"/accounts/{owner.session.uid}/ledger/entries/1/receipt"  # type: ignore[union-attr]
    assert owner.api(path)["format"] == "concierge.receipt.v1"
    with pytest.raises(ClientError, match="PERMISSION_DENIED"):
        stranger.api(path)
    url = f"{backend.stack.addresses.api}/api/v1{path}"
    assert httpx.get(url, trust_env=False).status_code == 401
    for seq, code in (("2", "NOT_FOUND"), ("0", "INVALID_ARGUMENT"), ("x", "INVALID_ARGUMENT"), ("9" * 20, "INVALID_")):
        with pytest.raises(ClientError, match=code):
            owner.api(path.replace("entries/1/", f"entries/{seq}/"))


def test_a_rotated_key_continues_the_same_log(backend: Backend) -> None:
    client = backend.funded(1_000)
    assert backend.checkpoint() == 200
    old = receipt(client, 1)
    (_, (old_key,)) = trusted(backend)
    new_key = base64.b64encode(bytes(range(100, 132))).decode()
    backend.restart_functions(
        CHECKPOINT_SIGNING_KEY=new_key,
        CHECKPOINT_PUBLIC_KEYS=base64.b64encode(old_key.public_key.public_bytes_raw()).decode(),
    )
    credit(backend, client.session.uid)  # type: ignore[union-attr]
    assert backend.checkpoint() == 200
    new = receipt(client, 2)
    ledger_keys, both = trusted(backend)
    assert len(both) == 2
    assert verify_receipt(old, ledger_keys, both).state == "verified"
    assert verify_receipt(new, ledger_keys, both).state == "verified"
    assert verify_receipt(new, ledger_keys, [old_key]).state == "invalid"
    older, newer = (verify_receipt(each, ledger_keys, both).checkpoint for each in (old, new))
    assert older is not None and newer is not None
    proof = public(backend, "/consistency", **{"from": older.size, "to": newer.size}).json()
    assert verify_consistency_document(proof, older, newer).passed
    # The next tests' instances sign with the old key again, and know the new one.
    backend.restart_functions(CHECKPOINT_PUBLIC_KEYS=base64.b64encode(both[0].public_key.public_bytes_raw()).decode())
