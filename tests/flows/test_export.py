"""The export of everything that is held about one person, over HTTPS and offline."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from support.api import add_device, administrator, call, dump, uid_of
from support.backend import Backend
from support.operator import ledger_command
from support.waiting import eventually

from cli.client import Client
from concierge.credits.exports.verification import assemble, keys_of, verify_export

START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def backend(own_backend: Backend) -> Iterator[Backend]:
    yield own_backend
    own_backend.clear_faults()
    own_backend.close_clients()


def pages(backend: Backend, client: Client, uid: str, limit: int = 500) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        parameters = {"limit": limit} | ({"cursor": cursor} if cursor is not None else {})
        answer = call(backend, client, "GET", f"/accounts/{uid}/export", params=parameters)
        assert answer.status_code == 200, answer.text
        found.append(answer.json())
        cursor = found[-1]["next"]
        if cursor is None:
            return found


def faults(document: Any) -> list[str]:
    export = assemble(json.loads(json.dumps(document)))
    return [check.fault for check in verify_export(export, keys_of(export)).checks if not check.passed]


@pytest.fixture
def client(backend: Backend) -> Client:
    """Somebody with answers, an open reservation, a refused one, an order of an administrator, and a checkpoint."""
    client = backend.client()
    add_device(backend, client)
    uid = uid_of(client)
    eventually(lambda: backend.ledger().head(uid), "the welcome bonus")
    assert backend.answer(client, "hello")["status"] == "done"
    ledger = backend.ledger()
    ledger.place_hold(uid, "open", request_hash="h", run_id="api", amount=5_000, minimum=5_000)
    ledger.place_hold(uid, "refused", request_hash="h", run_id="api", amount=2**50, minimum=2**50)
    ledger.adjust(uid, op_id="a1", amount=77, counter="expense:goodwill", memo="an apology", actor="operator:o")
    assert backend.checkpoint() == 200
    return client


@pytest.mark.parametrize("limit", [1, 2, 3, 500])
def test_an_export_is_all_there_is(backend: Backend, client: Client, limit: int) -> None:
    """Compared with the database itself."""
    uid = uid_of(client)
    export = assemble(pages(backend, client, uid, limit))
    account = backend.firestore.collection("accounts").document(uid)
    head = account.get().to_dict()
    assert (export["head"]["seq"], export["head"]["hash"]) == (head["seq"], head["headHash"])
    assert export["head"]["postedMicrocredits"] == head["posted"]
    stored = {int(each.id): each.to_dict() for each in account.collection("entries").stream()}
    assert [entry["seq"] for entry in export["entries"]] == sorted(stored)
    for entry in export["entries"]:
        assert base64.b64decode(entry["content"]) == stored[entry["seq"]]["content"]
        assert base64.b64decode(entry["signature"]) == stored[entry["seq"]]["signature"]
        assert entry["fields"] == json.loads(stored[entry["seq"]]["content"])
    assert {each["opId"] for each in export["operations"]} == {each.id for each in account.collection("ops").stream()}
    holds = {each.id: each.to_dict() for each in account.collection("holds").stream()}
    assert {each["holdId"]: each["state"] for each in export["holds"]} == {
        hold_id: hold["state"] for hold_id, hold in holds.items()
    }
    assert {"open", "refused"} < set(holds)
    leaf = export["sections"]["checkpoints"]["leaf"]
    assert (leaf["seq"], leaf["hash"]) == (head["seq"], head["headHash"])
    claims = [each for each in backend.firestore.collection("bonusClaims").stream() if each.get("uid") == uid]
    assert {each["hash"] for each in export["sections"]["bonusClaims"]} == {each.id for each in claims}
    assert len(claims) >= 2
    assert faults(export) == []


def test_the_sections_of_a_withheld_bonus_depend_on_who_asks(backend: Backend) -> None:
    client, admin = backend.funded(1_000), administrator(backend)
    uid = uid_of(client)
    review = {"state": "withheld", "points": 90, "reasons": ["many accounts of this network"], "at": START}
    backend.firestore.collection("bonusReviews").document(uid).set(review)
    own = pages(backend, client, uid)[0]["sections"]
    assert own["bonusReview"] == {"state": "withheld", "at": "2026-03-01T00:00:00.000Z"}
    assert "network" not in json.dumps(own)
    theirs = pages(backend, admin, uid)[0]["sections"]
    assert (theirs["bonusReviewInternal"]["points"], theirs["bonusReviewInternal"]["reasons"]) == (
        90,
        review["reasons"],
    )


def test_who_ordered_something_is_for_administrators(backend: Backend, client: Client) -> None:
    uid, admin = uid_of(client), administrator(backend)
    own = {each["opId"]: each for each in pages(backend, client, uid)[0]["operations"]}
    assert own["a1"]["reason"] == "an apology"
    assert "actor" not in own["a1"]
    theirs = {each["opId"]: each for each in pages(backend, admin, uid)[0]["operations"]}
    assert theirs["a1"]["actor"] == "operator:o"


def test_what_happens_meanwhile_is_left_out(backend: Backend, client: Client) -> None:
    uid = uid_of(client)
    first = call(backend, client, "GET", f"/accounts/{uid}/export", params={"limit": 2}).json()
    backend.ledger().credit(uid, op_id=uuid4().hex, kind="grant", amount=5, counter="expense:bonus")
    rest, cursor = [first], first["next"]
    while cursor is not None:
        page = call(backend, client, "GET", f"/accounts/{uid}/export", params={"limit": 2, "cursor": cursor}).json()
        rest.append(page)
        cursor = page["next"]
    assert len(assemble(rest)["entries"]) == first["head"]["seq"]
    assert faults(rest) == []


def test_somebody_else_gets_nothing(backend: Backend, client: Client) -> None:
    uid, other, admin = uid_of(client), backend.funded(1_000), administrator(backend)
    before = dump(backend)
    assert call(backend, None, "GET", f"/accounts/{uid}/export").status_code == 401
    assert call(backend, other, "GET", f"/accounts/{uid}/export").status_code == 403
    assert call(backend, other, "GET", "/accounts/nobody/export").status_code == 403
    assert call(backend, admin, "GET", "/accounts/nobody/export").status_code == 404
    cursor = call(backend, client, "GET", f"/accounts/{uid}/export", params={"limit": 1}).json()["next"]
    for parameters, field in (
        ({"cursor": cursor}, "cursor"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"limit": "0"}, "limit"),
        ({"limit": "501"}, "limit"),
        ({"page": "1"}, "page"),
    ):
        answer = call(backend, other, "GET", f"/accounts/{uid_of(other)}/export", params=parameters)
        assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert dump(backend) == before


def test_a_changed_export_does_not_verify(backend: Backend, client: Client) -> None:
    whole = pages(backend, client, uid_of(client))[0]

    def after(change: Any) -> list[str]:
        changed = json.loads(json.dumps(whole))
        change(changed)
        return faults(changed)

    def dearer(export: Any) -> None:
        content = base64.b64decode(export["entries"][0]["content"]).replace(b'"amount":1', b'"amount":2')
        export["entries"][0]["content"] = base64.b64encode(content).decode()
        export["entries"][0]["fields"] = json.loads(content)

    assert after(lambda export: None) == []
    assert "entry 1: HASH_MISMATCH" in after(dearer)[0]
    assert "entry 2: MISSING_ENTRY" in after(lambda export: export["entries"].pop(1))[0]
    assert "TRUNCATED" in after(lambda export: export["entries"].pop())[0]
    assert "HEAD_MISMATCH" in after(lambda export: export["head"].update(postedMicrocredits=5))[0]
    assert "fields" not in after(lambda export: export["entries"][0]["fields"].update(amount=5))[0]
    assert "entry 1" in after(lambda export: export["entries"][0]["fields"].update(amount=5))[0]
    assert "another hash" in after(lambda export: export["operations"][0].update(entryHash="0" * 64))[0]
    assert "another hash" in after(lambda export: export["holds"][0].update(entryHash="0" * 64))[0]
    forked = after(lambda export: export["sections"]["checkpoints"]["leaf"].update(hash="0" * 64))
    assert "FORKED" in forked[0]
    assert after(lambda export: export["entries"][0].pop("fields")) == ["fields is missing"]


def test_an_operator_exports_and_anybody_verifies_offline(backend: Backend, client: Client, tmp_path: Path) -> None:
    uid, target = uid_of(client), tmp_path / "export.json"
    exported = ledger_command(backend, "export", uid, "--out", str(target))
    assert exported.returncode == 0, exported.stderr
    assert target.stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.iterdir()] == ["export.json"]
    written = json.loads(target.read_text())
    assert written["entries"] == pages(backend, client, uid)[0]["entries"]
    assert written["operations"] == pages(backend, administrator(backend), uid)[0]["operations"]
    shown = ledger_command(backend, "export", uid)
    assert json.loads(shown.stdout)["holds"] == written["holds"]
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps(call(backend, None, "GET", "/ledger/keys").json()))
    offline = subprocess.run(
        [sys.executable, "-m", "cli.main", "ledger", "verify", str(target), "--keys", str(keys)],
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    assert offline.returncode == 0, offline.stdout + offline.stderr
    assert "verified" in offline.stdout.splitlines()
    missing = ledger_command(backend, "export", "nobody", "--out", str(tmp_path / "other.json"))
    assert missing.returncode == 2
    assert not (tmp_path / "other.json").exists()


def test_an_export_longer_than_a_page_is_one_document(backend: Backend, tmp_path: Path) -> None:
    client = backend.funded(1_000_000)
    uid, ledger = uid_of(client), backend.ledger()
    for number in range(300):
        ledger.place_hold(uid, f"h{number}", request_hash="h", run_id="r", amount=10, minimum=10)
        ledger.release(uid, f"h{number}")
    target = tmp_path / "export.json"
    assert ledger_command(backend, "export", uid, "--out", str(target)).returncode == 0
    written = json.loads(target.read_text())
    assert [len(written[name]) for name in ("entries", "operations", "holds")] == [601, 1, 300]
    assert faults(written) == []
    assert len(pages(backend, client, uid)) == 2
