"""Reservations over HTTPS: what is held, refused, freed and never freed by the wrong person."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from support.api import call, documents_of, is_problem, kept_answer, sign_up, uid_of
from support.backend import Backend
from support.provider import Behaviour, ScriptedProvider
from support.waiting import eventually

from cli.client import Client

CREDIT = 1_000_000
LONGEST = 500 * CREDIT


def reserve(backend: Backend, client: Client, amount: Any, reservation_id: str | None = None, **options: Any) -> Any:
    body = {"amountMicrocredits": amount} | ({"reservationId": reservation_id} if reservation_id else {})
    return call(backend, client, "POST", "/credits/reserve", body, **options)


def release(backend: Backend, client: Client, reservation_id: str, **options: Any) -> httpx.Response:
    body = {"reservationId": reservation_id}
    return call(backend, client, "POST", "/credits/release-reservation", body, **options)


def top_up(backend: Backend, client: Client, amount: int) -> None:
    backend.ledger().credit(
        uid_of(client), op_id=f"order:{uuid4().hex}", kind="purchase", amount=amount, counter="liability:test"
    )


def test_a_reservation_is_held_shown_and_released(backend: Backend) -> None:
    client = backend.funded(1000)
    answer = reserve(backend, client, 300, "trip")
    assert answer.status_code == 201
    placed = answer.json()
    assert {key: placed[key] for key in ("reservationId", "state", "amountMicrocredits")} == {
        "reservationId": "trip",
        "state": "held",
        "amountMicrocredits": 300,
    }
    lifetime = datetime.fromisoformat(placed["expiresAt"]) - datetime.fromisoformat(placed["placedAt"])
    assert lifetime == timedelta(minutes=10)
    entry = backend.ledger().entry(uid_of(client), 2)
    assert entry is not None
    assert placed["receipt"] == {"entrySeq": 2, "hash": entry.hash}
    # The answer comes after the balance is shown: who reserves sees it.
    shown = client.read(f"balances/{uid_of(client)}")
    assert (shown["posted"], shown["held"], shown["available"], shown["seq"]) == (1000, 300, 700, 2)
    freed = release(backend, client, "trip")
    assert freed.status_code == 200
    assert (freed.json()["state"], freed.json()["receipt"]["entrySeq"]) == ("released", 3)
    shown = client.read(f"balances/{uid_of(client)}")
    assert (shown["held"], shown["available"], shown["seq"]) == (0, 1000, 3)
    assert backend.kinds(client) == ["grant", "hold", "release"]
    backend.audit(client)


def test_amounts_may_be_decimal_credits(backend: Backend) -> None:
    client = backend.funded(2 * CREDIT)
    answer = call(backend, client, "POST", "/credits/reserve", {"amountCredits": "1.000001"})
    assert answer.json()["amountMicrocredits"] == 1_000_001
    release(backend, client, answer.json()["reservationId"])
    backend.audit(client)


def test_the_id_follows_from_the_idempotency_key(backend: Backend) -> None:
    client = backend.funded(1000)
    key = uuid4().hex
    first, again = (reserve(backend, client, 10, key=key) for _ in range(2))
    assert first.json()["reservationId"] == again.json()["reservationId"]
    # Without a key each call is a reservation of its own.
    other, another = (reserve(backend, client, 10).json()["reservationId"] for _ in range(2))
    assert len({first.json()["reservationId"], other, another}) == 3
    assert backend.kinds(client) == ["grant", "hold", "hold", "hold"]


def test_the_balance_is_decided_even_if_it_cannot_be_shown(backend: Backend) -> None:
    client = backend.funded(1000)
    backend.idle()
    backend.fault("trigger.account_written", "drop", count=2)
    backend.fault("rtdb.GET", "error", count=50)
    backend.fault("rtdb.PUT", "error", count=50)
    answer = reserve(backend, client, 10, "unseen")
    freed = release(backend, client, "unseen")
    backend.clear_faults()
    assert (answer.status_code, freed.status_code) == (201, 200), (answer.text, freed.text)
    assert backend.kinds(client) == ["grant", "hold", "release"]
    assert backend.repair_mirrors() == 200
    assert client.read(f"balances/{uid_of(client)}")["seq"] == 3


def test_more_than_one_reservation_may_take_is_refused_with_the_limit(backend: Backend) -> None:
    client = backend.funded(2 * LONGEST)
    backend.idle()
    before = documents_of(backend, client)
    refused = is_problem(reserve(backend, client, LONGEST + 7, "long"), 402, "INSUFFICIENT_CREDITS")
    assert (refused["limit"], refused["limitMicrocredits"]) == ("reservation", LONGEST)
    assert (refused["missingMicrocredits"], refused["availableMicrocredits"]) == (7, 2 * LONGEST)
    assert documents_of(backend, client) == before
    assert reserve(backend, client, LONGEST, "long").status_code == 201
    release(backend, client, "long")
    backend.audit(client)


@pytest.mark.acceptance("M09")
def test_what_was_refused_for_lack_of_funds_stays_refused(backend: Backend) -> None:
    client = backend.funded(100)
    refused = is_problem(reserve(backend, client, 130, "too-much"), 402, "INSUFFICIENT_CREDITS")
    assert (refused["limit"], refused["missingMicrocredits"], refused["availableMicrocredits"]) == ("balance", 30, 100)
    top_up(backend, client, 1000)
    assert is_problem(reserve(backend, client, 130, "too-much"), 402)["missingMicrocredits"] == 30
    assert reserve(backend, client, 130, "another").status_code == 201
    # There is nothing to release of what was refused.
    is_problem(release(backend, client, "too-much"), 404, "NOT_FOUND")
    release(backend, client, "another")
    backend.audit(client)


@pytest.mark.acceptance("M09")
def test_what_was_refused_to_somebody_without_an_account_stays_refused(backend: Backend) -> None:
    client = sign_up(backend)
    first = is_problem(reserve(backend, client, 130, "early"), 402, "INSUFFICIENT_CREDITS")
    assert (first["missingMicrocredits"], first["availableMicrocredits"]) == (130, 0)
    top_up(backend, client, 1000)
    again = is_problem(reserve(backend, client, 130, "early"), 402, "INSUFFICIENT_CREDITS")
    assert again == first
    assert reserve(backend, client, 130, "late").status_code == 201


@pytest.mark.acceptance("M09")
def test_an_id_is_one_reservation(backend: Backend) -> None:
    client = backend.funded(1000)
    placed = reserve(backend, client, 10, "mine")
    assert reserve(backend, client, 10, "mine").json() == placed.json()
    is_problem(reserve(backend, client, 11, "mine"), 409, "CONFLICT")
    assert backend.kinds(client) == ["grant", "hold"]
    # Somebody else's ids are their own.
    other = backend.funded(1000)
    assert reserve(backend, other, 11, "mine").status_code == 201


def test_the_id_of_a_request_cannot_be_reserved(backend: Backend) -> None:
    client = backend.funded(CREDIT)
    response = backend.answer(client, "hello")
    assert response["status"] == "done"
    request_id = next(iter(client.read(f"responses/{uid_of(client)}")))
    is_problem(reserve(backend, client, 10, request_id), 409, "CONFLICT")
    assert backend.kinds(client) == ["grant", "hold", "capture"]


def test_a_frozen_account_reserves_nothing_and_settles(backend: Backend) -> None:
    client = backend.funded(1000)
    assert reserve(backend, client, 10, "before").status_code == 201
    backend.ledger().freeze(uid_of(client), op_id="freeze", reason="test", actor="admin")
    is_problem(reserve(backend, client, 10, "frozen"), 423, "ACCOUNT_FROZEN")
    assert release(backend, client, "before").json()["state"] == "released"
    balance = call(backend, client, "GET", "/credits/balance").json()
    assert (balance["frozen"], balance["availableMicrocredits"]) == (True, 1000)
    checked = call(backend, client, "POST", "/credits/check-insufficient", {"amountMicrocredits": 1}).json()
    assert (checked["sufficient"], checked["frozen"], checked["missingMicrocredits"]) == (False, True, 0)
    estimated = call(backend, client, "POST", "/credits/estimate", {"kind": "chat", "text": "hello"}).json()
    assert estimated["covered"] is False
    backend.ledger().unfreeze(uid_of(client), op_id="unfreeze", reason="test", actor="admin")
    assert reserve(backend, client, 10, "after").status_code == 201


def test_an_account_under_repair_reserves_nothing_and_says_so(backend: Backend) -> None:
    client = backend.funded(CREDIT)
    backend.firestore.document(f"accounts/{uid_of(client)}").update({"quarantined": True})
    is_problem(reserve(backend, client, 10, "repair"), 423, "ACCOUNT_FROZEN")
    assert call(backend, client, "GET", "/credits/balance").json()["frozen"] is True
    checked = call(backend, client, "POST", "/credits/check-insufficient", {"amountMicrocredits": 1}).json()
    assert (checked["sufficient"], checked["frozen"]) == (False, True)
    estimated = call(backend, client, "POST", "/credits/estimate", {"kind": "chat", "text": "hello"}).json()
    assert estimated["covered"] is False


def test_the_sweep_frees_what_expired(backend: Backend) -> None:
    client = backend.funded(1000)
    assert reserve(backend, client, 400, "forgotten").status_code == 201
    hold = backend.firestore.document(f"accounts/{uid_of(client)}/holds/forgotten")
    hold.update({"expiresAt": datetime.now(UTC) - timedelta(seconds=1)})
    backend.sweep()
    backend.idle()
    assert backend.kinds(client) == ["grant", "hold", "expire"]
    assert client.read(f"balances/{uid_of(client)}")["available"] == 1000
    assert release(backend, client, "forgotten").json()["state"] == "expired"
    backend.audit(client)


def test_a_release_after_the_time_is_up_is_an_expiry(backend: Backend) -> None:
    client = backend.funded(1000)
    assert reserve(backend, client, 400, "late").status_code == 201
    hold = backend.firestore.document(f"accounts/{uid_of(client)}/holds/late")
    hold.update({"expiresAt": datetime.now(UTC) - timedelta(seconds=1)})
    assert release(backend, client, "late").json()["state"] == "expired"
    backend.audit(client)


def test_a_release_happens_once(backend: Backend) -> None:
    client = backend.funded(1000)
    reserve(backend, client, 400, "once")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: release(backend, client, "once"), range(4)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert backend.kinds(client) == ["grant", "hold", "release"]
    backend.audit(client)


def test_what_is_not_the_callers_to_release_does_not_exist(backend: Backend, provider: ScriptedProvider) -> None:
    client, other = backend.funded(CREDIT), backend.funded(CREDIT)
    reserve(backend, other, 10, "others")
    gate = threading.Event()
    provider.on("not-to-release", Behaviour(gate=gate, gate_at=1))
    request_id = backend.ask(client, "not-to-release")
    eventually(lambda: backend.ledger().find_hold(uid_of(client), request_id), "the hold of the request")
    answers = [release(backend, client, name) for name in ("others", "unknown", request_id)]
    for answer in answers:
        is_problem(answer, 404, "NOT_FOUND")
    assert len({answer.text for answer in answers}) == 1
    gate.set()
    assert backend.await_status(client, request_id)["status"] == "done"
    assert backend.kinds(other) == ["grant", "hold"]
    backend.audit(client)


@pytest.mark.acceptance("M01")
def test_parallel_reservations_with_funds_for_some(backend: Backend) -> None:
    client = backend.funded(3 * 100 + 99)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda number: reserve(backend, client, 100, f"p{number}"), range(10)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [201] * 3 + [402] * 7
    assert {answer.json()["missingMicrocredits"] for answer in answers if answer.status_code == 402} == {1}
    head = backend.ledger().head(uid_of(client))
    assert head is not None
    assert (head.held, head.available) == (300, 99)
    with ThreadPoolExecutor(10) as pool:
        freed = list(pool.map(lambda number: release(backend, client, f"p{number}").status_code, range(10)))
    assert sorted(freed) == [200] * 3 + [404] * 7
    backend.audit(client)


MALFORMED = [
    (b'{"amountMicrocredits": -1}', "amountMicrocredits"),
    (b'{"amountMicrocredits": 0}', "amountMicrocredits"),
    (b'{"amountMicrocredits": -0}', "amountMicrocredits"),
    (b'{"amountMicrocredits": 1.5}', "amountMicrocredits"),
    (b'{"amountMicrocredits": 1.0}', "amountMicrocredits"),
    (b'{"amountMicrocredits": 1e3}', "amountMicrocredits"),
    (b'{"amountMicrocredits": NaN}', "body"),
    (b'{"amountMicrocredits": Infinity}', "body"),
    (b'{"amountMicrocredits": 1e999}', "body"),
    (b'{"amountMicrocredits": "1"}', "amountMicrocredits"),
    (b'{"amountMicrocredits": true}', "amountMicrocredits"),
    (b'{"amountMicrocredits": null}', "amountMicrocredits"),
    (b'{"amountMicrocredits": [1]}', "amountMicrocredits"),
    (b'{"amountMicrocredits": 9007199254740992}', "amountMicrocredits"),
    (b'{"amountMicrocredits": ' + b"9" * 100 + b"}", "amountMicrocredits"),
    (b'{"amountMicrocredits": ' + b"9" * 5000 + b"}", "body"),
    (b'{"amountMicrocredits": 1, "amountMicrocredits": 2}', "body"),
    (b'{"amountMicrocredits": 1, "amountCredits": "1"}', "amountMicrocredits"),
    (b'{"amountMicrocredits": 1, "amount_microcredits": 2}', "amount_microcredits"),
    (b'{"amount_microcredits": 1}', "amount_microcredits"),
    (b'{"amountCredits": 1}', "amountCredits"),
    (b'{"amountCredits": "-1"}', "amountCredits"),
    (b'{"amountCredits": "+1"}', "amountCredits"),
    (b'{"amountCredits": "0"}', "amountCredits"),
    (b'{"amountCredits": "0.0000000"}', "amountCredits"),
    (b'{"amountCredits": "1.0000001"}', "amountCredits"),
    (b'{"amountCredits": "1e3"}', "amountCredits"),
    (b'{"amountCredits": ".5"}', "amountCredits"),
    (b'{"amountCredits": "1."}', "amountCredits"),
    (b'{"amountCredits": "1,5"}', "amountCredits"),
    (b'{"amountCredits": " 1"}', "amountCredits"),
    (b'{"amountCredits": "1\\n"}', "amountCredits"),
    (b'{"amountCredits": "NaN"}', "amountCredits"),
    (b'{"amountCredits": "\\u0661"}', "amountCredits"),
    (b'{"amountCredits": "\\uff11"}', "amountCredits"),
    (b'{"amountCredits": "9999999999"}', "amountCredits"),
    (b'{"amountCredits": ""}', "amountCredits"),
    (b"{}", "amountMicrocredits"),
    (b"", "amountMicrocredits"),
]


@pytest.mark.acceptance("M10")
@pytest.mark.parametrize("path", ["/credits/reserve", "/credits/check-insufficient"])
def test_what_is_no_amount_is_named_and_writes_nothing(backend: Backend, path: str) -> None:
    client = backend.funded(10 * CREDIT)
    backend.idle()
    before = documents_of(backend, client)
    # Whoever writes anything now, if only to take it back, fails.
    backend.fault("firestore.Commit", "abort", count=10_000)
    for content, field in MALFORMED:
        key = uuid4().hex
        answer = call(backend, client, "POST", path, content=content, key=key)
        assert answer.status_code == 400, (content, answer.text)
        is_problem(answer, 400, "INVALID_ARGUMENT", field)
        assert kept_answer(backend, client, key) is None
    backend.clear_faults()
    assert documents_of(backend, client) == before


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"reservationId": "a/b"}, "reservationId"),
        ({"reservationId": ""}, "reservationId"),
        ({"reservationId": "_under"}, "reservationId"),
        ({"reservationId": "x" * 129}, "reservationId"),
        ({"reservationId": "\u0661"}, "reservationId"),
        ({"reservationId": "a\n"}, "reservationId"),
        ({"reservationId": 1}, "reservationId"),
        ({"uid": "somebody"}, "uid"),
        ({"x" * 5000: 1}, "x" * 100),
    ],
)
def test_what_is_no_reservation_is_named(backend: Backend, body: dict[str, Any], field: str) -> None:
    client = backend.funded(1000)
    is_problem(
        call(backend, client, "POST", "/credits/reserve", {"amountMicrocredits": 1, **body}),
        400,
        "INVALID_ARGUMENT",
        field,
    )
    assert backend.kinds(client) == ["grant"]
