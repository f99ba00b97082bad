"""Backups that lose nothing, and repairs that write nothing which is not proven."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from support.api import administrator, call
from support.backend import SIGNING_KEY, Backend
from support.integrity import alerts, instance
from support.tampering import STRANGER, Victim

from concierge import paths
from concierge.errors import AccountFrozen, Conflict
from concierge.ledger.entries import StoredEntry
from concierge.ledger.integrity import backups
from concierge.ledger.integrity.backups import BackupFile
from concierge.ledger.signatures import Keyring
from concierge.ledger.transfers import Head
from concierge.ledger.verification import verify_chain


@pytest.fixture
def backend(own_backend: Backend) -> Iterator[Backend]:
    yield own_backend
    own_backend.clear_faults()


def backup(backend: Backend) -> None:
    assert backend.run_schedule("backup") == 200


def files(backend: Backend, uid: str) -> list[str]:
    return list(backend.objects.list(paths.backups_of(uid)))


def saved(backend: Backend, uid: str) -> list[StoredEntry]:
    """All saved entries, read as somebody would who has the bucket and nothing of ours."""
    found: dict[int, StoredEntry] = {}
    for name in files(backend, uid):
        first, last, last_hash, digest = name.rpartition("/")[2].removesuffix(".jsonl").split("-")
        data = backend.objects.read(name)
        assert data is not None and hashlib.sha256(data).hexdigest() == digest
        lines = [json.loads(line) for line in data.splitlines()]
        assert len(lines) == int(last) - int(first) + 1
        assert lines[-1]["hash"] == last_hash
        for place, line in enumerate(lines, start=int(first)):
            content, signature = base64.b64decode(line["content"]), base64.b64decode(line["signature"])
            entry = StoredEntry(content, line["hash"], line["keyId"], signature, place)
            assert found.setdefault(place, entry) == entry, "the same number is always the same entry"
    return [found[place] for place in sorted(found)]


def assert_saved(backend: Backend, uid: str, head: Head | None) -> None:
    """Everything up to the head is saved, and verifies under the public keys alone."""
    assert head is not None
    public = Keyring.from_text(None, Keyring.from_text(SIGNING_KEY, []).published().values())
    entries = saved(backend, uid)
    verification = verify_chain(entries, ledger_id=backend.stack.project, uid=uid, keyring=public, head=head)
    assert verification.findings == []
    assert len(entries) == head.seq


def grow(backend: Backend, uid: str, count: int) -> None:
    for _ in range(count):
        backend.ledger().credit(uid, op_id=uuid4().hex, kind="purchase", amount=1, counter="liability:test")


def test_what_is_new_is_saved_and_nothing_twice(backend: Backend) -> None:
    victim, other = Victim(backend), Victim(backend)
    backup(backend)
    assert_saved(backend, victim.uid, backend.ledger().head(victim.uid))
    first = files(backend, victim.uid)
    assert [BackupFile.parse(name) is not None for name in first] == [True]
    grow(backend, victim.uid, 3)
    backup(backend)
    backup(backend)
    assert len(files(backend, victim.uid)) == 2 and files(backend, victim.uid)[0] == first[0]
    assert len(files(backend, other.uid)) == 1
    assert_saved(backend, victim.uid, backend.ledger().head(victim.uid))


def test_a_long_account_is_saved_in_several_files(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backups, "FILE_ENTRIES", 4)
    victim = Victim(backend)
    assert instance(backend).backups.run()["saved"] >= 1
    places = [BackupFile.parse(name) for name in files(backend, victim.uid)]
    assert [(file.first, file.last) for file in places if file is not None] == [(1, 4), (5, 8), (9, 9)]
    assert_saved(backend, victim.uid, backend.ledger().head(victim.uid))


@pytest.mark.parametrize("point", ["written", "saved"])
def test_a_crash_of_the_backup_loses_nothing(backend: Backend, point: str) -> None:
    victims = [Victim(backend) for _ in range(3)]
    backend.restart_functions(CONCIERGE_FAULT=f"backup.{point}:exit")
    assert backend.run_schedule("backup") != 200
    backend.await_crash()
    grow(backend, victims[0].uid, 2)
    backup(backend)
    for victim in victims:
        assert_saved(backend, victim.uid, backend.ledger().head(victim.uid))
    before = [files(backend, victim.uid) for victim in victims]
    backup(backend)
    assert [files(backend, victim.uid) for victim in victims] == before


def test_backups_at_the_same_time_while_accounts_move(backend: Backend) -> None:
    victims, ended = [Victim(backend) for _ in range(3)], threading.Event()

    def move(victim: Victim) -> None:
        while not ended.is_set():
            grow(backend, victim.uid, 1)

    with ThreadPoolExecutor(6) as pool:
        movers = [pool.submit(move, victim) for victim in victims]
        try:
            runs = [pool.submit(lambda: [instance(backend).backups.run() for _ in range(3)]) for _ in range(2)]
            reports = [report for run in runs for report in run.result()]
        finally:
            ended.set()
        for mover in movers:
            mover.result()
    assert all(report["damaged"] == report["error"] == 0 for report in reports)
    backup(backend)
    for victim in victims:
        assert_saved(backend, victim.uid, backend.ledger().head(victim.uid))


def test_what_the_feed_missed_is_saved_in_turns(backend: Backend) -> None:
    victim = Victim(backend)
    backup(backend)
    backend.firestore.document(f"backups/{victim.uid}").delete()
    grow(backend, victim.uid, 1)
    cursor = backend.firestore.document("housekeeping/backup")
    cursor.update({"cursor": victim.head.get().read_time.replace(year=2027)})
    for _ in range(100):
        instance(backend).backups.run(rotation_accounts=2)
        if backend.firestore.document(f"backups/{victim.uid}").get().exists:
            break
    assert_saved(backend, victim.uid, backend.ledger().head(victim.uid))
    cursor.delete()


def test_damage_is_never_saved(backend: Backend) -> None:
    victim = Victim(backend)
    backup(backend)
    before = files(backend, victim.uid)
    grow(backend, victim.uid, 3)
    victim.forge(11, amount=5)
    backup(backend)
    assert files(backend, victim.uid) == before
    assert alerts(backend, victim.uid) == [("BACKUP_REFUSED", 11)]


def test_no_entry_is_restored_that_the_backup_does_not_prove(backend: Backend) -> None:
    """Files that were changed, or forged with all their names, restore nothing."""
    victim = Victim(backend)
    backup(backend)
    (name,) = files(backend, victim.uid)
    sound = backend.objects.read(name)
    assert sound is not None
    genuine = victim.stored(7)
    victim.entry(7).delete()
    lines = sound.splitlines()
    document = victim.sealed({**json.loads(genuine["content"]), "amount": 5_000}, STRANGER)
    lines[6] = json.dumps(
        {
            **document,
            "content": base64.b64encode(document["content"]).decode(),
            "signature": base64.b64encode(document["signature"]).decode(),
        }
    ).encode()
    forged = b"\n".join(lines) + b"\n"
    parsed = BackupFile.parse(name)
    assert parsed is not None
    forged_name = paths.backup_file(victim.uid, 1, 9, parsed.last_hash, hashlib.sha256(forged).hexdigest())
    backend.objects.write(name, sound[: len(sound) // 3])
    backend.objects.write(forged_name, forged)
    outcome = instance(backend).repair(victim.uid, actor="somebody", reason="test")
    assert not outcome.repaired and outcome.quarantined
    assert any("entry 7 cannot be restored" in action for action in outcome.actions)
    assert not victim.entry(7).get().exists
    with pytest.raises(AccountFrozen):
        grow(backend, victim.uid, 1)
    # The genuine file, beside the forged one, restores it.
    backend.objects.write(name, sound)
    outcome = instance(backend).repair(victim.uid, actor="somebody", reason="test")
    assert outcome.repaired and not outcome.quarantined
    assert victim.stored(7) == genuine
    grow(backend, victim.uid, 1)
    assert backend.ledger().verify(victim.uid).verified


def test_without_a_backup_nothing_is_invented(backend: Backend) -> None:
    victim = Victim(backend)
    victim.entry(4).delete()
    before = victim.documents()
    outcome = instance(backend).repair(victim.uid, actor="somebody", reason="test")
    assert not outcome.repaired
    after = victim.documents()
    assert after.pop(victim.head.path)["quarantined"] is True
    before.pop(victim.head.path)
    assert after == before


def test_a_plan_writes_nothing_and_tells_what_a_repair_does(backend: Backend) -> None:
    victim = Victim(backend)
    backup(backend)
    victim.flip(3, "content", 20)
    victim.entry(5).delete()
    before = victim.documents()
    plan = instance(backend).plan_repair(victim.uid)
    assert victim.documents() == before
    assert [(damage.seq, damage.code) for damage in plan.before] == [(3, "HASH_MISMATCH"), (5, "MISSING_ENTRY")]
    assert plan.actions == ["entry 3 restored from the backup", "entry 5 restored from the backup"]
    outcome = instance(backend).repair(victim.uid, actor="somebody", reason="test")
    assert outcome.repaired
    assert outcome.actions == ["quarantined the account", *plan.actions, "lifted the quarantine"]


@pytest.mark.parametrize("point", ["quarantined", "restored", "derived", "before_lift", "lifted"])
def test_a_repair_that_dies_is_finished_by_the_next_one(backend: Backend, point: str) -> None:
    victim = Victim(backend)
    backup(backend)
    sound = victim.documents()
    victim.flip(3, "content", 20)
    victim.hold_document("r1").update({"state": "held"})
    victim.head.update({"posted": 1})
    admin = administrator(backend)
    backend.restart_functions(CONCIERGE_FAULT=f"repair.{point}:exit")
    path, body = f"/accounts/{victim.uid}/repair", {"reason": "test", "apply": True}
    assert call(backend, admin, "POST", path, body).status_code >= 500
    backend.await_crash()
    if point != "lifted":
        with pytest.raises(AccountFrozen):
            grow(backend, victim.uid, 1)
    answer = call(backend, admin, "POST", path, body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["quarantined"] is False
    found = victim.documents()
    for documents in (found, sound):
        documents[victim.head.path].pop("changedAt")
    assert found == sound
    grow(backend, victim.uid, 1)
    assert backend.ledger().verify(victim.uid).verified


def test_appends_that_race_with_a_repair_are_refused_or_kept(backend: Backend) -> None:
    """Never lost: what an append was told stays, and the account adds up."""
    victim, ended = Victim(backend), threading.Event()
    backup(backend)
    done: list[str] = []

    def move() -> None:
        while not ended.is_set():
            op_id = uuid4().hex
            try:
                backend.ledger().credit(victim.uid, op_id=op_id, kind="purchase", amount=1, counter="liability:test")
                done.append(op_id)
            except AccountFrozen:
                continue

    with ThreadPoolExecutor(2) as pool:
        movers = [pool.submit(move) for _ in range(2)]
        try:
            for number in range(4):
                victim.hold_document("r1").update({"captured": 1 + number})
                assert instance(backend).repair(victim.uid, actor="somebody", reason="test").repaired
        finally:
            ended.set()
        for mover in movers:
            mover.result()
    ledger = backend.ledger()
    verification = ledger.verify(victim.uid)
    assert verification.findings == []
    entries = {entry.fields()["opId"]: entry.place for entry in ledger.entries(victim.uid)}
    assert len(done) > 0
    assert {op_id: entries[op_id] for op_id in done} == {
        op_id: posting.seq for op_id in done if (posting := ledger.outcome(victim.uid, op_id)) is not None
    }
    assert instance(backend).replay(victim.uid).damages == []


def test_an_operation_whose_record_was_rebuilt_is_not_done_again(backend: Backend) -> None:
    victim, ledger = Victim(backend), backend.ledger()
    arguments: dict[str, Any] = {"kind": "purchase", "amount": 7, "counter": "liability:test"}
    ledger.credit(victim.uid, op_id="plain", **arguments)
    ledger.credit(victim.uid, op_id="told", memo="a reference", **arguments)
    for op_id in ("plain", "told"):
        victim.operation(op_id).delete()
    victim.hold_document("r1").delete()
    assert instance(backend).repair(victim.uid, actor="somebody", reason="test").repaired
    seq = ledger.head(victim.uid).seq  # type: ignore[union-attr]
    assert ledger.credit(victim.uid, op_id="plain", **arguments).replayed
    # What was asked for is only known as a hash: rather a conflict than a second credit.
    with pytest.raises(Conflict):
        ledger.credit(victim.uid, op_id="told", memo="a reference", **arguments)
    with pytest.raises(Conflict):
        victim.hold("r1")
    assert ledger.head(victim.uid).seq == seq  # type: ignore[union-attr]


def test_an_open_hold_that_was_lost_is_rebuilt_and_can_be_ended(backend: Backend) -> None:
    victim, ledger = Victim(backend), backend.ledger()
    victim.hold_document("r3").delete()
    assert instance(backend).repair(victim.uid, actor="somebody", reason="test").repaired
    assert ledger.expire(victim.uid, "r3").hold.state == "expired"
    assert ledger.head(victim.uid).held == 0  # type: ignore[union-attr]
    assert ledger.verify(victim.uid).verified


def test_all_that_firestore_knew_can_be_gone_and_the_backup_still_tells(backend: Backend) -> None:
    """Entries, head, leaf and the validation's own record are put back together, so that all of it agrees."""
    victim = Victim(backend)
    assert backend.checkpoint() == 200
    assert backend.run_schedule("validate") == 200
    backup(backend)
    sound = victim.stored(9)
    victim.truncate(7, put_head_back=True, forget=True)
    backend.firestore.document(f"leaves/{victim.uid}").delete()
    found = instance(backend).replay(victim.uid)
    assert [(damage.seq, damage.code) for damage in found.damages] == [(8, "TRUNCATED")]
    assert instance(backend).repair(victim.uid, actor="somebody", reason="test").repaired
    assert victim.stored(9) == sound
