"""Money: nothing is lost, charged twice or left held, whatever happens on the way."""

import base64
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import uuid4

import pytest
from support.backend import SIGNING_KEY, Backend
from support.provider import Behaviour, ScriptedProvider
from support.waiting import eventually

from cli.client import ClientError
from concierge.errors import Conflict, HoldExpired
from concierge.ledger.entries import StoredEntry
from concierge.ledger.signatures import Keyring
from concierge.ledger.verification import verify_chain

SHORT = {"options": {"maxTokens": 10}}


def uid_of(client: Any) -> str:
    uid: str = client.session.uid
    return uid


def hold_of_one(backend: Backend, text: str) -> int:
    """What a request with this text and SHORT options holds."""
    held: int = backend.answer(backend.welcomed(), text, **SHORT)["cost"]["heldMicrocredits"]
    return held


def test_an_answer_is_held_charged_and_proven(backend: Backend) -> None:
    client = backend.welcomed()
    response = backend.answer(client, "hello")
    assert response["status"] == "done"
    assert response["text"] == "Hello, world."
    assert response["usage"] == {"inputTokens": 20, "outputTokens": 4, "estimated": False}
    assert response["cost"]["chargedMicrocredits"] == 20 * 10 + 4 * 40
    assert backend.kinds(client) == ["grant", "hold", "capture"]
    audit = backend.audit(client)
    assert audit.head.posted == 1_000_000_000 - 360
    assert response["receipt"] == {"entrySeq": 3, "hash": audit.head.hash}
    backend.idle()
    balance = client.read(f"balances/{uid_of(client)}")
    assert (balance["posted"], balance["held"], balance["available"], balance["seq"]) == (
        999_999_640,
        0,
        999_999_640,
        3,
    )


@pytest.mark.acceptance("M01")
def test_parallel_requests_with_funds_for_some(backend: Backend, provider: ScriptedProvider) -> None:
    held = hold_of_one(backend, "m01")
    gate = threading.Event()
    provider.on("m01", Behaviour(gate=gate))
    before = provider.calls["m01"]
    client = backend.funded(3 * held + held - 1)
    ids = [backend.ask(client, "m01", **SHORT) for _ in range(8)]
    eventually(lambda: sum(backend.response(client, i).get("status") == "failed" for i in ids) == 5, "five refusals")
    gate.set()
    responses = [backend.await_status(client, request_id) for request_id in ids]
    assert sorted(response["status"] for response in responses) == ["done"] * 3 + ["failed"] * 5
    refused = [response["error"] for response in responses if response["status"] == "failed"]
    assert {error["code"] for error in refused} == {"INSUFFICIENT_CREDITS"}
    assert all(error["missingMicrocredits"] == 1 for error in refused)
    assert provider.calls["m01"] - before == 3
    backend.audit(client)


@pytest.mark.acceptance("M02")
def test_first_requests_of_an_unknown_user(backend: Backend) -> None:
    client = backend.client()
    with ThreadPoolExecutor(6) as pool:
        ids = list(pool.map(lambda _: backend.ask(client, "hello"), range(6)))
    assert all(backend.await_status(client, request_id)["status"] == "done" for request_id in ids)
    client.put(f"devices/{uid_of(client)}/d1", {"platform": "web", "createdAt": {".sv": "timestamp"}})
    backend.idle()
    assert backend.kinds(client).count("grant") == 1
    assert backend.audit(client).head.posted == 1_000_000_000 - 6 * 360


@pytest.mark.acceptance("M03")
def test_many_concurrent_appends_to_one_account(backend: Backend) -> None:
    client = backend.welcomed()
    with ThreadPoolExecutor(10) as pool:
        ids = list(pool.map(lambda _: backend.ask(client, "hello"), range(25)))
    assert all(backend.await_status(client, request_id)["status"] == "done" for request_id in ids)
    # 25 holds and 25 captures: 50 appends that raced for the same head.
    audit = backend.audit(client)
    assert audit.entries == 51
    assert audit.head.posted == 1_000_000_000 - 25 * 360


@pytest.mark.acceptance("M03")
def test_several_instances_append_to_one_account(backend: Backend) -> None:
    """Instances share no lock: what keeps their entries apart is Firestore alone. The functions are one of them."""
    client = backend.welcomed()
    uid = uid_of(client)

    def append_from_an_instance(number: int) -> None:
        ledger = backend.ledger()
        for step in range(4):
            hold_id = f"instance-{number}-{step}"
            ledger.place_hold(uid, hold_id, request_hash="h", run_id="r", amount=10, minimum=10)
            ledger.capture(uid, hold_id, 1, counter="revenue:chat")
            ledger.credit(uid, op_id=hold_id, kind="refund", amount=1, counter="revenue:chat")

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(backend.ask, client, "hello") for _ in range(4)]
        list(pool.map(append_from_an_instance, range(8)))
    assert all(backend.await_status(client, each.result())["status"] == "done" for each in asked)
    audit = backend.audit(client)
    assert audit.entries == 1 + 8 * 4 * 3 + 4 * 2
    assert audit.head.posted == 1_000_000_000 - 4 * 360


@pytest.mark.acceptance("M04")
@pytest.mark.parametrize("path", ["done", "failed", "cancelled", "crash", "timeout"])
def test_no_terminal_path_leaves_anything_held(backend: Backend, provider: ScriptedProvider, path: str) -> None:
    marker = f"m04-{path}"
    gate = threading.Event()
    behaviour = provider.on(marker, Behaviour(gate=gate, gate_at=2, usage=None))
    client = backend.welcomed()
    if path == "timeout":
        backend.restart_functions(REQUEST_DEADLINE_SECONDS="0.5")
    if path == "failed":
        behaviour.statuses = [500] * 9
    if path == "done":
        gate.set()
    request_id = backend.ask(client, marker)
    if path in ("cancelled", "crash"):
        backend.await_status(client, request_id, "streaming")
    if path == "cancelled":
        client.put(f"cancellations/{uid_of(client)}/{request_id}", True)
    if path == "crash":
        backend.kill_functions()
        backend.restart_functions()
        eventually(lambda: backend.sweep() or backend.response(client, request_id)["status"] == "failed", "the sweep")
    response = backend.await_status(client, request_id)
    gate.set()
    if path == "timeout":
        backend.restart_functions()
    assert response["status"] == {"crash": "failed", "timeout": "failed"}.get(path, path)
    assert backend.audit(client).head.held == 0
    request = backend.admin(f"requests/{uid_of(client)}/{request_id}")
    if path == "crash":
        # What the sweeper ends, it closes a lease later.
        eventually(lambda: backend.sweep() or request.get() is None, "the closing")
    assert request.get() is None
    if path == "crash":
        assert response["error"]["code"] == "INTERRUPTED"
        assert response["text"].startswith("Hello")
        assert backend.kinds(client) == ["grant", "hold", "release"]
    if path == "timeout":
        assert response["error"]["code"] == "DEADLINE_EXCEEDED"
        assert response["text"] == "Hello, "
        assert backend.kinds(client) == ["grant", "hold", "capture"]


@pytest.mark.acceptance("M05")
@pytest.mark.parametrize("action", ["error", "error_after"])
def test_a_capture_that_fails_is_retried_to_one_charge(
    backend: Backend, provider: ScriptedProvider, action: str
) -> None:
    """`error_after` is the nasty one: the commit was applied, and its answer was lost."""
    gate = threading.Event()
    provider.on(f"m05-{action}", Behaviour(gate=gate, gate_at=1))
    client = backend.welcomed()
    request_id = backend.ask(client, f"m05-{action}")
    backend.await_status(client, request_id, "streaming")
    backend.fault("firestore.Commit", action, count=2)
    gate.set()
    response = backend.await_status(client, request_id)
    assert response["status"] == "done"
    assert backend.kinds(client) == ["grant", "hold", "capture"]
    assert backend.audit(client).head.posted == 1_000_000_000 - response["cost"]["chargedMicrocredits"]


@pytest.mark.acceptance("M05")
@pytest.mark.parametrize(
    "point", ["capture.before:exit", "capture.after:exit", "generation.after:exit", "finish.before:exit"]
)
def test_a_crash_around_the_capture_never_charges_twice(backend: Backend, point: str) -> None:
    client = backend.welcomed()
    backend.restart_functions(CONCIERGE_FAULT=point)
    request_id = backend.ask(client, "hello")
    backend.await_crash()
    eventually(lambda: backend.sweep() or backend.response(client, request_id).get("status") in ("done", "failed"))
    response = backend.response(client, request_id)
    captured = point in ("capture.after:exit", "finish.before:exit")
    assert response["status"] == ("done" if captured else "failed")
    assert response["text"] == "Hello, world."
    assert backend.kinds(client) == ["grant", "hold", "capture" if captured else "release"]
    assert backend.audit(client).head.posted == 1_000_000_000 - (360 if captured else 0)


@pytest.mark.acceptance("M05")
def test_a_capture_that_the_ledger_cannot_take_is_made_up_by_the_sweeper(
    backend: Backend, provider: ScriptedProvider
) -> None:
    gate = threading.Event()
    provider.on("m05-postponed", Behaviour(gate=gate, gate_at=1))
    client = backend.welcomed()
    request_id = backend.ask(client, "m05-postponed")
    backend.await_status(client, request_id, "streaming")
    backend.fault("firestore.Commit", "abort", count=1_000)
    gate.set()
    eventually(lambda: backend.admin("housekeeping/settlements").get(), "the postponed settlement")
    assert backend.response(client, request_id)["status"] == "streaming"
    backend.sweep()
    assert backend.kinds(client) == ["grant", "hold"], "the ledger is still down"
    backend.clear_faults()
    backend.sweep()
    response = backend.response(client, request_id)
    assert (response["status"], response["text"]) == ("done", "Hello, world.")
    assert response["cost"]["chargedMicrocredits"] == 360
    backend.sweep()
    assert backend.kinds(client) == ["grant", "hold", "capture"]
    assert backend.admin("housekeeping/settlements").get() is None
    backend.audit(client)


@pytest.mark.acceptance("M06")
@pytest.mark.parametrize("model", ["never-heard-of", "no-price", "zero-price"])
def test_an_unknown_or_zero_price_is_refused(backend: Backend, provider: ScriptedProvider, model: str) -> None:
    client = backend.welcomed()
    response = backend.answer(client, f"m06-{model}", options={"model": model})
    provider.on(f"m06-{model}", Behaviour())
    assert response["status"] == "failed"
    assert response["error"]["code"] == "MODEL_UNPRICED"
    assert response["error"]["model"] == model
    assert not any(model in str(request) for requests in provider.requests.values() for request in requests)
    assert backend.kinds(client) == ["grant"]


@pytest.mark.acceptance("M07")
def test_the_hold_covers_max_tokens_and_shrinks_to_what_is_there(backend: Backend, provider: ScriptedProvider) -> None:
    provider.on("m07", Behaviour())
    rich = backend.answer(backend.welcomed(), "m07")
    full = provider.requests["m07"][-1]
    assert full["max_tokens"] == 1024
    assert rich["cost"]["heldMicrocredits"] >= full["max_tokens"] * 40
    # Not enough for the default ceiling, but for an answer: the ceiling shrinks, the person is not locked out.
    balance = rich["cost"]["heldMicrocredits"] - 20_000
    poor = backend.funded(balance)
    response = backend.answer(poor, "m07")
    assert response["status"] == "done"
    assert response["cost"]["heldMicrocredits"] == balance
    sent = provider.requests["m07"][-1]
    assert sent["max_tokens"] == 1024 - 20_000 // 40
    backend.audit(poor)


@pytest.mark.acceptance("M08")
def test_a_late_capture_is_refused_and_reported(backend: Backend, provider: ScriptedProvider) -> None:
    gate = threading.Event()
    provider.on("m08", Behaviour(gate=gate, gate_at=1))
    client = backend.welcomed()
    backend.restart_functions(RESERVATION_EXPIRY_MINUTES="0.02", REQUEST_DEADLINE_SECONDS="1")
    request_id = backend.ask(client, "m08")
    backend.await_status(client, request_id, "streaming")
    # The read that the capture decides from comes when the hold's 1.2 seconds are over.
    backend.fault("firestore.BatchGetDocuments", "delay", delay_ms=1_500)
    gate.set()
    response = backend.await_status(client, request_id)
    backend.restart_functions()
    assert response["status"] == "failed"
    assert response["error"]["code"] == "HOLD_EXPIRED"
    assert response["cost"]["chargedMicrocredits"] == 0
    assert backend.kinds(client) == ["grant", "hold", "expire"]
    backend.audit(client)


@pytest.mark.acceptance("M08")
@pytest.mark.parametrize("order", [*permutations(["capture", "release", "expire"]), None], ids=str)
def test_capture_release_and_expire_race(backend: Backend, order: tuple[str, ...] | None) -> None:
    """In every order, and all at once: the first resolution stands, and there is one entry of it."""
    client = backend.funded(1_000)
    uid, hold_id = uid_of(client), uuid4().hex
    # Each attempt is an instance of its own: nothing but Firestore keeps them apart.
    backend.ledger().place_hold(uid, hold_id, request_hash="h", run_id="r", amount=500, minimum=500)

    def an_hour_later() -> datetime:
        return datetime.now(UTC) + timedelta(hours=1)

    actions: dict[str, Callable[[], Any]] = {
        "capture": lambda: backend.ledger().capture(uid, hold_id, 100, counter="revenue:chat"),
        "release": lambda: backend.ledger().release(uid, hold_id),
        "expire": lambda: backend.ledger(now=an_hour_later).expire(uid, hold_id),
    }

    def attempt(name: str) -> None:
        try:
            actions[name]()
        except (Conflict, HoldExpired):
            assert name == "capture"

    if order is None:
        with ThreadPoolExecutor(9) as pool:
            list(pool.map(attempt, list(actions) * 3))
    else:
        for name in order:
            attempt(name)
    kinds = backend.kinds(client)
    assert len(kinds) == 3
    if order is not None:
        assert kinds[-1] == order[0]
    assert backend.audit(client).head.posted == (900 if kinds[-1] == "capture" else 1_000)
    with pytest.raises((Conflict, HoldExpired)):
        backend.ledger().capture(uid, hold_id, 101, counter="revenue:chat")


@pytest.mark.acceptance("M09")
def test_the_same_request_again_has_the_stored_outcome(backend: Backend, provider: ScriptedProvider) -> None:
    provider.on("m09", Behaviour())
    client = backend.welcomed()
    request_id = backend.ask(client, "m09")
    first = backend.await_status(client, request_id)
    entries, calls = backend.kinds(client), provider.calls["m09"]
    backend.ask(client, "m09", request_id)
    backend.idle()
    assert backend.response(client, request_id) == first
    backend.ask(client, "m09, but different", request_id)
    backend.idle()
    second = backend.response(client, request_id)
    assert second.pop("conflict")["code"] == "CONFLICT"
    assert second == first
    assert (backend.kinds(client), provider.calls["m09"]) == (entries, calls)
    assert backend.admin(f"requests/{uid_of(client)}").get() is None


@pytest.mark.acceptance("M09")
def test_what_failed_for_lack_of_funds_stays_failed(backend: Backend) -> None:
    client = backend.funded(100)
    request_id = backend.ask(client, "hello")
    first = backend.await_status(client, request_id)
    assert first["error"]["code"] == "INSUFFICIENT_CREDITS"
    assert first["error"]["availableMicrocredits"] == 100
    ledger = backend.ledger()
    ledger.credit(uid_of(client), op_id="top-up", kind="purchase", amount=10**9, counter="liability:stripe")
    backend.ask(client, "hello", request_id)
    backend.idle()
    assert backend.response(client, request_id) == first
    assert backend.answer(client, "hello")["status"] == "done"
    assert backend.kinds(client) == ["grant", "purchase", "hold", "capture"]
    with pytest.raises(Conflict):
        ledger.credit(uid_of(client), op_id="top-up", kind="purchase", amount=5, counter="liability:stripe")


@pytest.mark.acceptance("M10")
@pytest.mark.parametrize("tokens", [-5, 0, 1.5, True, "7", 10**9])
def test_no_number_mints_credits(backend: Backend, tokens: Any) -> None:
    client = backend.welcomed()
    with pytest.raises(ClientError, match="401"):
        backend.ask(client, "hello", options={"maxTokens": tokens})
    # Past the rules, as only our own mistakes could come: a typed error, and nothing held.
    request_id = uuid4().hex
    body = {"kind": "chat", "conversationId": "c", "text": "hello", "createdAt": 1, "options": {"maxTokens": tokens}}
    backend.admin(f"requests/{uid_of(client)}/{request_id}").set(body)
    response = backend.await_status(client, request_id)
    assert (response["error"]["code"], response["error"]["field"]) == ("INVALID_ARGUMENT", "options.maxTokens")
    assert backend.kinds(client) == ["grant"]


@pytest.mark.acceptance("M10")
@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -1000, "completion_tokens": -1000, "total_tokens": -2000},
        {"prompt_tokens": 0.5, "completion_tokens": 0.5, "total_tokens": 1},
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"prompt_tokens": "many"},
        {"prompt_tokens": 10**12, "completion_tokens": 10**12, "total_tokens": 10**13},
    ],
    ids=str,
)
def test_a_provider_that_counts_nonsense_changes_no_bill(
    backend: Backend, provider: ScriptedProvider, usage: Any
) -> None:
    marker = f"m10-{uuid4().hex}"
    provider.on(marker, Behaviour(usage=usage))
    client = backend.welcomed()
    response = backend.answer(client, marker)
    assert response["status"] == "done"
    charged = response["cost"]["chargedMicrocredits"]
    assert 0 < charged <= response["cost"]["heldMicrocredits"]
    assert backend.audit(client).head.posted == 1_000_000_000 - charged


@pytest.mark.acceptance("M11")
def test_a_fallback_is_charged_once_at_its_own_price(backend: Backend, provider: ScriptedProvider) -> None:
    provider.on("m11", Behaviour(models_failing=frozenset({"dear"})))
    backend.restart_functions(PROVIDER_ATTEMPTS="2")
    client = backend.welcomed()
    response = backend.answer(client, "m11", options={"model": "dear"})
    backend.restart_functions()
    assert response["status"] == "done"
    assert response["model"] == "scripted"
    assert [request["model"] for request in provider.requests["m11"]] == ["dear", "dear", "scripted"]
    assert response["cost"]["chargedMicrocredits"] == 360
    assert backend.kinds(client) == ["grant", "hold", "capture"]
    backend.audit(client)


@pytest.mark.acceptance("M12")
def test_reading_an_answer_again_costs_nothing(backend: Backend) -> None:
    client = backend.welcomed()
    response = backend.answer(client, "hello")
    request_id = next(iter(client.read(f"responses/{uid_of(client)}")))
    entries = backend.kinds(client)
    for _ in range(3):
        assert client.read(f"responses/{uid_of(client)}/{request_id}")["text"] == response["text"]
        receipt = client.api(f"/accounts/{uid_of(client)}/receipts/{request_id}")
        assert receipt["chargedMicrocredits"] == 360
        assert receipt["entry"]["hash"] == response["receipt"]["hash"]
    backend.idle()
    assert backend.kinds(client) == entries


@pytest.mark.acceptance("M15")
def test_entries_of_an_older_version_verify_after_an_upgrade(backend: Backend, golden: dict[str, Any]) -> None:
    """The golden vectors, put where an older version left them, and the operator's command over them."""
    account = backend.firestore.collection("accounts").document(golden["uid"])
    head = golden["head"]
    account.set(
        {
            **{key: head[key] for key in ("seq", "posted", "held")},
            "headHash": head["hash"],
            "debt": 0,
            "frozen": False,
            "epoch": 1,
        }
    )
    for number, entry in enumerate(golden["stored"], start=1):
        account.collection("entries").document(f"{number:012d}").set(entry)

    def verify() -> "subprocess.CompletedProcess[str]":
        environment = {
            **backend.stack.environment,
            "LEDGER_ID": golden["ledger"],
            "LEDGER_SIGNING_KEY": SIGNING_KEY,
            "LEDGER_PUBLIC_KEYS": ",".join(golden["publicKeys"]),
            "PATH": "/usr/bin:/bin",
        }
        command = [sys.executable, "-m", "cli.main", "ledger", "verify", golden["uid"]]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    well = verify()
    assert (well.returncode, well.stdout.splitlines()[-1]) == (0, "verified"), well.stderr
    flipped = bytearray(golden["stored"][2]["content"])
    flipped[10] ^= 1
    account.collection("entries").document(f"{3:012d}").update({"content": bytes(flipped)})
    ill = verify()
    assert ill.returncode == 1
    assert "entry 3: HASH_MISMATCH" in ill.stdout


@pytest.mark.acceptance("M15")
def test_a_rotated_key_keeps_old_entries_valid(backend: Backend) -> None:
    """A deploy with a new signing key and the old one's public half: the account verifies across both."""
    client = backend.welcomed()
    assert backend.answer(client, "hello")["status"] == "done"
    old_keys = client.api("/ledger/keys")["keys"]
    new_key = base64.b64encode(bytes(range(1, 33))).decode()
    backend.restart_functions(LEDGER_SIGNING_KEY=new_key, LEDGER_PUBLIC_KEYS=",".join(old_keys.values()))
    assert backend.answer(client, "hello")["status"] == "done"
    published = client.api("/ledger/keys")
    page = client.api(f"/accounts/{uid_of(client)}/ledger/entries")
    backend.restart_functions()
    entries = [
        StoredEntry(
            base64.b64decode(entry["content"]), entry["hash"], entry["keyId"], base64.b64decode(entry["signature"])
        )
        for entry in page["entries"]
    ]
    (old_id,), (new_id,) = old_keys, set(published["keys"]) - set(old_keys)
    assert [entry.key_id for entry in entries] == [old_id] * 3 + [new_id] * 2

    def findings(keys: dict[str, str]) -> set[str]:
        keyring = Keyring.from_text(None, keys.values())
        verification = verify_chain(
            entries, ledger_id=published["ledger"], uid=uid_of(client), keyring=keyring, head=None
        )
        return {finding.code for finding in verification.findings}

    assert findings(published["keys"]) == set()
    assert findings(old_keys) == {"UNKNOWN_KEY"}


def test_no_secret_and_no_message_reaches_the_log(backend: Backend, provider: ScriptedProvider) -> None:
    provider.on("a private matter", Behaviour(statuses=[500]))
    client = backend.welcomed()
    assert backend.answer(client, "a private matter")["status"] == "done"
    assert client.session is not None
    log = backend.log.read_text()
    assert "provider.fault" in log, "this is the right log"
    for secret in ("a private matter", "test-key", SIGNING_KEY, client.session.id_token):
        assert secret not in log
