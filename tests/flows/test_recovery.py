"""Lost deliveries, malformed writes, and what the sweeper makes of them."""

import threading
import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from support.backend import Backend
from support.provider import Behaviour, ScriptedProvider
from support.waiting import eventually


def uid_of(client: Any) -> str:
    uid: str = client.session.uid
    return uid


@pytest.mark.acceptance("O02")
def test_a_lost_delivery_is_found_and_run(backend: Backend, provider: ScriptedProvider) -> None:
    provider.on("o02", Behaviour())
    client = backend.welcomed()
    backend.fault("trigger.request_created", "drop")
    request_id = backend.ask(client, "o02")
    backend.idle()
    assert backend.response(client, request_id) == {}
    assert provider.calls["o02"] == 0
    backend.sweep()
    response = backend.await_status(client, request_id)
    assert (response["status"], response["text"]) == ("done", "Hello, world.")
    backend.sweep()
    assert provider.calls["o02"] == 1
    backend.audit(client)


def test_functions_that_are_down_lose_nothing(backend: Backend) -> None:
    client = backend.welcomed()
    backend.kill_functions()
    request_id = backend.ask(client, "hello")
    backend.restart_functions()
    eventually(lambda: backend.sweep() or backend.response(client, request_id).get("status") == "done", "the sweep")
    assert backend.audit(client).head.posted == 1_000_000_000 - 360


def test_a_crash_right_after_the_hold_is_ended_by_the_sweep(backend: Backend, provider: ScriptedProvider) -> None:
    client = backend.welcomed()
    backend.restart_functions(CONCIERGE_FAULT="hold.after:exit")
    request_id = backend.ask(client, "hello")
    backend.await_crash()
    eventually(lambda: backend.sweep() or backend.response(client, request_id).get("status") == "failed", "the sweep")
    assert backend.response(client, request_id)["error"]["code"] == "INTERRUPTED"
    assert backend.kinds(client) == ["grant", "hold", "release"]
    backend.audit(client)


@pytest.mark.parametrize(
    "raw",
    [True, 5, "text", {"kind": 7}, {"text": {"deep": {"er": 1}}}, {"kind": "chat", "text": "x" * 40_000}],
    ids=["true", "number", "text", "kind", "nested", "oversized"],
)
def test_a_malformed_request_gets_a_typed_error_and_crashes_nothing(backend: Backend, raw: Any) -> None:
    """Past the rules, where only an administrator or an old client's rules could let it through."""
    client = backend.welcomed()
    request_id = uuid4().hex
    backend.admin(f"requests/{uid_of(client)}/{request_id}").set(raw)
    response = backend.await_status(client, request_id)
    assert response["error"]["code"] == "INVALID_ARGUMENT"
    assert response["error"]["field"]
    backend.idle()
    deliveries = [row for row in backend.deliveries() if row["function"] == "request_created"]
    assert deliveries[-1]["status"] == 200
    assert backend.kinds(client) == ["grant"]


def test_no_credits_says_how_much_is_missing(backend: Backend) -> None:
    client = backend.funded(1)
    response = backend.answer(client, "hello", options={"maxTokens": 10})
    error = response["error"]
    assert error["code"] == "INSUFFICIENT_CREDITS"
    assert error["availableMicrocredits"] == 1
    richer = backend.funded(1 + error["missingMicrocredits"])
    assert backend.answer(richer, "hello", options={"maxTokens": 10})["status"] == "done"
    poorer = backend.funded(error["missingMicrocredits"])
    assert backend.answer(poorer, "hello", options={"maxTokens": 10})["status"] == "failed"


def test_an_expired_hold_of_a_dead_run_is_swept(backend: Backend) -> None:
    client = backend.funded(1_000)
    short = backend.ledger(hold_lifetime=timedelta(0))
    short.place_hold(uid_of(client), "left-behind", request_hash="h", run_id="r", amount=400, minimum=400)
    assert backend.ledger().head(uid_of(client)).held == 400  # type: ignore[union-attr]
    backend.sweep()
    backend.idle()
    assert backend.kinds(client) == ["grant", "hold", "expire"]
    assert client.read(f"balances/{uid_of(client)}")["held"] == 0
    backend.audit(client)


def test_the_mirror_never_goes_back(backend: Backend) -> None:
    """Deliveries of account changes may come late and out of order: an older head does not cover a newer one."""
    client = backend.welcomed()
    backend.fault("trigger.account_written", "delay", delay_ms=1_500)
    response = backend.answer(client, "hello")
    backend.idle()
    balance = client.read(f"balances/{uid_of(client)}")
    assert (balance["seq"], balance["held"]) == (response["receipt"]["entrySeq"], 0)


def test_the_mirror_follows_what_no_request_did(backend: Backend) -> None:
    client = backend.welcomed()
    ledger = backend.ledger()
    ledger.credit(uid_of(client), op_id="gift", kind="grant", amount=5, counter="expense:support")
    backend.idle()
    assert client.read(f"balances/{uid_of(client)}")["posted"] == 1_000_000_005


def test_a_lost_request_of_a_client_whose_clock_is_ahead_is_run(backend: Backend) -> None:
    client = backend.welcomed()
    backend.fault("trigger.request_created", "drop")
    request_id = backend.ask(client, "hello", createdAt=int(time.time() * 1000) + 3_600_000)
    backend.idle()
    backend.sweep()
    assert backend.await_status(client, request_id)["status"] == "done"


def test_a_slow_run_does_not_overwrite_what_the_sweeper_ended(backend: Backend, provider: ScriptedProvider) -> None:
    """A run that was only slow finds its hold released: the terminal status stays as it is."""
    silence = threading.Event()
    provider.on("slow-run", Behaviour(silence=silence, tokens=[]))
    client = backend.welcomed()
    request_id = backend.ask(client, "slow-run")
    backend.await_status(client, request_id, "accepted")
    response_path = f"responses/{uid_of(client)}/{request_id}"

    def swept() -> bool:
        # As if the heartbeats had not arrived for long.
        backend.admin(response_path).update({"updatedAt": 1})
        backend.sweep()
        return backend.response(client, request_id)["status"] == "failed"

    eventually(swept, "the sweep")
    silence.set()
    backend.idle()
    response = backend.response(client, request_id)
    assert (response["status"], response["error"]["code"]) == ("failed", "INTERRUPTED")
    assert backend.kinds(client) == ["grant", "hold", "release"]
    backend.audit(client)
