"""Balances, estimates, receipts, single entries and the shown balance, over HTTPS."""

import base64
import json
from typing import Any
from uuid import uuid4

import httpx
import pytest
from support.api import administrator, call, documents_of, is_problem, sign_up, uid_of
from support.backend import Backend
from support.provider import Behaviour, ScriptedProvider
from support.waiting import eventually

from cli.client import Client
from concierge.ledger.checkpoints.notes import Verifier
from concierge.ledger.checkpoints.receipts import keys_in, verify_receipt
from concierge.ledger.signatures import Keyring

CREDIT = 1_000_000
BONUS = 1000 * CREDIT
CHAT = {"kind": "chat", "text": "hello"}


def get(backend: Backend, client: Client | None, path: str, **params: Any) -> httpx.Response:
    return call(backend, client, "GET", path, params=params)


def post(backend: Backend, client: Client | None, path: str, body: Any) -> httpx.Response:
    return call(backend, client, "POST", path, body)


def served(backend: Backend) -> tuple[Client, str]:
    """Somebody who asked one thing, and its id."""
    client = backend.funded(CREDIT)
    request_id = backend.ask(client, "hello")
    assert backend.await_status(client, request_id)["status"] == "done"
    backend.idle()
    return client, request_id


# Balance.


def test_the_balance_is_the_head_of_the_ledger(backend: Backend) -> None:
    client = backend.funded(1000)
    post(backend, client, "/credits/reserve", {"amountMicrocredits": 300})
    head = backend.ledger().head(uid_of(client))
    assert head is not None
    assert get(backend, client, "/credits/balance").json() == {
        "uid": uid_of(client),
        "postedMicrocredits": 1000,
        "heldMicrocredits": 300,
        "availableMicrocredits": 700,
        "debtMicrocredits": 0,
        "frozen": False,
        "seq": 2,
        "hash": head.hash,
    }


def test_a_debt_is_told(backend: Backend) -> None:
    client = backend.funded(100)
    backend.ledger().clawback(uid_of(client), op_id="dispute", amount=130, counter="liability:test")
    balance = get(backend, client, "/credits/balance").json()
    amounts = [balance[f"{name}Microcredits"] for name in ("posted", "available", "debt")]
    assert amounts == [-30, -30, 30]
    checked = post(backend, client, "/credits/check-insufficient", {"amountMicrocredits": 5}).json()
    assert (checked["sufficient"], checked["missingMicrocredits"]) == (False, 35)
    refused = is_problem(post(backend, client, "/credits/reserve", {"amountMicrocredits": 5}), 402)
    assert refused["missingMicrocredits"] == 35


def test_somebody_elses_balance_is_for_administrators(backend: Backend) -> None:
    client, other, admin = backend.funded(1000), backend.funded(5), administrator(backend)
    theirs = get(backend, other, "/credits/balance", uid=uid_of(client))
    nobodys = get(backend, other, "/credits/balance", uid=uuid4().hex)
    is_problem(theirs, 403, "PERMISSION_DENIED")
    assert theirs.text == nobodys.text
    assert get(backend, other, "/credits/balance", uid=uid_of(other)).json()["postedMicrocredits"] == 5
    assert get(backend, admin, "/credits/balance", uid=uid_of(client)).json()["postedMicrocredits"] == 1000
    # An administrator who looks welcomes nobody.
    unseen = backend.client()
    looked = get(backend, admin, "/credits/balance", uid=uid_of(unseen)).json()
    assert (looked["seq"], looked["postedMicrocredits"]) == (0, 0)
    assert backend.ledger().head(uid_of(unseen)) is None


@pytest.mark.acceptance("B03")
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/credits/balance", None),
        ("POST", "/credits/check-insufficient", {"amountMicrocredits": 5}),
        ("POST", "/credits/check-insufficient", {"request": CHAT}),
        ("POST", "/credits/estimate", CHAT),
        ("POST", "/credits/reserve", {"amountMicrocredits": 5}),
        ("POST", "/credits/welcome-bonus", {}),
    ],
)
def test_who_only_calls_the_api_is_welcomed(backend: Backend, method: str, path: str, body: Any) -> None:
    client = backend.client()
    answer = call(backend, client, method, path, body)
    assert answer.status_code in (200, 201), answer.text
    # What is answered is true already: the first call knows of the bonus that it brought.
    assert answer.json().get("availableMicrocredits", BONUS) == BONUS
    assert answer.json().get("sufficient", True) is True
    assert answer.json().get("covered", True) is True
    assert backend.kinds(client)[0] == "grant"
    head = backend.ledger().head(uid_of(client))
    assert head is not None
    assert head.posted == BONUS
    backend.idle()
    assert client.read(f"balances/{uid_of(client)}")["posted"] == BONUS


@pytest.mark.acceptance("B03")
def test_who_is_withheld_the_bonus_has_an_account_with_nothing_in_it(backend: Backend) -> None:
    client = sign_up(backend)
    balance = get(backend, client, "/credits/balance").json()
    assert (balance["postedMicrocredits"], balance["availableMicrocredits"], balance["seq"]) == (0, 0, 0)
    assert client.read(f"balances/{uid_of(client)}")["available"] == 0
    checked = post(backend, client, "/credits/check-insufficient", {"amountMicrocredits": 5}).json()
    assert (checked["sufficient"], checked["missingMicrocredits"]) == (False, 5)


# What a request would cost.


def test_enough_is_told_to_the_microcredit(backend: Backend) -> None:
    client = backend.funded(1000)
    backend.idle()
    before = documents_of(backend, client)
    for amount, missing in ((999, 0), (1000, 0), (1001, 1)):
        checked = post(backend, client, "/credits/check-insufficient", {"amountMicrocredits": amount}).json()
        assert checked == {
            "sufficient": missing == 0,
            "neededMicrocredits": amount,
            "availableMicrocredits": 1000,
            "missingMicrocredits": missing,
            "frozen": False,
        }
    assert documents_of(backend, client) == before


@pytest.mark.parametrize("options", [{}, {"maxTokens": 10}, {"model": "dear", "maxTokens": 5}, {"temperature": 0.5}])
def test_an_estimate_is_what_the_request_then_holds(backend: Backend, options: dict[str, Any]) -> None:
    client = backend.funded(100 * CREDIT)
    question = {"kind": "chat", "text": "hello, what is this? \u00fc", "options": options}
    backend.idle()
    before = documents_of(backend, client)
    found = post(backend, client, "/credits/estimate", question)
    assert found.status_code == 200, found.text
    estimate = found.json()
    assert documents_of(backend, client) == before
    response = backend.answer(client, question["text"], options=options)
    assert response["status"] == "done"
    assert response["model"] == estimate["model"]
    assert response["cost"]["heldMicrocredits"] == estimate["holdMicrocredits"]
    cost = estimate["costMicrocredits"]
    assert cost["lowest"] <= response["cost"]["chargedMicrocredits"] <= cost["highest"]
    assert cost["lowest"] <= cost["expected"] <= cost["highest"] == estimate["holdMicrocredits"]
    assert estimate["covered"] is True
    assert estimate["missingMicrocredits"] == 0


@pytest.mark.parametrize("usage", ["short", "fallback"])
def test_no_answer_costs_less_than_the_lowest(backend: Backend, provider: ScriptedProvider, usage: str) -> None:
    """A tokenizer that makes few tokens, and a fallback that is a hundred times cheaper."""
    marker = f"lowest-{usage}"
    behaviour = provider.on(marker, Behaviour(tokens=["x"]))
    model = "scripted"
    if usage == "fallback":
        behaviour.models_failing, model = frozenset({"dear"}), "dear"
    else:
        behaviour.usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    client = backend.funded(100 * CREDIT)
    options = {"model": model, "maxTokens": 10}
    estimate = post(backend, client, "/credits/estimate", {"kind": "chat", "text": marker, "options": options}).json()
    response = backend.answer(client, marker, options=options)
    assert response["status"] == "done", response
    charged = response["cost"]["chargedMicrocredits"]
    assert estimate["costMicrocredits"]["lowest"] <= charged <= estimate["costMicrocredits"]["highest"]


def test_what_must_be_available_is_what_decides(backend: Backend) -> None:
    """Both routes agree with the journey: one microcredit less and the request is refused."""
    minimum = post(backend, backend.funded(1), "/credits/estimate", CHAT).json()["holdMinimumMicrocredits"]
    for funds, enough in ((minimum, True), (minimum - 1, False)):
        client = backend.funded(funds)
        estimate = post(backend, client, "/credits/estimate", CHAT).json()
        checked = post(backend, client, "/credits/check-insufficient", {"request": CHAT}).json()
        assert (estimate["covered"], checked["sufficient"]) == (enough, enough)
        assert checked["neededMicrocredits"] == minimum
        assert estimate["missingMicrocredits"] == checked["missingMicrocredits"] == minimum - funds
        response = backend.answer(client, "hello")
        assert response["status"] == ("done" if enough else "failed")
        if not enough:
            assert response["error"]["missingMicrocredits"] == 1


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"options": {"model": "no-price"}}, "MODEL_UNPRICED", None),
        ({"options": {"model": "zero-price"}}, "MODEL_UNPRICED", None),
        ({"options": {"model": "unheard-of"}}, "MODEL_UNPRICED", None),
        ({"options": {"maxTokens": 0}}, "INVALID_ARGUMENT", "options.maxTokens"),
        ({"options": {"maxTokens": 1.5}}, "INVALID_ARGUMENT", "options.maxTokens"),
        ({"options": {"maxTokens": 2**60}}, "INVALID_ARGUMENT", "options.maxTokens"),
        ({"options": {"temperature": 3}}, "INVALID_ARGUMENT", "options.temperature"),
        ({"options": {"unknown": 2**60}}, "INVALID_ARGUMENT", "options.unknown"),
        ({"options": {"unknown": {"a": {"b": {"c": [[[]]]}}}}}, "INVALID_ARGUMENT", "options.unknown"),
        ({"options": []}, "INVALID_ARGUMENT", "options"),
        ({"attachments": [{"path": "a", "contentType": "image/png"}]}, "INVALID_ARGUMENT", "attachments"),
        ({"attachments": [1]}, "INVALID_ARGUMENT", "attachments.0"),
        ({"text": ""}, "INVALID_ARGUMENT", "text"),
        ({"text": " \n"}, "INVALID_ARGUMENT", "text"),
        ({"text": "x" * 32_001}, "INVALID_ARGUMENT", "text"),
        ({"text": 5}, "INVALID_ARGUMENT", "text"),
        ({"kind": "poem"}, "INVALID_ARGUMENT", "kind"),
        ({"kind": "image"}, "INVALID_ARGUMENT", "kind"),
        ({"conversationId": "c"}, "INVALID_ARGUMENT", "conversationId"),
        ({"createdAt": 1}, "INVALID_ARGUMENT", "createdAt"),
    ],
)
def test_what_cannot_be_estimated_is_named(
    backend: Backend, change: dict[str, Any], code: str, field: str | None
) -> None:
    client = backend.funded(CREDIT)
    backend.idle()
    before = documents_of(backend, client)
    backend.fault("firestore.Commit", "abort", count=100)
    question = {**CHAT, **change}
    answer = call(backend, client, "POST", "/credits/estimate", question, key="k")
    is_problem(answer, 400, code, field)
    asked = call(backend, client, "POST", "/credits/check-insufficient", {"request": question}, key="k")
    is_problem(asked, 400, code, f"request.{field}" if field is not None else None)
    backend.clear_faults()
    assert documents_of(backend, client) == before


def test_a_check_asks_one_question(backend: Backend) -> None:
    client = backend.funded(CREDIT)
    both = {"amountMicrocredits": 1, "request": CHAT}
    is_problem(post(backend, client, "/credits/check-insufficient", both), 400, "INVALID_ARGUMENT", "request")


# Receipts.


def test_a_receipt_is_pending_and_then_verified(backend: Backend) -> None:
    client, request_id = served(backend)
    keys = get(backend, None, "/ledger/keys").json()
    trusted = Keyring.from_text(None, list(keys["keys"].values()))
    verifiers = [Verifier.from_vkey(vkey) for vkey in keys["checkpointKeys"]]
    for state in ("pending", "verified"):
        receipt = get(backend, client, f"/credits/receipts/{request_id}")
        assert receipt.status_code == 200, receipt.text
        result = verify_receipt(receipt.json(), trusted, verifiers)
        assert result.state == state, result.checks
        assert (result.fields["kind"], result.fields["holdId"]) == ("capture", request_id)
        assert verify_receipt(receipt.json(), *keys_in(receipt.json())).state == state
        if state == "pending":
            assert backend.checkpoint() == 200


def test_nobody_learns_of_somebody_elses_receipts(backend: Backend) -> None:
    (client, request_id), other, admin = served(backend), backend.funded(CREDIT), administrator(backend)
    paths = [request_id, "unknown", "__x__", "x" * 2000, "caf%C3%A9", "%00", "a%2Fb"]
    answers = [get(backend, other, f"/credits/receipts/{name}") for name in paths]
    for answer in answers:
        is_problem(answer, 404, "NOT_FOUND")
    assert answers[0].text == answers[1].text
    is_problem(get(backend, other, f"/credits/receipts/{request_id}", uid=uid_of(client)), 403, "PERMISSION_DENIED")
    assert get(backend, admin, f"/credits/receipts/{request_id}", uid=uid_of(client)).status_code == 200
    # The same over the older address, which names the account.
    mine = f"/accounts/{uid_of(other)}/receipts"
    for name in ("unknown", "__x__", "x" * 2000, "%00"):
        is_problem(get(backend, other, f"{mine}/{name}"), 404, "NOT_FOUND")


def test_what_was_refused_has_no_receipt(backend: Backend) -> None:
    client = backend.funded(1)
    post(backend, client, "/credits/reserve", {"amountMicrocredits": 2, "reservationId": "refused"})
    is_problem(get(backend, client, "/credits/receipts/refused"), 404, "NOT_FOUND")


# One entry.


def test_an_entry_is_found_by_all_its_names(backend: Backend) -> None:
    client, request_id = served(backend)
    seqs = {
        "1": 1,
        "2": 2,
        "3": 3,
        "0003": 3,
        "welcome-bonus": 1,
        request_id: 3,
        f"hold:{request_id}": 2,
        f"settle:{request_id}": 3,
    }
    for name, seq in seqs.items():
        found = get(backend, client, f"/credits/verify/{name}").json()
        assert (found["transactionId"], found["seq"], found["verified"], found["findings"]) == (name, seq, True, [])
        content = json.loads(base64.b64decode(found["entry"]["content"]))
        assert (content["uid"], content["seq"]) == (uid_of(client), seq)
        assert found["published"] is False
    assert backend.checkpoint() == 200
    assert get(backend, client, "/credits/verify/3").json()["published"] is True


def test_a_hold_is_not_settled_while_it_is_open(backend: Backend) -> None:
    client = backend.funded(CREDIT)
    post(backend, client, "/credits/reserve", {"amountMicrocredits": 2, "reservationId": "7"})
    assert get(backend, client, "/credits/verify/hold:7").json()["seq"] == 2
    is_problem(get(backend, client, "/credits/verify/settle:7"), 404, "NOT_FOUND")
    # Digits are an entry's number.
    is_problem(get(backend, client, "/credits/verify/7"), 404, "NOT_FOUND")


def test_every_kind_of_entry_verifies(backend: Backend) -> None:
    client, other = backend.funded(CREDIT), backend.funded(CREDIT)
    uid, ledger = uid_of(client), backend.ledger()
    ledger.freeze(uid, op_id="freeze", reason="r", actor="a")
    ledger.unfreeze(uid, op_id="unfreeze", reason="r", actor="a")
    ledger.adjust(uid, op_id="adjust", amount=-5, counter="expense:test", memo="m", actor="a")
    ledger.transfer(uid, uid_of(other), op_id="transfer", amount=5)
    ledger.transfer(uid_of(other), uid, op_id="back", amount=5)
    for name in ("kept", "freed"):
        post(backend, client, "/credits/reserve", {"amountMicrocredits": 2, "reservationId": name})
    post(backend, client, "/credits/release-reservation", {"reservationId": "freed"})
    ledger.clawback(uid, op_id="clawback", amount=2 * CREDIT, counter="liability:test")
    ledger.credit(uid, op_id="purchase", kind="purchase", amount=3 * CREDIT, counter="liability:test")
    kinds = backend.kinds(client)
    assert len(kinds) == 11
    for seq in range(1, len(kinds) + 1):
        found = get(backend, client, f"/credits/verify/{seq}").json()
        assert (found["seq"], found["verified"]) == (seq, True), (kinds[seq - 1], found["findings"])


def test_nobody_learns_of_somebody_elses_entries(backend: Backend) -> None:
    (client, request_id), other, admin = served(backend), backend.funded(CREDIT), administrator(backend)
    names = [request_id, "unknown", "3", "0", "999999999999", f"settle:{request_id}", "hold:__x__", "hold:", "9" * 200]
    answers = [get(backend, other, f"/credits/verify/{name}") for name in names]
    for answer in answers:
        is_problem(answer, 404, "NOT_FOUND")
    assert len({answer.text for answer in answers}) == 1
    found = get(backend, admin, f"/credits/verify/{request_id}", uid=uid_of(client))
    assert found.json()["verified"] is True
    is_problem(get(backend, other, "/credits/verify/1", uid=uid_of(client)), 403, "PERMISSION_DENIED")


@pytest.mark.parametrize("name", ["__x__", "x" * 257, "%00", "a%09b", "%2e%2e", "%7F"])
def test_what_names_no_entry_is_refused(backend: Backend, name: str) -> None:
    client = backend.funded(CREDIT)
    answer = get(backend, client, f"/credits/verify/{name}")
    is_problem(answer, 400, "INVALID_ARGUMENT", "transactionId")


def test_a_damaged_entry_is_reported(backend: Backend) -> None:
    client, _ = served(backend)
    entries = backend.firestore.collection(f"accounts/{uid_of(client)}/entries")
    document = entries.document(f"{2:012d}")
    stored = document.get().to_dict()
    assert stored is not None

    def codes(seq: int) -> list[str]:
        found = get(backend, client, f"/credits/verify/{seq}")
        assert found.status_code == 200, found.text
        assert found.json()["verified"] is (not found.json()["findings"])
        return [finding["code"] for finding in found.json()["findings"]]

    held = json.loads(stored["content"])["amount"]
    document.update({"content": stored["content"].replace(str(held).encode(), str(held - 1).encode())})
    assert codes(2) == ["HASH_MISMATCH"]
    document.update({**stored, "signature": bytes(64)})
    assert codes(2) == ["BAD_SIGNATURE"]
    document.update({**stored, "hash": "0" * 64})
    assert codes(2) == ["HASH_MISMATCH", "BROKEN_CHAIN"]
    assert "BROKEN_CHAIN" in codes(3)
    for content in (b"junk", b"[]", b"{}", b'{"kind": 1, "counter": []}', b'{"kind":"capture","counter":"x"}'):
        document.update({**stored, "content": content})
        assert codes(2)
        assert codes(3)
    document.delete()
    is_problem(get(backend, client, "/credits/verify/2"), 404, "NOT_FOUND")
    assert codes(3)
    document.set(stored)
    assert [codes(seq) for seq in (1, 2, 3)] == [[], [], []]
    # The last entry, and a head that names another one.
    backend.firestore.document(f"accounts/{uid_of(client)}").update({"headHash": "f" * 64})
    assert codes(3) == ["HEAD_MISMATCH"]


# The shown balance.


def test_a_shown_balance_that_drifted_is_repaired(backend: Backend) -> None:
    client = backend.funded(1000)
    uid = uid_of(client)
    shown = eventually(lambda: backend.admin(f"balances/{uid}").get(), "the mirror")
    right = {key: shown[key] for key in ("posted", "held", "available", "seq")}
    assert post(backend, client, "/credits/sync-balance", {}).json() == {
        "action": "none",
        "before": right,
        "after": right,
    }
    backend.admin(f"balances/{uid}").update({"posted": 5})
    synced = post(backend, client, "/credits/sync-balance", {}).json()
    assert (synced["action"], synced["before"]["posted"], synced["after"]) == ("written", 5, right)
    assert backend.admin(f"balances/{uid}/posted").get() == 1000


def test_strategies_and_others_balances_are_for_administrators(backend: Backend) -> None:
    client, other, admin = backend.funded(1000), backend.funded(1000), administrator(backend)
    uid = uid_of(client)
    eventually(lambda: backend.admin(f"balances/{uid}").get(), "the mirror")
    backend.admin(f"balances/{uid}").update({"seq": 99})
    backend.fault("firestore.Commit", "abort", count=100)
    for body in ({"strategy": "newest-seq"}, {"uid": uid_of(other)}, {"uid": "nobody"}):
        refused = call(backend, client, "POST", "/credits/sync-balance", body, key="k")
        is_problem(refused, 403, "PERMISSION_DENIED")
    is_problem(post(backend, admin, "/credits/sync-balance", {"strategy": "guess"}), 400, None, "strategy")
    for wrong in ("", "a/b", "__x__", ".", 5):
        is_problem(post(backend, admin, "/credits/sync-balance", {"uid": wrong}), 400, None, "uid")
    backend.clear_faults()
    left = post(backend, admin, "/credits/sync-balance", {"uid": uid, "strategy": "newest-seq"}).json()
    assert left["action"] == "left"
    assert post(backend, admin, "/credits/sync-balance", {"uid": uid}).json()["action"] == "written"
    assert backend.admin(f"balances/{uid}/seq").get() == 1
    unknown = post(backend, admin, "/credits/sync-balance", {"uid": uuid4().hex}).json()
    assert unknown == {"action": "none", "before": None, "after": None}


# Withheld bonuses.


def test_reviews_are_for_administrators(backend: Backend) -> None:
    client = backend.funded(1)
    backend.idle()
    backend.fault("firestore.Commit", "abort", count=100)
    is_problem(get(backend, client, "/credits/bonus-reviews"), 403, "PERMISSION_DENIED")
    body = {"decision": "grant", "note": "n"}
    for uid in (uid_of(client), "unknown"):
        answer = call(backend, client, "POST", f"/credits/bonus-reviews/{uid}", body, key="k")
        is_problem(answer, 403, "PERMISSION_DENIED")


def test_reviews_are_listed_once_each(backend: Backend) -> None:
    admin, people = administrator(backend), [sign_up(backend) for _ in range(5)]
    for client in people:
        post(backend, client, "/credits/welcome-bonus", {})
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = get(backend, admin, "/credits/bonus-reviews", state="withheld", limit=2, **cursor).json()
        assert len(page["reviews"]) <= 2
        for review in page["reviews"]:
            assert (review["state"], "decidedBy" in review) == ("withheld", False)
        found += [review["uid"] for review in page["reviews"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert found == sorted(set(found))
    assert {uid_of(client) for client in people} <= set(found)


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"state": "open"}, "state"),
        ({"limit": "0"}, "limit"),
        ({"limit": "1.0"}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": base64.urlsafe_b64encode(b'{"before":5,"kind":"history"}').decode()}, "cursor"),
        ({"cursor": base64.urlsafe_b64encode(b'{"after":"","kind":"reviews"}').decode()}, "cursor"),
        ({"cursor": base64.urlsafe_b64encode(b'{"after":"a/b","kind":"reviews"}').decode()}, "cursor"),
        ({"cursor": base64.urlsafe_b64encode(b'{"after":"__x__","kind":"reviews"}').decode()}, "cursor"),
        ({"cursor": base64.urlsafe_b64encode(b'{"after":5,"kind":"reviews"}').decode()}, "cursor"),
    ],
)
def test_what_lists_no_reviews_is_named(backend: Backend, params: dict[str, str], field: str) -> None:
    is_problem(get(backend, administrator(backend), "/credits/bonus-reviews", **params), 400, None, field)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"decision": "grant"}, "note"),
        ({"decision": "grant", "note": ""}, "note"),
        ({"decision": "grant", "note": "x" * 501}, "note"),
        ({"decision": "maybe", "note": "n"}, "decision"),
        ({"decision": "grant", "note": "n", "amountMicrocredits": 10**12}, "amountMicrocredits"),
    ],
)
def test_what_is_no_decision_is_named(backend: Backend, body: dict[str, Any], field: str) -> None:
    admin, client = administrator(backend), sign_up(backend)
    post(backend, client, "/credits/welcome-bonus", {})
    is_problem(post(backend, admin, f"/credits/bonus-reviews/{uid_of(client)}", body), 400, None, field)
    assert backend.kinds(client) == []


def test_nothing_is_granted_where_there_is_no_bonus(backend: Backend) -> None:
    admin, client = administrator(backend), sign_up(backend)
    post(backend, client, "/credits/welcome-bonus", {})
    backend.restart_functions(WELCOME_BONUS_AMOUNT="0")
    try:
        body = {"decision": "grant", "note": "n"}
        is_problem(post(backend, admin, f"/credits/bonus-reviews/{uid_of(client)}", body), 409, "CONFLICT")
        claimed = post(backend, client, "/credits/welcome-bonus", {}).json()
        assert claimed == {"state": "disabled", "amountMicrocredits": 0, "availableMicrocredits": 0}
    finally:
        backend.restart_functions()
    assert backend.kinds(client) == []
