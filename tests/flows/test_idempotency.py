"""Idempotency-Key: the same answer for the same request, one act, and no key that is lost to a crash."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest
from support.api import (
    administrator,
    call,
    documents_of,
    forget_lease,
    is_problem,
    kept_answer,
    sign_up,
    uid_of,
)
from support.backend import Backend

from cli.client import Client
from concierge.api.idempotency import LEASE

CREDIT = 1_000_000
Body = dict[str, Any]
Case = tuple[Client, str, Body, Body]


def amounts(path: str) -> Callable[[Backend], Case]:
    return lambda backend: (backend.funded(CREDIT), path, {"amountMicrocredits": 10}, {"amountMicrocredits": 11})


def reservation(backend: Backend) -> Case:
    client = backend.funded(CREDIT)
    for name in ("one", "two"):
        call(backend, client, "POST", "/credits/reserve", {"amountMicrocredits": 10, "reservationId": name})
    return client, "/credits/release-reservation", {"reservationId": "one"}, {"reservationId": "two"}


def question(backend: Backend) -> Case:
    request = {"kind": "chat", "text": "hello"}
    return backend.funded(CREDIT), "/credits/estimate", request, {**request, "text": "bye"}


def claim(backend: Backend) -> Case:
    """A claim has no body: another request under its key is one to another route."""
    return sign_up(backend, f"{uuid4().hex}@gmail.com"), "/credits/welcome-bonus", {}, {}


def mirror(backend: Backend) -> Case:
    client = backend.funded(CREDIT)
    return client, "/credits/sync-balance", {}, {"uid": uid_of(client)}


def review(decision: str) -> Callable[[Backend], Case]:
    def prepared(backend: Backend) -> Case:
        admin, client = administrator(backend), sign_up(backend)
        assert call(backend, client, "POST", "/credits/welcome-bonus", {}).json()["state"] == "withheld"
        body = {"decision": decision, "note": "known in person"}
        return admin, f"/credits/bonus-reviews/{uid_of(client)}", body, {**body, "note": "another"}

    return prepared


def conflict(backend: Backend) -> Case:
    admin, client = administrator(backend), backend.funded(CREDIT)
    uid = uid_of(client)
    backend.idle()
    backend.admin(f"balances/{uid}/posted").set(7)
    call(backend, admin, "POST", "/credits/sync-balance", {"uid": uid, "strategy": "manual-review"})
    return admin, f"/credits/balance-reviews/{uid}/resolve", {}, {}


CASES: dict[str, Callable[[Backend], Case]] = {
    "/credits/reserve": amounts("/credits/reserve"),
    "/credits/release-reservation": reservation,
    "/credits/check-insufficient": amounts("/credits/check-insufficient"),
    "/credits/estimate": question,
    "/credits/welcome-bonus": claim,
    "/credits/sync-balance": mirror,
    "/credits/bonus-reviews/<uid>": review("grant"),
    "/credits/bonus-reviews/<uid> reject": review("reject"),
    "/credits/balance-reviews/<uid>/resolve": conflict,
}
each_post = pytest.mark.parametrize("prepare", CASES.values(), ids=CASES.keys())


@pytest.mark.acceptance("I04")
@each_post
def test_the_same_request_has_the_same_answer(backend: Backend, prepare: Callable[[Backend], Case]) -> None:
    client, path, body, other_body = prepare(backend)
    key = uuid4().hex
    first = call(backend, client, "POST", path, body, key=key)
    assert first.status_code in (200, 201), first.text
    assert "Idempotency-Replayed" not in first.headers
    backend.idle()
    before = documents_of(backend, client)
    # Whatever the spelling of the body, it is the same.
    again = call(backend, client, "POST", path, key=key, content=json.dumps(body, indent=3).encode())
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    if other_body != body:
        other = call(backend, client, "POST", path, other_body, key=key)
        assert "retryAfterSeconds" not in is_problem(other, 409, "CONFLICT")
    other = call(backend, client, "POST", "/credits/check-insufficient", {"amountMicrocredits": 777}, key=key)
    is_problem(other, 409, "CONFLICT")
    backend.idle()
    assert documents_of(backend, client) == before


@pytest.mark.acceptance("I04")
def test_every_post_has_a_case(backend: Backend, routes: list[tuple[str, str]]) -> None:
    posts = {path for method, path in routes if method == "POST" and path.startswith("/credits/")}
    missing = posts - {name.partition(" ")[0] for name in CASES}
    assert not missing, "every POST takes an Idempotency-Key: add it to CASES"
    client = backend.funded(CREDIT)
    for path in posts:
        answer = call(backend, client, "POST", path.replace("<uid>", "x"), {}, key="not a key")
        is_problem(answer, 400, "INVALID_ARGUMENT", "Idempotency-Key")


@pytest.mark.acceptance("I04")
@each_post
def test_an_instance_that_dies_after_the_act_has_done_it_once(
    backend: Backend, prepare: Callable[[Backend], Case]
) -> None:
    client, path, body, _ = prepare(backend)
    backend.idle()
    key = uuid4().hex
    backend.restart_functions(CONCIERGE_FAULT="answer.before:exit")
    try:
        assert call(backend, client, "POST", path, body, key=key).status_code == 503
        backend.await_crash()
        kept = kept_answer(backend, client, key)
        assert kept is not None
        assert kept["state"] == "in_flight"
        backend.idle()
        done = documents_of(backend, client)
        waiting = call(backend, client, "POST", path, body, key=key)
        assert is_problem(waiting, 409, "CONFLICT")["retryAfterSeconds"] == 1
        assert waiting.headers["Retry-After"] == "1"
        forget_lease(backend, client, key)
        again = call(backend, client, "POST", path, body, key=key)
        assert again.status_code in (200, 201), again.text
        backend.idle()
        assert documents_of(backend, client) == done
        replayed = call(backend, client, "POST", path, body, key=key)
        assert replayed.content == again.content
        assert replayed.headers["Idempotency-Replayed"] == "true"
    finally:
        backend.restart_functions()


@pytest.mark.acceptance("I04")
def test_an_instance_that_dies_before_the_act_loses_nothing(backend: Backend) -> None:
    client, key = backend.funded(CREDIT), uuid4().hex
    body = {"amountMicrocredits": 10}
    backend.restart_functions(CONCIERGE_FAULT="commit.before:exit")
    try:
        assert call(backend, client, "POST", "/credits/reserve", body, key=key).status_code == 503
        backend.await_crash()
    finally:
        backend.restart_functions()
    assert backend.kinds(client) == ["grant"]
    forget_lease(backend, client, key)
    assert call(backend, client, "POST", "/credits/reserve", body, key=key).status_code == 201
    assert backend.kinds(client) == ["grant", "hold"]


@pytest.mark.acceptance("I04")
def test_concurrent_requests_of_one_key_are_one_act(backend: Backend) -> None:
    client, key = backend.funded(CREDIT), uuid4().hex
    gate = threading.Barrier(12)

    def ask(_: int) -> httpx.Response:
        gate.wait()
        return call(backend, client, "POST", "/credits/reserve", {"amountMicrocredits": 10}, key=key)

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(12)))
    acted = [answer for answer in answers if answer.status_code == 201]
    assert len({answer.content for answer in acted}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in acted) == 1
    for answer in answers:
        if answer not in acted:
            assert is_problem(answer, 409, "CONFLICT")["retryAfterSeconds"] == 1
            assert answer.headers["Retry-After"] == "1"
    assert backend.kinds(client) == ["grant", "hold"]
    head = backend.ledger().head(uid_of(client))
    assert head is not None
    assert head.held == 10


@pytest.mark.acceptance("I04")
def test_keys_belong_to_their_user(backend: Backend) -> None:
    key, clients = uuid4().hex, [backend.funded(CREDIT) for _ in range(2)]
    bodies = [{"amountMicrocredits": amount} for amount in (10, 20)]
    answers = [
        call(backend, client, "POST", "/credits/reserve", body, key=key)
        for client, body in zip(clients, bodies, strict=True)
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json()["reservationId"] != answers[1].json()["reservationId"]
    assert all("Idempotency-Replayed" not in answer.headers for answer in answers)


@pytest.mark.acceptance("I04")
def test_refusals_are_kept(backend: Backend) -> None:
    client = backend.funded(100)
    uid = uid_of(client)
    refusals: list[tuple[str, Body, int]] = [
        ("/credits/reserve", {"amountMicrocredits": 150}, 402),
        ("/credits/reserve", {"amountCredits": "501"}, 402),
        ("/credits/release-reservation", {"reservationId": "later"}, 404),
        ("/credits/reserve", {"amountMicrocredits": 11, "reservationId": "taken"}, 409),
    ]
    call(backend, client, "POST", "/credits/reserve", {"amountMicrocredits": 10, "reservationId": "taken"})
    first = {}
    for number, (path, body, status) in enumerate(refusals):
        first[number] = call(backend, client, "POST", path, body, key=f"key-{number}")
        is_problem(first[number], status)
    frozen = {"amountMicrocredits": 12}
    backend.ledger().freeze(uid, op_id="freeze", reason="test", actor="admin")
    first[len(refusals)] = call(backend, client, "POST", "/credits/reserve", frozen, key=f"key-{len(refusals)}")
    is_problem(first[len(refusals)], 423, "ACCOUNT_FROZEN")
    backend.ledger().unfreeze(uid, op_id="unfreeze", reason="test", actor="admin")
    backend.ledger().credit(uid, op_id="order", kind="purchase", amount=CREDIT, counter="liability:test")
    call(backend, client, "POST", "/credits/reserve", {"amountMicrocredits": 10, "reservationId": "later"})
    kinds = backend.kinds(client)
    for number, (path, body, status) in enumerate([*refusals, ("/credits/reserve", frozen, 423)]):
        again = call(backend, client, "POST", path, body, key=f"key-{number}")
        is_problem(again, status)
        assert again.content == first[number].content
        assert again.headers["Idempotency-Replayed"] == "true"
    assert backend.kinds(client) == kinds


@pytest.mark.acceptance("I04")
def test_what_is_no_outcome_is_not_kept(backend: Backend) -> None:
    client, key = backend.funded(CREDIT), uuid4().hex
    body = {"amountMicrocredits": 10}
    for status, content in ((400, b"{"), (400, b'{"amountMicrocredits": 0}')):
        assert call(backend, client, "POST", "/credits/reserve", content=content, key=key).status_code == status
    forbidden = call(backend, client, "POST", "/credits/sync-balance", {"uid": "somebody"}, key=key)
    is_problem(forbidden, 403, "PERMISSION_DENIED")
    assert call(backend, None, "POST", "/credits/reserve", body, key=key).status_code == 401
    assert kept_answer(backend, client, key) is None
    # A bug of ours, after the act at that: 500, and the key is free.
    backend.restart_functions(CONCIERGE_FAULT="hold.after:raise")
    try:
        is_problem(call(backend, client, "POST", "/credits/reserve", body, key=key), 500, "INTERNAL")
        assert kept_answer(backend, client, key) is None
    finally:
        backend.restart_functions()
    answer = call(backend, client, "POST", "/credits/reserve", body, key=key)
    assert answer.status_code == 201
    assert "Idempotency-Replayed" not in answer.headers
    assert backend.kinds(client) == ["grant", "hold"]


def test_an_outage_of_firestore_is_told_and_not_kept(backend: Backend) -> None:
    client, key = backend.funded(CREDIT), uuid4().hex
    body = {"amountMicrocredits": 10}
    backend.idle()
    # The claim, then the hold: the ledger's reads are refused for longer than it is willing to try.
    backend.fault("firestore.BatchGetDocuments", "abort", count=500)
    is_problem(call(backend, client, "POST", "/credits/reserve", body, key=key), 503, "UNAVAILABLE")
    is_problem(call(backend, client, "GET", "/credits/balance"), 503, "UNAVAILABLE")
    backend.clear_faults()
    assert kept_answer(backend, client, key) is None
    assert call(backend, client, "POST", "/credits/reserve", body, key=key).status_code == 201
    assert backend.kinds(client) == ["grant", "hold"]


@pytest.mark.acceptance("I04")
def test_lost_answers_of_firestore_lose_no_key(backend: Backend) -> None:
    """What was written and is told to have failed is written again by the client library: each meets its own."""
    client, body = backend.funded(CREDIT), {"amountMicrocredits": 10}
    backend.idle()
    for number in range(3):
        key = uuid4().hex
        # The commits of a reservation: its claim, the hold, the answer.
        backend.fault("firestore.Commit", "error_after", skip=number)
        first = call(backend, client, "POST", "/credits/reserve", body, key=key)
        assert first.status_code == 201, first.text
        assert call(backend, client, "POST", "/credits/reserve", body, key=key).content == first.content
    assert backend.kinds(client) == ["grant", *["hold"] * 3]


def test_an_answer_that_cannot_be_kept_is_given_all_the_same(backend: Backend) -> None:
    client, key, body = backend.funded(CREDIT), uuid4().hex, {"amountMicrocredits": 10}
    backend.idle()
    backend.fault("firestore.Commit", "abort", skip=2, count=1)
    answer = call(backend, client, "POST", "/credits/reserve", body, key=key)
    assert answer.status_code == 201
    kept = kept_answer(backend, client, key)
    assert kept is not None
    assert kept["state"] == "in_flight"
    forget_lease(backend, client, key)
    assert call(backend, client, "POST", "/credits/reserve", body, key=key).content == answer.content
    assert backend.kinds(client) == ["grant", "hold"]


@pytest.mark.acceptance("I04")
def test_a_key_belongs_to_one_route(backend: Backend) -> None:
    client, key, body = backend.funded(CREDIT), uuid4().hex, {"amountMicrocredits": 10}
    assert call(backend, client, "POST", "/credits/check-insufficient", body, key=key).status_code == 200
    is_problem(call(backend, client, "POST", "/credits/reserve", body, key=key), 409, "CONFLICT")
    assert backend.kinds(client) == ["grant"]


@pytest.mark.acceptance("I04")
@pytest.mark.parametrize("key", ["", "a b", "tab\there", "x" * 256])
def test_what_is_no_key_is_refused(backend: Backend, key: str) -> None:
    client = backend.funded(CREDIT)
    answer = call(backend, client, "POST", "/credits/reserve", {"amountMicrocredits": 10}, key=key)
    is_problem(answer, 400, "INVALID_ARGUMENT", "Idempotency-Key")
    assert backend.kinds(client) == ["grant"]


def test_the_longest_key_is_one(backend: Backend) -> None:
    client, key = backend.funded(CREDIT), "!~" + "x" * 253
    answers = [call(backend, client, "POST", "/credits/reserve", {"amountMicrocredits": 1}, key=key) for _ in range(2)]
    assert answers[0].content == answers[1].content


def test_a_get_takes_no_key(backend: Backend) -> None:
    client, key = backend.funded(CREDIT), uuid4().hex
    first = call(backend, client, "GET", "/credits/balance", key=key)
    backend.ledger().credit(uid_of(client), op_id="order", kind="purchase", amount=1, counter="liability:test")
    second = call(backend, client, "GET", "/credits/balance", key=key)
    assert (first.json()["seq"], second.json()["seq"]) == (1, 2)
    assert kept_answer(backend, client, key) is None


def test_no_function_that_answers_outlives_the_lease(backend: Backend) -> None:
    assert backend.functions()["functions"]["api"]["timeoutSeconds"] < LEASE.total_seconds()
