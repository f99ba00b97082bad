"""What a hostile world sends: odd text, absurd counts, lost answers, late writes, strange user ids."""

import threading
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from support.backend import Backend
from support.provider import Behaviour, ScriptedProvider
from support.waiting import eventually

from cli.client import ClientError, numbered

WORDS = [f"w{number} " for number in range(12)]


def uid_of(client: Any) -> str:
    uid: str = client.session.uid
    return uid


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["Hi ", "\ud83d", "\ude00", "!"], "Hi \U0001f600!"),
        (["Hi ", "\ud83d", " there"], "Hi \ufffd there"),
        (["Hi ", "\ude00"], "Hi \ufffd"),
        (["end ", "\ud83d"], "end \ufffd"),
        (["nul\x00 ", "\x07", "\ufeff\uffff"], "nul\x00 \x07\ufeff\uffff"),
    ],
    ids=["pair over two pieces", "high half", "low half", "half at the end", "controls"],
)
def test_text_that_utf8_cannot_carry(
    backend: Backend, provider: ScriptedProvider, tokens: list[str], text: str
) -> None:
    marker = uuid4().hex
    provider.on(marker, Behaviour(tokens=tokens))
    client = backend.welcomed()
    response = backend.answer(client, marker)
    assert (response["status"], response["text"]) == ("done", text)
    backend.audit(client)


def test_a_piece_of_megabytes_is_cut(backend: Backend, provider: ScriptedProvider) -> None:
    provider.on("megabytes", Behaviour(tokens=["Hi ", "x" * 11_000_000], usage=None))
    client = backend.welcomed()
    response = backend.answer(client, "megabytes", options={"maxTokens": 100})
    assert response["status"] == "done"
    assert len(response["text"]) == 100 * 128
    assert response["cost"]["chargedMicrocredits"] <= response["cost"]["heldMicrocredits"]
    backend.audit(client)


@pytest.mark.parametrize("count", [101, 10**6, 10**18])
def test_a_count_beyond_the_ceiling_is_estimated(backend: Backend, provider: ScriptedProvider, count: int) -> None:
    marker = uuid4().hex
    provider.on(marker, Behaviour(usage={"prompt_tokens": 20, "completion_tokens": count, "total_tokens": count}))
    client = backend.welcomed()
    response = backend.answer(client, marker, options={"maxTokens": 100})
    assert response["status"] == "done"
    assert response["usage"]["estimated"] is True
    assert response["usage"]["outputTokens"] == 4
    backend.audit(client)


def test_a_chunk_does_not_change_when_its_answer_was_lost(backend: Backend, provider: ScriptedProvider) -> None:
    """The write was applied, the database said it failed: it is repeated as it was, not with what came since."""
    gate = threading.Event()
    provider.on("lost-chunk", Behaviour(tokens=WORDS, token_seconds=0.3, gate=gate, gate_at=1))
    client = backend.welcomed()
    backend.restart_functions(REQUEST_LEASE_SECONDS="60")
    request_id = backend.ask(client, "lost-chunk")
    backend.await_status(client, request_id, "streaming")
    seen: dict[int, set[str]] = {}
    with client.listen(f"responses/{uid_of(client)}/{request_id}") as listener:
        # One attempt, and the four repetitions of the Admin SDK.
        backend.fault("rtdb.PATCH", "error_after", count=5)
        gate.set()
        for value in listener.values(60):
            for number, text in numbered((value or {}).get("chunks")).items():
                seen.setdefault(number, set()).add(text)
            if value is not None and value["status"] == "done":
                break
    backend.restart_functions()
    assert {number: texts for number, texts in seen.items() if len(texts) > 1} == {}
    assert "".join(seen[number].pop() for number in sorted(seen)) == "".join(WORDS)
    backend.audit(client)


def reopened(backend: Backend, client: Any, request_id: str) -> None:
    """The sweeper takes a run for dead and ends it; then a write of that run arrives, which was only slow."""
    path = f"responses/{uid_of(client)}/{request_id}"
    backend.await_status(client, request_id, "accepted")

    def swept() -> bool:
        # As if the heartbeats had not arrived for long.
        backend.admin(path).update({"updatedAt": 1})
        backend.sweep()
        return bool(backend.response(client, request_id)["status"] == "failed")

    eventually(swept, "the sweep")
    backend.admin(path).update({"status": "accepted", "updatedAt": {".sv": "timestamp"}})


def test_a_write_that_comes_after_the_sweep_does_not_reopen_the_request(
    backend: Backend, provider: ScriptedProvider
) -> None:
    silence = threading.Event()
    provider.on("late-write", Behaviour(silence=silence))
    client = backend.welcomed()
    request_id = backend.ask(client, "late-write")
    reopened(backend, client, request_id)
    silence.set()
    backend.idle()
    assert backend.response(client, request_id)["status"] == "failed"
    assert backend.admin(f"requests/{uid_of(client)}").get() is None
    assert backend.kinds(client) == ["grant", "hold", "release"]
    backend.audit(client)


def test_a_run_that_reopens_a_response_and_dies_is_ended_all_the_same(
    backend: Backend, provider: ScriptedProvider
) -> None:
    silence = threading.Event()
    provider.on("late-and-dead", Behaviour(silence=silence))
    client = backend.welcomed()
    request_id = backend.ask(client, "late-and-dead")
    reopened(backend, client, request_id)
    backend.kill_functions()
    backend.restart_functions()
    silence.set()
    request = backend.admin(f"requests/{uid_of(client)}/{request_id}")
    eventually(lambda: backend.sweep() or request.get() is None, "the closing")
    assert backend.response(client, request_id)["status"] == "failed"
    assert backend.kinds(client) == ["grant", "hold", "release"]
    backend.audit(client)


def test_the_repair_of_a_broken_answer_does_not_call_it_done(backend: Backend, provider: ScriptedProvider) -> None:
    provider.on("broken-then-crash", Behaviour(die_after=2))
    client = backend.welcomed()
    backend.restart_functions(CONCIERGE_FAULT="capture.after:exit")
    request_id = backend.ask(client, "broken-then-crash")
    backend.await_crash()
    eventually(lambda: backend.sweep() or backend.response(client, request_id).get("status") in ("done", "failed"))
    response = backend.response(client, request_id)
    assert (response["status"], response["error"]["code"]) == ("failed", "PROVIDER_UNAVAILABLE")
    assert response["text"] == "Hello, "
    assert backend.kinds(client) == ["grant", "hold", "capture"]
    backend.audit(client)


def test_one_broken_hold_does_not_keep_the_others(backend: Backend) -> None:
    broken, other = backend.funded(1_000), backend.funded(1_000)
    short = backend.ledger(hold_lifetime=timedelta(0))
    for client in (broken, other):
        short.place_hold(uid_of(client), "left", request_hash="h", run_id="r", amount=400, minimum=400)
    # Deleting a document by hand leaves its subcollections.
    account = backend.firestore.document(f"accounts/{uid_of(broken)}")
    account.delete()
    try:
        backend.sweep()
        assert backend.kinds(other) == ["grant", "hold", "expire"]
    finally:
        account.collection("holds").document("left").delete()


@pytest.mark.parametrize("fault", ["duplicate", "lost answer"])
def test_a_refusal_told_twice_is_no_conflict(backend: Backend, fault: str) -> None:
    client = backend.welcomed()
    # What follows the balance writes as well.
    backend.idle()
    if fault == "duplicate":
        backend.fault("trigger.request_created", "duplicate")
    else:
        # The client's own write comes first.
        backend.fault("rtdb.PUT", "error_after", skip=1)
    request_id = backend.ask(client, "hello", kind="image")
    backend.await_status(client, request_id)
    backend.idle()
    response = backend.response(client, request_id)
    assert response["error"]["code"] == "INVALID_ARGUMENT"
    assert "conflict" not in response
    assert backend.admin(f"requests/{uid_of(client)}").get() is None


def test_whole_numbers_may_come_as_floats(backend: Backend, provider: ScriptedProvider) -> None:
    provider.on("whole-float", Behaviour())
    client = backend.welcomed()
    assert backend.answer(client, "whole-float", options={"maxTokens": 5.0})["status"] == "done"
    assert provider.requests["whole-float"][-1]["max_tokens"] == 5


@pytest.mark.parametrize(("uid", "other"), [("victi%6d", "victim"), ("what?x", "what")])
def test_a_user_id_names_one_person(backend: Backend, uid: str, other: str) -> None:
    """Custom tokens allow such ids; in a URL they would mean somebody else's path."""
    backend.ledger().credit(uid, op_id="welcome-bonus", kind="grant", amount=10**9, counter="expense:bonus")
    body = {"kind": "chat", "conversationId": "c", "text": "hello", "createdAt": 1}
    backend.admin("/").update({f"requests/{uid}/r1": body})
    responses = backend.admin("responses")
    eventually(lambda: ((responses.get() or {}).get(uid) or {}).get("r1", {}).get("status") == "done", "the answer")
    backend.idle()
    assert backend.admin(f"balances/{other}").get() is None
    assert backend.admin(f"responses/{other}").get() is None


@pytest.mark.parametrize("limit", ["0" * 19 + "19999", "0" * 19 + "1" * 5000])
def test_the_limit_of_a_page_holds(backend: Backend, limit: str) -> None:
    client = backend.welcomed()
    with pytest.raises(ClientError, match=": 400 "):
        client.api(f"/accounts/{uid_of(client)}/ledger/entries", limit=limit)
