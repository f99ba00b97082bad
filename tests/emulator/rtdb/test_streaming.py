"""Server-sent events with a plain HTTP client."""

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest
from support.waiting import PATIENCE_SECONDS, eventually

RULES = {
    "rules": {
        "users": {"$uid": {".read": "auth.uid == $uid", ".write": True}},
        "rooms": {"$room": {".read": "data.child('members').hasChild(auth.uid)", ".write": True}},
        "board": {".read": True, ".write": True, ".indexOn": "score"},
        "open": {".read": True, ".write": True},
    }
}


@pytest.fixture
def service(start: Callable[..., Any]) -> Iterator[Any]:
    with start(rules_text=json.dumps(RULES)) as running:
        yield running


@pytest.fixture
def admin(service: Any, admin_headers: Mapping[str, str]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, headers=admin_headers, timeout=30) as client:
        yield client


def test_a_stream_begins_with_everything_and_goes_on_with_changes(
    service: Any, admin: httpx.Client, open_stream: Callable[..., Any]
) -> None:
    admin.put("/open.json", json={"a": "ü😀"})
    stream = open_stream(service.url, "/open.json")
    assert stream.response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert stream.json() == ("put", {"path": "/", "data": {"a": "ü😀"}})
    admin.put("/open/b/c.json", json={"d": 1})
    assert stream.json() == ("put", {"path": "/b/c", "data": {"d": 1}})
    admin.patch("/open/b.json", json={"c/d": 2, "e": 3})
    assert stream.json() == ("patch", {"path": "/b", "data": {"c/d": 2, "e": 3}})
    admin.patch("/.json", json={"open/a": None, "board/x": 1})
    assert stream.json() == ("put", {"path": "/a", "data": None})
    key = admin.post("/open/list.json", json="p").json()["name"]
    assert stream.json() == ("put", {"path": f"/list/{key}", "data": "p"})
    admin.put("/board.json", json=1)
    admin.delete("/open.json")
    assert stream.json() == ("put", {"path": "/", "data": None})
    admin.put("/open.json", json=[1, 2])
    assert stream.json() == ("put", {"path": "/", "data": [1, 2]})


def test_streams_at_other_depths(service: Any, admin: httpx.Client, open_stream: Callable[..., Any]) -> None:
    headers = {"Authorization": "Bearer owner"}
    root = open_stream(service.url, "/.json", headers)
    leaf = open_stream(service.url, "/open/a/b.json", headers)
    assert root.json() == leaf.json() == ("put", {"path": "/", "data": None})
    admin.put("/open/a.json", json={"b": 1, "c": 2})
    assert root.json() == ("put", {"path": "/open/a", "data": {"b": 1, "c": 2}})
    assert leaf.json() == ("put", {"path": "/", "data": 1})
    admin.put("/open/a/c.json", json=3)  # not the leaf's business
    admin.put("/open/a/b.json", json={"x": 1})
    assert root.json() == ("put", {"path": "/open/a/c", "data": 3})
    assert root.json() == ("put", {"path": "/open/a/b", "data": {"x": 1}})
    assert leaf.json() == ("put", {"path": "/", "data": {"x": 1}})


def test_a_stream_needs_permission(service: Any, open_stream: Callable[..., Any]) -> None:
    refused = open_stream(service.url, "/users/ann.json", auth=service.token("bob"))
    assert refused.response.status_code == 401
    assert json.loads(refused.response.read()) == {"error": "Permission denied"}
    expired = open_stream(service.url, "/users/ann.json", auth=service.token("ann", seconds=-1))
    assert expired.response.status_code == 401


def test_new_rules_cancel_the_streams_they_do_not_allow(
    service: Any, admin: httpx.Client, open_stream: Callable[..., Any]
) -> None:
    shut = open_stream(service.url, "/open.json")
    kept = open_stream(service.url, "/board.json")
    assert shut.json() == kept.json() == ("put", {"path": "/", "data": None})
    service.thread.call(service.server.set_rules, json.dumps({"rules": {"board": {".read": True}}}))
    assert shut.next() == ("cancel", "null")
    assert shut.next() == ("end", "")
    admin.put("/board.json", json=1)
    assert kept.json() == ("put", {"path": "/", "data": 1})


def test_data_that_takes_the_permission_away_cancels_before_it_is_shown(
    service: Any, admin: httpx.Client, open_stream: Callable[..., Any]
) -> None:
    admin.put("/rooms/r.json", json={"members": {"ann": True}})
    stream = open_stream(service.url, "/rooms/r.json", auth=service.token("ann"))
    assert stream.json()[0] == "put"
    admin.put("/rooms/r/topic.json", json="hello")
    assert stream.json() == ("put", {"path": "/topic", "data": "hello"})
    admin.put("/rooms/r.json", json={"members": {"bob": True}, "topic": "secret"})
    assert stream.next() == ("cancel", "null")
    assert stream.next() == ("end", "")


def test_an_expired_token_ends_the_stream(service: Any, open_stream: Callable[..., Any]) -> None:
    stream = open_stream(service.url, "/users/ann.json", auth=service.token("ann", seconds=3600))
    assert stream.json()[0] == "put"
    service.thread.call(service.clock.advance, 3601)
    assert stream.next() == ("auth_revoked", "credential is no longer valid")
    assert stream.next() == ("end", "")


def test_signs_of_life(start: Callable[..., Any], open_stream: Callable[..., Any]) -> None:
    with start(keep_alive_seconds=0.01) as service:
        stream = open_stream(service.url, "/.json", {"Authorization": "Bearer owner"})
        assert stream.json()[0] == "put"
        assert stream.next() == ("keep-alive", "null")
        assert stream.next() == ("keep-alive", "null")


def test_a_query_streams_its_window(service: Any, admin: httpx.Client, open_stream: Callable[..., Any]) -> None:
    admin.put("/board.json", json={"a": {"score": 1}, "b": {"score": 5}, "c": {"score": 3}})
    stream = open_stream(service.url, "/board.json", orderBy='"score"', limitToLast="2")
    assert stream.json() == ("put", {"path": "/", "data": {"b": {"score": 5}, "c": {"score": 3}}})
    admin.put("/board/d.json", json={"score": 0})  # outside of the window: nothing to tell
    admin.put("/board/a/score.json", json=4)
    assert stream.json() == ("put", {"path": "/", "data": {"a": {"score": 4}, "b": {"score": 5}}})
    admin.put("/board/b/name.json", json="B")
    assert stream.json()[1]["data"]["b"] == {"score": 5, "name": "B"}
    admin.delete("/board.json")
    assert stream.json() == ("put", {"path": "/", "data": None})


def test_a_query_stream_needs_its_index(service: Any, open_stream: Callable[..., Any]) -> None:
    refused = open_stream(service.url, "/board.json", orderBy='"name"')
    assert refused.response.status_code == 400
    assert "Index not defined" in json.loads(refused.response.read())["error"]


def test_what_cannot_be_streamed(service: Any, open_stream: Callable[..., Any]) -> None:
    assert open_stream(service.url, "/open.json", shallow="true").response.status_code == 400
    assert open_stream(service.url, "/open/.priority.json").response.status_code == 400


def watch_count(service: Any) -> int:
    databases = service.server.databases._databases
    return int(service.thread.call(lambda: sum(len(list(each.watches)) for each in databases.values())))


def test_a_reader_that_leaves_is_forgotten(service: Any, open_stream: Callable[..., Any]) -> None:
    stream = open_stream(service.url, "/open.json")
    assert stream.json()[0] == "put"
    assert watch_count(service) == 1
    stream.response.close()
    eventually(lambda: watch_count(service) == 0)


def test_a_reader_that_does_not_read_blocks_nobody_and_catches_up(service: Any, admin: httpx.Client) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect((host, int(port)))
    reader.settimeout(PATIENCE_SECONDS)
    reader.sendall(b"GET /open.json HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
    with reader:
        received = reader.recv(65536)
        text = "x" * 100_000
        for number in range(200):  # 20 MB, of which the buffers hold a fraction
            answer = admin.put(f"/open/k{number % 5}.json", json=f"{number} {text}", params={"print": "silent"})
            assert answer.status_code == 204
        (pending,) = service.thread.call(lambda: [watch.on_commit.__self__ for watch in next(
            iter(service.server.databases._databases.values())).watches])  # fmt: skip
        assert service.thread.call(lambda: sum(map(len, pending._pending))) <= 1024 * 1024
        admin.put("/open/last.json", json="the end")
        chunks = [received]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while b"the end" not in chunks[-1] + (chunks[-2] if len(chunks) > 1 else b""):
            assert time.monotonic() < deadline
            chunks.append(reader.recv(1 << 20))
    received = b"".join(chunks)
    assert len(received) < 15_000_000
    # Everything was put again; what was skipped is not missed.
    assert received.count(b'event: put\r\ndata: {"path":"/"') + received.count(b'event: put\ndata: {"path":"/"') >= 2
    for number in range(195, 200):
        assert f'"k{number % 5}":"{number} '.encode() in received


def test_stopping_the_server_cuts_streams(start: Callable[..., Any], open_stream: Callable[..., Any]) -> None:
    with start(rules_text=json.dumps(RULES)) as service:
        stream = open_stream(service.url, "/open.json")
        assert stream.json()[0] == "put"
    with pytest.raises(httpx.TransportError):
        while stream.next()[0] != "end":
            pass
        raise httpx.ReadError("ended in order, which is fine too")
