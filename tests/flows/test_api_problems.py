"""Whatever goes wrong over HTTPS is told in one form, and nobody gets in by a route that was forgotten."""

import base64
import json
from typing import Any
from uuid import uuid4

import httpx
import pytest
from support.api import administrator, call, documents_of, is_problem, kept_answer, uid_of
from support.backend import Backend
from support.waiting import eventually

CREDIT = 1_000_000
Routes = list[tuple[str, str]]
PUBLIC = {
    ("GET", "/health"),
    ("GET", "/ledger/keys"),
    ("GET", "/ledger/checkpoints"),
    ("GET", "/ledger/checkpoints/latest"),
    ("GET", "/ledger/consistency"),
}
"""Every other route wants an ID token. Whoever adds one here says that everybody may read it."""
ADMINISTRATORS: dict[tuple[str, str], Any] = {
    ("GET", "/credits/bonus-reviews"): None,
    ("POST", "/credits/bonus-reviews/<uid>"): {"decision": "grant", "note": "n"},
    ("GET", "/credits/balance-reviews"): None,
    ("POST", "/credits/balance-reviews/<uid>/resolve"): {},
    ("POST", "/accounts/<uid>/freeze"): {"reason": "r"},
    ("POST", "/accounts/<uid>/unfreeze"): {"reason": "r"},
    ("GET", "/accounts/<uid>/integrity"): None,
    ("POST", "/accounts/<uid>/repair"): {"reason": "r", "apply": True},
    ("GET", "/integrity/alerts"): None,
    ("POST", "/integrity/alerts/<alert_id>/resolve"): {},
}
"""With a body that would do, were it an administrator's."""
BAD_TOKENS = ["", "Bearer", "Bearer x", "Bearer a.b.c", "Basic dXNlcjpwYXNz", "Bearer {}.{}.", "x" * 5000]


def filled(path: str) -> str:
    """The path with something in place of its parameters."""
    return "/".join("1" if part.startswith("<") else part for part in path.split("/"))


def with_token(backend: Backend, method: str, path: str, header: str | None) -> httpx.Response:
    headers = {"Authorization": header} if header is not None else {}
    return call(backend, None, method, path, {} if method == "POST" else None, headers=headers)


@pytest.mark.acceptance("I01")
def test_every_route_wants_a_token(backend: Backend, routes: Routes) -> None:
    assert set(routes) >= PUBLIC | ADMINISTRATORS.keys()
    for method, path in routes:
        if (method, path) in PUBLIC:
            continue
        for header in (None, *BAD_TOKENS):
            answer = with_token(backend, method, filled(path), header)
            assert answer.status_code == 401, (method, path, header, answer.text)
            is_problem(answer, 401, "UNAUTHENTICATED")
            assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_public_routes_want_none(backend: Backend) -> None:
    for method, path in PUBLIC:
        answer = with_token(backend, method, path, "Bearer x")
        assert answer.status_code in (200, 400, 404), (path, answer.text)


@pytest.mark.acceptance("I01")
def test_a_route_of_an_account_is_for_its_owner_and_administrators(backend: Backend, routes: Routes) -> None:
    client, other = backend.funded(CREDIT), backend.funded(CREDIT)
    account_routes = [(method, path) for method, path in routes if path.startswith("/accounts/<uid>")]
    assert len(account_routes) >= 3
    for method, path in account_routes:
        for uid in (uid_of(client), uuid4().hex):
            body = ADMINISTRATORS.get((method, path))
            answer = call(backend, other, method, filled(path.replace("<uid>", uid)), body)
            is_problem(answer, 403, "PERMISSION_DENIED")


@pytest.mark.acceptance("I01")
def test_what_is_for_administrators_is_for_nobody_else(backend: Backend) -> None:
    client = backend.funded(CREDIT)
    for (method, path), body in ADMINISTRATORS.items():
        for uid in (uid_of(client), "nobody"):
            is_problem(call(backend, client, method, path.replace("<uid>", uid), body), 403, "PERMISSION_DENIED")
    assert backend.kinds(client) == ["grant"]


def test_unknown_routes_and_methods_are_problems(backend: Backend, routes: Routes) -> None:
    client = backend.funded(CREDIT)
    for path in ("/credits", "/credits/unknown", "/credits/balance/", "/credits/BALANCE", "/../credits/balance"):
        is_problem(call(backend, client, "GET", path), 404, "NOT_FOUND")
    methods: dict[str, set[str]] = {}
    for method, path in routes:
        methods.setdefault(path, set()).add(method)
    for path, known in methods.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - known:
            answer = call(backend, client, method, filled(path))
            is_problem(answer, 405, "METHOD_NOT_ALLOWED")
            assert known <= {name.strip() for name in answer.headers["Allow"].split(",")}


BODIES: list[tuple[bytes, str | None, int]] = [
    (b"", None, 200),
    (b"{}", "application/json", 200),
    (b"{}", "application/json; charset=utf-8", 200),
    (b"{}", None, 200),
    (b"{}", "text/plain", 415),
    (b"{}", "application/x-www-form-urlencoded", 415),
    (b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x", 415),
    (b"[]", None, 400),
    (b"null", None, 400),
    (b'"text"', None, 400),
    (b"5", None, 400),
    (b"{", None, 400),
    (b"{}{}", None, 400),
    (b"{'a': 1}", None, 400),
    (b"\xff{}", None, 400),
    (b'{"uid": "\xff"}', None, 400),
    (b"\xef\xbb\xbf{}", None, 400),
    ("{}".encode("utf-16"), None, 400),
    (b'{"uid": null, "uid": null}', None, 400),
    (b'{"uid": "\\ud800"}', None, 400),
    (b'{"\\ud800": 1}', None, 400),
    (b'{"uid": NaN}', None, 400),
    (b'{"uid": 1e999}', None, 400),
    (b'{"uid": ' + b"[" * 200 + b"]" * 200 + b"}", None, 400),
    (b'{"uid": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", None, 400),
    (b'{"uid": ' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"}", None, 400),
    (b'{"uid": "' + b"x" * 255 * 1024 + b'"}', None, 400),
    (b'{"uid": "' + b"x" * 256 * 1024 + b'"}', None, 413),
]


def test_bodies_that_are_none(backend: Backend) -> None:
    client = backend.funded(CREDIT)
    eventually(lambda: backend.admin(f"balances/{uid_of(client)}").get(), "the mirror")
    backend.idle()
    before = documents_of(backend, client)
    for content, kind, status in BODIES:
        key = uuid4().hex
        headers = {"Content-Type": kind} if kind is not None else {}
        answer = call(backend, client, "POST", "/credits/sync-balance", content=content, headers=headers, key=key)
        assert answer.status_code == status, (content[:60], kind, answer.text)
        if status != 200:
            problem = is_problem(answer, status)
            assert (problem.get("field") is not None) == (status == 400)
            assert len(answer.content) < 1000
            assert kept_answer(backend, client, key) is None
    assert documents_of(backend, client) == before


def test_a_body_that_does_not_say_its_length_is_bounded_as_well(backend: Backend) -> None:
    client = backend.funded(CREDIT)
    assert client.session is not None

    def chunks() -> Any:
        yield b'{"uid": "'
        for _ in range(64):
            yield b"x" * 8192
        yield b'"}'

    headers = {"Authorization": f"Bearer {client.session.id_token}"}
    with httpx.Client(trust_env=False, timeout=60) as http:
        url = f"{backend.stack.addresses.api}/api/v1/credits/sync-balance"
        is_problem(http.post(url, headers=headers, content=chunks()), 413)


def test_a_bug_of_ours_tells_nothing(backend: Backend) -> None:
    client = backend.funded(CREDIT)
    backend.restart_functions(CONCIERGE_FAULT="commit.before:raise")
    try:
        answer = call(backend, client, "POST", "/credits/reserve", {"amountMicrocredits": 5})
    finally:
        backend.restart_functions()
    problem = is_problem(answer, 500, "INTERNAL")
    assert set(problem) == {"status", "title", "code"}
    assert "InjectedFault" not in answer.text
    assert "InjectedFault" in backend.log.read_text()


def test_an_outage_is_told_as_one(backend: Backend) -> None:
    client = backend.funded(CREDIT)
    backend.idle()
    for target, method, path in (
        ("firestore.BatchGetDocuments", "GET", "/credits/balance"),
        ("firestore.BatchGetDocuments", "GET", "/credits/verify/1"),
        ("firestore.RunQuery", "GET", "/credits/history"),
        ("firestore.RunQuery", "GET", f"/accounts/{uid_of(client)}/ledger/entries"),
    ):
        backend.fault(target, "abort", count=1000)
        answer = call(backend, client, method, path)
        backend.clear_faults()
        is_problem(answer, 503, "UNAVAILABLE")
        assert call(backend, client, method, path).status_code == 200
    backend.fault("rtdb.GET", "error", count=1000)
    answer = call(backend, client, "POST", "/credits/sync-balance", {})
    backend.clear_faults()
    is_problem(answer, 503, "UNAVAILABLE")


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"after": "-1"}, "after"),
        ({"after": "1.0"}, "after"),
        ({"after": str(2**53)}, "after"),
        ({"after": ["1", "2"]}, "after"),
        ({"limit": "0"}, "limit"),
        ({"limit": "501"}, "limit"),
        ({"limit": ""}, "limit"),
    ],
)
def test_what_is_no_page_of_a_ledger_is_named(backend: Backend, params: Any, field: str) -> None:
    client = backend.funded(CREDIT)
    path = f"/accounts/{uid_of(client)}/ledger/entries"
    is_problem(call(backend, client, "GET", path, params=params), 400, "INVALID_ARGUMENT", field)


def test_pages_of_a_ledger(backend: Backend) -> None:
    client, admin = backend.funded(CREDIT), administrator(backend)
    path = f"/accounts/{uid_of(client)}/ledger/entries"
    for number in range(4):
        call(backend, client, "POST", "/credits/reserve", {"amountMicrocredits": 1, "reservationId": f"r{number}"})
    seen: list[int] = []
    after = 0
    while after is not None:
        page = call(backend, admin, "GET", path, params={"after": after, "limit": 2}).json()
        seen += [json.loads(base64.b64decode(entry["content"]))["seq"] for entry in page["entries"]]
        assert page["head"]["seq"] == 5
        after = page["next"]
    assert seen == [1, 2, 3, 4, 5]
    for uid in ("nobody", uuid4().hex):
        is_problem(call(backend, admin, "GET", f"/accounts/{uid}/ledger/entries"), 404, "NOT_FOUND")
    for uid in ("__x__", "x" * 129):
        is_problem(call(backend, admin, "GET", f"/accounts/{uid}/ledger/entries"), 400, None, "uid")
        is_problem(call(backend, admin, "GET", f"/accounts/{uid}/receipts/r0"), 400, None, "uid")
        is_problem(call(backend, admin, "GET", f"/accounts/{uid}/ledger/entries/1/receipt"), 400, None, "uid")
    for seq in ("0", "-1", "x", "1.0", str(2**53)):
        is_problem(call(backend, client, "GET", f"{path}/{seq}/receipt"), 400, None, "seq")
    assert json.loads(call(backend, client, "GET", f"{path}/5/receipt").text)["format"] == "concierge.receipt.v1"
