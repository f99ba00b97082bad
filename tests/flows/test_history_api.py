"""An account's history over HTTPS: filters, pages, and cursors that nobody can make up."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from support.api import administrator, call, documents_of, is_problem, uid_of
from support.backend import Backend

from cli.client import Client

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
STEP = timedelta(minutes=1)


def at(number: int, **offset: float) -> str:
    """When entry `number` was made."""
    return (START + number * STEP + timedelta(**offset)).isoformat(timespec="milliseconds")


@pytest.fixture
def client(backend: Backend) -> Client:
    """Somebody with a grant, ten holds of which the even ones are captured, a minute apart: entries 1 to 16."""
    found, times = backend.client(), count(1)
    ledger = backend.ledger(now=lambda: START)
    uid = uid_of(found)

    def tick() -> Any:
        moment = START + next(times) * STEP
        return backend.ledger(now=lambda: moment)

    tick().credit(uid, op_id="welcome-bonus", kind="grant", amount=10_000, counter="expense:bonus")
    for number in range(10):
        tick().place_hold(uid, f"h{number}", request_hash="h", run_id="r", amount=100, minimum=100)
        if number % 2 == 0:
            tick().capture(uid, f"h{number}", 60, counter="revenue:chat")
    head = ledger.head(uid)
    assert head is not None
    assert head.seq == 16
    return found


def page(backend: Backend, client: Client, **params: Any) -> dict[str, Any]:
    answer = call(backend, client, "GET", "/credits/history", params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def pages(backend: Backend, client: Client, **params: Any) -> Iterator[list[dict[str, Any]]]:
    cursor: dict[str, str] = {}
    while True:
        found = page(backend, client, **params, **cursor)
        assert len(found["entries"]) <= int(params.get("limit", 50))
        yield found["entries"]
        if found["next"] is None:
            return
        cursor = {"cursor": found["next"]}


def numbers(backend: Backend, client: Client, **params: Any) -> list[int]:
    return [entry["seq"] for entries in pages(backend, client, **params) for entry in entries]


def test_the_newest_entries_come_first(backend: Backend, client: Client) -> None:
    found = page(backend, client)
    assert [entry["seq"] for entry in found["entries"]] == list(range(16, 0, -1))
    assert found["next"] is None
    newest, oldest = found["entries"][0], found["entries"][-1]
    stored = {entry.place: entry for entry in backend.ledger().entries(uid_of(client))}
    assert newest == {
        "seq": 16,
        "kind": "hold",
        "amountMicrocredits": 100,
        "counter": "held",
        "postedAfterMicrocredits": 9700,
        "heldAfterMicrocredits": 500,
        "transactionId": "hold:h9",
        "requestId": "h9",
        "at": "2026-03-01T12:16:00.000Z",
        "hash": stored[16].hash,
    }
    assert (oldest["kind"], oldest["transactionId"], "requestId" in oldest) == ("grant", "welcome-bonus", False)


def test_what_a_history_names_can_be_verified(backend: Backend, client: Client) -> None:
    for entry in page(backend, client)["entries"]:
        found = call(backend, client, "GET", f"/credits/verify/{entry['transactionId']}")
        assert (found.status_code, found.json()["seq"], found.json()["verified"]) == (200, entry["seq"], True)


@pytest.mark.parametrize("limit", [1, 2, 5, 15, 16, 17])
def test_all_pages_together_are_everything_once(backend: Backend, client: Client, limit: int) -> None:
    found = list(pages(backend, client, limit=limit))
    assert [entry["seq"] for entries in found for entry in entries] == list(range(16, 0, -1))
    # Without filters only the last page is short, and none is empty.
    assert all(len(entries) == limit for entries in found[:-1])
    assert found[-1]


def test_entries_that_come_meanwhile_move_no_page(backend: Backend, client: Client) -> None:
    seen: list[int] = []
    for number, entries in enumerate(pages(backend, client, limit=3)):
        seen += [entry["seq"] for entry in entries]
        backend.ledger().credit(
            uid_of(client), op_id=f"meanwhile-{number}", kind="purchase", amount=1, counter="liability:test"
        )
    assert seen == list(range(16, 0, -1))


def test_kinds_are_filtered(backend: Backend, client: Client) -> None:
    captures = [15 - 3 * number for number in range(5)]
    assert numbers(backend, client, kind="capture") == captures
    assert numbers(backend, client, kind="capture", limit=2) == captures
    assert numbers(backend, client, kind=["capture", "grant"], limit=2) == [*captures, 1]
    assert numbers(backend, client, kind="clawback") == []


def test_times_are_inclusive(backend: Backend, client: Client) -> None:
    assert numbers(backend, client, **{"from": at(5), "to": at(9)}) == [9, 8, 7, 6, 5]
    assert numbers(backend, client, **{"from": at(5), "to": at(5)}) == [5]
    assert numbers(backend, client, **{"from": at(5, milliseconds=1), "to": at(9, milliseconds=-1)}) == [8, 7, 6]
    assert numbers(backend, client, to=at(1)) == [1]
    assert numbers(backend, client, to=at(0)) == []
    assert numbers(backend, client, **{"from": at(16)}) == [16]
    assert numbers(backend, client, **{"from": at(17)}) == []
    assert numbers(backend, client, **{"from": at(5), "to": at(9), "limit": 2}) == [9, 8, 7, 6, 5]
    # The same moment elsewhere.
    assert numbers(backend, client, to="2026-03-01T17:31:00+05:30") == [1]
    assert numbers(backend, client, **{"from": "0001-01-01T00:00:00+14:00", "to": "9999-12-31T23:59:59-14:00"}) == list(
        range(16, 0, -1)
    )


def test_a_request_is_found_by_its_id(backend: Backend, client: Client) -> None:
    assert numbers(backend, client, requestId="h0") == [3, 2]
    assert numbers(backend, client, requestId="h0", limit=1) == [3, 2]
    assert numbers(backend, client, requestId="h0", kind="hold") == [2]
    assert numbers(backend, client, requestId="h1") == [4]
    assert numbers(backend, client, requestId="h0", to=at(2)) == [2]
    assert numbers(backend, client, requestId="h0", **{"from": at(3)}) == [3]
    assert numbers(backend, client, requestId="unknown") == []


def test_somebody_elses_history(backend: Backend, client: Client) -> None:
    other, admin = backend.client(), administrator(backend)
    assert numbers(backend, other, requestId="h0") == []
    mine = call(backend, other, "GET", "/credits/history", params={"uid": uid_of(client)})
    nobodys = call(backend, other, "GET", "/credits/history", params={"uid": uuid4().hex})
    is_problem(mine, 403, "PERMISSION_DENIED")
    assert mine.text == nobodys.text
    assert numbers(backend, admin, uid=uid_of(client), kind="grant") == [1]
    assert numbers(backend, admin, uid=uuid4().hex) == []


def test_nobody_was_never_seen_before(backend: Backend) -> None:
    assert page(backend, backend.client()) == {"entries": [], "next": None}


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"from": at(2), "to": at(1)}, "from"),
        ({"from": "yesterday"}, "from"),
        ({"from": "2026"}, "from"),
        ({"from": "1767225600"}, "from"),
        ({"from": "2026-03-01"}, "from"),
        ({"to": "2026-03-01T12:00:00"}, "to"),
        ({"to": "2026-03-01T12:00:00 00:00"}, "to"),
        ({"to": "2026-02-30T12:00:00Z"}, "to"),
        ({"to": "20260301T120000Z"}, "to"),
        ({"to": "2026-W09-7T12:00:00Z"}, "to"),
        ({"to": "2026-03-01 12:00:00Z"}, "to"),
        ({"to": "2026-03-01T12:00Z"}, "to"),
        ({"to": "2026-03-01T12:00:00,5Z"}, "to"),
        ({"to": ""}, "to"),
        ({"kind": "credit"}, "kind.0"),
        ({"kind": ""}, "kind.0"),
        ({"kind": ["hold", "credit"]}, "kind.1"),
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "1.0"}, "limit"),
        ({"limit": "+1"}, "limit"),
        ({"limit": " 1"}, "limit"),
        ({"limit": "1_0"}, "limit"),
        ({"limit": "\u0661"}, "limit"),
        ({"limit": "9" * 400}, "limit"),
        ({"limit": ["1", "2"]}, "limit"),
        ({"requestId": "a/b"}, "requestId"),
        ({"requestId": "__x__"}, "requestId"),
        ({"request_id": "h0"}, "request_id"),
        ({"from_": at(1)}, "from_"),
        ({"uid": ""}, "uid"),
        ({"uid": "a/b"}, "uid"),
        ({"uid": "__x__"}, "uid"),
        ({"uid": ".."}, "uid"),
        ({"uid": "x" * 129}, "uid"),
        ({"uid": "a\x00b"}, "uid"),
        ({"page": "2"}, "page"),
    ],
)
def test_what_makes_no_sense_is_named(backend: Backend, params: dict[str, Any], field: str) -> None:
    client = backend.funded(10)
    answer = call(backend, client, "GET", "/credits/history", params=params)
    is_problem(answer, 400, "INVALID_ARGUMENT", field)


def encoded(text: str | bytes) -> str:
    raw = text.encode() if isinstance(text, str) else text
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "%",
        "caf\u00e9",
        "\u0661",
        "a" * 5000,
        encoded("junk"),
        encoded(b"\xff\xfe"),
        encoded("null"),
        encoded("[]"),
        encoded("{}"),
        encoded('{"kind":"history"}'),
        encoded('{"before":5}'),
        encoded('{"before":5,"kind":"reviews"}'),
        encoded('{"after":"x","kind":"reviews"}'),
        encoded('{"before":0,"kind":"history"}'),
        encoded('{"before":-5,"kind":"history"}'),
        encoded('{"before":5.0,"kind":"history"}'),
        encoded('{"before":1e3,"kind":"history"}'),
        encoded('{"before":true,"kind":"history"}'),
        encoded('{"before":"5","kind":"history"}'),
        encoded('{"before":null,"kind":"history"}'),
        encoded('{"before":9007199254740993,"kind":"history"}'),
        encoded('{"before":' + "9" * 500 + ',"kind":"history"}'),
        encoded('{"before":NaN,"kind":"history"}'),
        encoded('{"before":5,"before":6,"kind":"history"}'),
        encoded("[" * 500),
    ],
)
def test_what_is_no_cursor_is_named(backend: Backend, cursor: str) -> None:
    client = backend.funded(10)
    answer = call(backend, client, "GET", "/credits/history", params={"cursor": cursor})
    is_problem(answer, 400, "INVALID_ARGUMENT", "cursor")


def test_cut_cursors_are_named(backend: Backend, client: Client) -> None:
    cursor = page(backend, client, limit=3)["next"]
    for length in range(len(cursor)):
        answer = call(backend, client, "GET", "/credits/history", params={"cursor": cursor[:length]})
        is_problem(answer, 400, "INVALID_ARGUMENT", "cursor")


def test_a_cursor_far_beyond_the_end_finds_nothing(backend: Backend, client: Client) -> None:
    for before in (518, 10**12, 2**53 - 1):
        cursor = encoded(f'{{"before":{before},"kind":"history"}}')
        assert page(backend, client, cursor=cursor) == {"entries": [], "next": None}


def test_a_damaged_entry_hides_no_other_one(backend: Backend, client: Client) -> None:
    before = documents_of(backend, client)
    document = backend.firestore.document(f"accounts/{uid_of(client)}/entries/{7:012d}")
    for content in (b"not JSON", b"{}", b"[]", b'{"at": 5, "kind": []}'):
        document.update({"content": content})
        found = page(backend, client)["entries"]
        assert [entry["seq"] for entry in found] == list(range(16, 0, -1))
        assert found[9] == {"seq": 7, "hash": document.get().get("hash"), "damaged": True}
        assert numbers(backend, client, **{"from": at(5), "to": at(9)}) == [9, 8, 6, 5]
        assert numbers(backend, client, kind="grant") == [1]
        assert numbers(backend, client, to=at(7)) == [6, 5, 4, 3, 2, 1]
    document.set(before[document.path])
    document.delete()
    assert numbers(backend, client, limit=4) == [number for number in range(16, 0, -1) if number != 7]
