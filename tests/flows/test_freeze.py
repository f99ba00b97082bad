"""Freezing and unfreezing an account, as administrators do it over HTTPS."""

import hashlib
import threading
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from support.api import administrator, call, dump, uid_of
from support.backend import Backend
from support.provider import Behaviour, ScriptedProvider
from support.waiting import eventually

from cli.client import Client
from concierge.api.idempotency import LEASE

CREDITS = 1_000_000


@pytest.fixture
def admin(backend: Backend) -> Client:
    return administrator(backend)


def freeze(
    backend: Backend, admin: Client | None, uid: str, key: str | None = None, reason: Any = "a chargeback", un: str = ""
) -> Any:
    return call(backend, admin, "POST", f"/accounts/{uid}/{un}freeze", {"reason": reason}, key=key)


def test_a_frozen_account_is_refused_and_settles_what_is_under_way(
    backend: Backend, provider: ScriptedProvider, admin: Client
) -> None:
    client, gate, marker = backend.funded(10_000_000), threading.Event(), uuid4().hex
    uid = uid_of(client)
    provider.on(marker, Behaviour(tokens=["one ", "two"], gate=gate, gate_at=1))
    running = backend.ask(client, marker)
    backend.await_status(client, running, "streaming")
    answer = freeze(backend, admin, uid)
    assert answer.status_code == 200, answer.text
    assert answer.json()["frozen"] is True
    refused = call(backend, client, "POST", "/credits/reserve", {"amountMicrocredits": 1_000})
    assert (refused.status_code, refused.json()["code"]) == (423, "ACCOUNT_FROZEN")
    asked = backend.answer(client, "not while frozen")
    assert (asked["status"], asked["error"]["code"]) == ("failed", "ACCOUNT_FROZEN")
    assert provider.calls.get("not while frozen", 0) == 0
    assert call(backend, client, "GET", "/credits/balance").json()["frozen"] is True
    gate.set()
    done = backend.await_status(client, running)
    assert done["status"] == "done"
    assert done["cost"]["chargedMicrocredits"] > 0
    thawed = freeze(backend, admin, uid, un="un", reason="it was a mistake")
    assert thawed.json()["frozen"] is False
    assert backend.answer(client, "after the thaw")["status"] == "done"
    backend.audit(client)


def test_actor_and_reason_are_kept_and_the_entry_holds_the_reasons_hash(backend: Backend, admin: Client) -> None:
    uid = uid_of(backend.funded(CREDITS))
    receipt = freeze(backend, admin, uid, reason="Überprüfung").json()["receipt"]
    entry = backend.ledger().entry(uid, receipt["entrySeq"])
    assert entry is not None
    assert entry.hash == receipt["hash"]
    fields = entry.fields()
    assert (fields["kind"], fields["counter"], fields["amount"]) == ("adjust", "control:freeze", 0)
    operation = backend.ledger().outcome(uid, fields["opId"])
    assert operation is not None
    assert (operation.actor, operation.memo) == (uid_of(admin), "Überprüfung")
    assert "Überprüfung" not in entry.content.decode()
    assert len(fields["memoHash"]) == 64


def test_the_mirror_is_written_by_the_call_itself(backend: Backend, admin: Client) -> None:
    """The trigger that would do it later is lost."""
    uid = uid_of(backend.funded(CREDITS))
    eventually(lambda: backend.admin(f"balances/{uid}").get(), "the mirror")
    backend.idle()
    backend.fault("trigger.account_written", "drop")
    receipt = freeze(backend, admin, uid).json()["receipt"]
    assert backend.admin(f"balances/{uid}").get()["seq"] == receipt["entrySeq"]


def test_each_of_the_two_entries_verifies_by_itself(backend: Backend, admin: Client) -> None:
    client = backend.funded(CREDITS)
    for un in ("", "un"):
        seq = freeze(backend, admin, uid_of(client), un=un).json()["receipt"]["entrySeq"]
        found = call(backend, client, "GET", f"/credits/verify/{seq}").json()
        assert found["findings"] == []


def test_sent_again_it_is_done_once(backend: Backend, admin: Client) -> None:
    uid, key = uid_of(backend.funded(CREDITS)), uuid4().hex
    first, again = freeze(backend, admin, uid, key), freeze(backend, admin, uid, key)
    assert first.status_code == again.status_code == 200
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    other = freeze(backend, admin, uid, key, reason="something else")
    assert (other.status_code, other.json()["code"]) == (409, "CONFLICT")
    assert len(backend.ledger().entries(uid)) == 2


def test_an_instance_that_dies_after_the_act_leads_to_one_act(backend: Backend, admin: Client) -> None:
    """The answer is lost with the instance; the same key meets the same operation."""
    uid, key = uid_of(backend.funded(CREDITS)), uuid4().hex
    backend.restart_functions(CONCIERGE_FAULT="commit.after:exit")
    assert freeze(backend, admin, uid, key).status_code >= 500
    backend.await_crash()
    assert [entry.fields()["kind"] for entry in backend.ledger().entries(uid)] == ["grant", "adjust"]
    # The dead one's claim on the key ends a lease later.
    digest = hashlib.sha256(f"{uid_of(admin)}\0{key}".encode()).hexdigest()
    claim = backend.firestore.collection("idempotency").document(digest)
    claim.update({"claimedAt": datetime.now(UTC) - LEASE})
    answer = freeze(backend, admin, uid, key)
    assert (answer.status_code, answer.json()["frozen"]) == (200, True)
    assert len(backend.ledger().entries(uid)) == 2


def test_frozen_twice_and_thawed_twice_are_conflicts(backend: Backend, admin: Client) -> None:
    uid = uid_of(backend.funded(CREDITS))
    assert freeze(backend, admin, uid, un="un").status_code == 409
    assert freeze(backend, admin, uid).status_code == 200
    assert freeze(backend, admin, uid).status_code == 409
    assert freeze(backend, admin, uid, un="un").status_code == 200
    assert freeze(backend, admin, uid, un="un").status_code == 409
    assert len(backend.ledger().entries(uid)) == 3


@pytest.mark.parametrize("un", ["", "un"])
def test_bad_calls_write_nothing(backend: Backend, admin: Client, un: str) -> None:
    client = backend.funded(CREDITS)
    uid = uid_of(client)
    eventually(lambda: backend.admin(f"balances/{uid}").get(), "the mirror")
    backend.idle()
    before = dump(backend)
    assert freeze(backend, client, uid, uuid4().hex, un=un).status_code == 403
    assert freeze(backend, client, uid_of(admin), un=un).status_code == 403
    assert freeze(backend, None, uid, un=un).status_code == 401
    assert freeze(backend, admin, "nobody", un=un).status_code == 404
    assert freeze(backend, admin, "x" * 200, un=un).json()["field"] == "uid"
    for reason in (None, "", "  ", 5, "x" * 501, ["a"]):
        answer = freeze(backend, admin, uid, uuid4().hex, reason=reason, un=un)
        assert (answer.status_code, answer.json()["field"]) == (400, "reason")
    extra = call(backend, admin, "POST", f"/accounts/{uid}/{un}freeze", {"reason": "x", "actor": "somebody"})
    assert (extra.status_code, extra.json()["field"]) == (400, "actor")
    backend.idle()
    assert dump(backend) == before
