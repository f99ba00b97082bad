"""`concierge ledger audit|freeze|unfreeze|verify UID`, as operators run them."""

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.api import administrator, call, uid_of
from support.backend import SIGNING_KEY, Backend
from support.operator import ledger_command

from concierge.ledger.entries import StoredEntry, entry_hash
from concierge.ledger.repository import entry_to_document
from concierge.ledger.signatures import Keyring

START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def backend(own_backend: Backend) -> Iterator[Backend]:
    yield own_backend
    own_backend.close_clients()


def busy(backend: Backend, holds: int = 3) -> str:
    """An account with a grant and holds that were captured."""
    uid = uid_of(backend.client())
    ledger = backend.ledger(now=lambda: START)
    ledger.credit(uid, op_id="g", kind="grant", amount=1_000_000, counter="expense:bonus")
    for number in range(holds):
        ledger.place_hold(uid, f"h{number}", request_hash="h", run_id="r", amount=100, minimum=1)
        ledger.capture(uid, f"h{number}", 7, counter="revenue:chat")
    return uid


def audited(backend: Backend, *arguments: str) -> dict[str, Any]:
    finished = ledger_command(backend, "audit", *arguments)
    assert finished.returncode == 0, finished.stderr
    found: dict[str, Any] = json.loads(finished.stdout)
    return found


def test_an_audit_is_the_sum_of_all_pages(backend: Backend, tmp_path: Path) -> None:
    """More entries than a page takes, in several accounts: the same as the API's pages, added up."""
    uids = sorted([busy(backend, 600), busy(backend), busy(backend)])
    found = audited(backend, "--from", "2026-01-01", "--to", "2026-12-31T00:00:00Z")
    assert [account["uid"] for account in found["accounts"]] == uids
    assert [account["entries"] for account in found["accounts"]] == [
        backend.ledger().head(uid).seq  # type: ignore[union-attr]
        for uid in uids
    ]
    assert all(account["isFirst"] and account["isLast"] for account in found["accounts"])
    entries, cursor = 0, None
    admin = administrator(backend)
    pages = 0
    while True:
        question = {"from": "2026-01-01T00:00:00Z", "to": "2026-12-31T00:00:00Z", "limit": 2}
        page = call(backend, admin, "GET", "/credits/audit", params=question | ({"cursor": cursor} if cursor else {}))
        entries, cursor, pages = entries + page.json()["totals"]["entries"], page.json()["next"], pages + 1
        if cursor is None:
            break
    assert pages > 2
    assert found["totals"]["entries"] == entries == 1201 + 7 + 7
    assert found["totals"]["kinds"]["capture"] == {"count": 606, "amountMicrocredits": 606 * 7}
    assert found["totals"]["counters"]["revenue:chat"]["amountMicrocredits"] == 606 * 7
    assert found["totals"]["closing"] == {"postedMicrocredits": 3_000_000 - 606 * 7, "heldMicrocredits": 0}
    assert found["totals"]["doubleEntry"] == {"imbalanceMicrocredits": 0}
    target = tmp_path / "audit.csv"
    written = ledger_command(backend, "audit", "--from", "2026-01-01", "--format", "csv", "--out", str(target))
    assert written.returncode == 0, written.stderr
    rows = list(csv.DictReader(io.StringIO(target.read_text())))
    totals = {(row["section"], row["name"]): row for row in rows if not row["uid"]}
    assert totals["kind", "capture"]["count"] == "606"
    assert totals["total", "accounts"]["count"] == "3"
    assert {row["uid"] for row in rows} == {"", *uids}


def test_an_account_that_does_not_add_up_is_exit_code_1_and_named(backend: Backend) -> None:
    uid = busy(backend)
    entry = backend.firestore.collection("accounts").document(uid).collection("entries").document(f"{3:012d}")
    content = entry.get().get("content")
    entry.update({"content": content.replace(b'"amount":7,', b'"amount":6,')})
    finished = ledger_command(backend, "audit", "--uid", uid)
    assert finished.returncode == 1
    found = json.loads(finished.stdout)
    assert [(each["seq"], each["code"]) for each in found["accounts"][0]["chain"]["findings"]] == [(3, "HASH_MISMATCH")]
    assert found["totals"]["sound"] is False
    assert found["totals"]["doubleEntry"]["imbalanceMicrocredits"] == -1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("audit", "--from", "soon"), "--from"),
        (("audit", "--from", "2026-02-01", "--to", "2026-01-01"), "--from must not be later"),
        (("audit", "--uid", "nobody"), "no account nobody"),
        (("audit", "--out", "/nowhere/audit.json"), "/nowhere"),
        (("export", "nobody"), "no account nobody"),
        (("freeze", "nobody", "--reason", " "), "--reason"),
    ],
)
def test_what_cannot_be_done_is_exit_code_2_and_named(backend: Backend, arguments: tuple[str, ...], told: str) -> None:
    finished = ledger_command(backend, *arguments)
    assert finished.returncode == 2, finished.stdout
    assert told in finished.stderr
    assert "Traceback" not in finished.stderr


def test_an_operator_freezes_and_thaws(backend: Backend) -> None:
    client = backend.funded(1_000_000)
    uid = uid_of(client)
    assert ledger_command(backend, "freeze", uid, "--reason", "stolen").returncode == 0
    assert call(backend, client, "POST", "/credits/reserve", {"amountMicrocredits": 1}).status_code == 423
    again = ledger_command(backend, "freeze", uid, "--reason", "stolen")
    assert (again.returncode, "frozen already" in again.stderr) == (1, True)
    entry = backend.ledger().entry(uid, 2)
    assert entry is not None
    operation = backend.ledger().outcome(uid, entry.fields()["opId"])
    assert operation is not None
    assert operation.memo == "stolen"
    assert (operation.actor or "").startswith("operator:")
    assert backend.admin(f"balances/{uid}").get()["seq"] == 2
    assert ledger_command(backend, "unfreeze", uid, "--reason", "found").returncode == 0
    assert call(backend, client, "POST", "/credits/reserve", {"amountMicrocredits": 1}).status_code == 201
    assert ledger_command(backend, "freeze", "nobody", "--reason", "x").returncode == 1


def test_verify_compares_an_account_with_what_was_published(backend: Backend) -> None:
    """The newest entry is replaced by another one that we signed ourselves, and the head with it."""
    uid = busy(backend, 1)
    assert backend.checkpoint() == 200
    assert ledger_command(backend, "verify", uid).returncode == 0
    last = backend.ledger().entry(uid, 3)
    assert last is not None
    content = last.content.replace(b'"counter":"revenue:chat"', b'"counter":"revenue:chit"')
    digest = entry_hash(content)
    key_id, signature = Keyring.from_text(SIGNING_KEY, []).sign(digest)
    account = backend.firestore.collection("accounts").document(uid)
    account.collection("entries").document(f"{3:012d}").set(
        entry_to_document(StoredEntry(content, digest, key_id, signature))
    )
    counters = {"expense:bonus": -1_000_000, "revenue:chit": 7}
    account.update({"headHash": digest, "counters": counters})
    finished = ledger_command(backend, "verify", uid)
    assert finished.returncode == 1
    assert "entry 3: FORKED" in finished.stdout
    assert finished.stdout.count("\nentry ") == 1


def test_a_receipt_of_the_running_ledger_verifies_offline(backend: Backend, tmp_path: Path) -> None:
    client = backend.funded(1_000_000)
    uid = uid_of(client)
    receipt, keys, checkpoint, proof = (tmp_path / name for name in ("receipt", "keys", "checkpoint", "proof"))
    keys.write_text(json.dumps(call(backend, None, "GET", "/ledger/keys").json()))

    def fetch() -> None:
        receipt.write_text(json.dumps(call(backend, client, "GET", f"/accounts/{uid}/ledger/entries/1/receipt").json()))

    fetch()
    options = [str(receipt), "--keys", str(keys)]
    assert ledger_command(backend, "verify", *options).returncode == 3
    assert backend.checkpoint() == 200
    latest = call(backend, None, "GET", "/ledger/checkpoints/latest").json()
    checkpoint.write_text(json.dumps(latest))
    fetch()
    assert ledger_command(backend, "verify", *options).returncode == 0
    backend.ledger(now=lambda: START + timedelta(days=1)).credit(
        uid, op_id="later", kind="grant", amount=5, counter="expense:bonus"
    )
    assert backend.checkpoint() == 200
    seq = {"from": latest["size"], "to": call(backend, None, "GET", "/ledger/checkpoints/latest").json()["size"]}
    proof.write_text(json.dumps(call(backend, None, "GET", "/ledger/consistency", params=seq).json()))
    receipt.write_text(json.dumps(call(backend, client, "GET", f"/accounts/{uid}/ledger/entries/2/receipt").json()))
    finished = ledger_command(backend, "verify", *options, "--checkpoint", str(checkpoint), "--consistency", str(proof))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert ledger_command(backend, "verify", str(proof), "--keys", str(keys)).returncode == 0
