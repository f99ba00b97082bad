"""The REST API with a plain HTTP client."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest


def test_put_get_patch_post_delete(http: httpx.Client) -> None:
    put = http.put("/a.json", json={"b": [1, "zwei", None], "c": {}})
    assert (put.status_code, put.json()) == (200, {"b": [1, "zwei"]})
    assert put.headers["content-type"] == "application/json; charset=utf-8"
    assert http.get("/a/b/1.json").json() == "zwei"
    assert http.get("/.json").json() == {"a": {"b": [1, "zwei"]}}
    assert http.get("/a/b/9.json").text == "null"
    patch = http.patch("/a.json", json={"b/0": None, "d/e": True, "f": {".sv": {"increment": 2}}})
    assert (patch.status_code, patch.json()) == (200, {"b/0": None, "d/e": True, "f": 2})
    assert http.get("/a.json").json() == {"b": [None, "zwei"], "d": {"e": True}, "f": 2}
    key = http.post("/a/list.json", json="pushed").json()["name"]
    assert http.get("/a/list.json").json() == {key: "pushed"}
    deleted = http.delete("/a.json")
    assert (deleted.status_code, deleted.text) == (200, "null")
    assert http.get("/.json").text == "null"


def test_namespaces_are_apart(rtdb: Any, http: httpx.Client, namespace: str, admin_headers: Mapping[str, str]) -> None:
    http.put("/x.json", json=1)
    assert http.get("/x.json", params={"ns": f"{namespace}-2"}).json() is None
    with httpx.Client(base_url=rtdb.url, headers=admin_headers) as plain:
        plain.put("/x.json", json="default")
        assert plain.get("/x.json", params={"ns": "demo-default-rtdb"}).json() == "default"
        plain.delete("/x.json")
    assert http.get("/x.json", params={"ns": "no/such"}).status_code == 400


def test_print(http: httpx.Client) -> None:
    silent = http.put("/a.json", params={"print": "silent"}, json={"b": 1})
    assert (silent.status_code, silent.content) == (204, b"")
    assert http.get("/a.json", params={"print": "silent"}).status_code == 204
    assert http.get("/a.json", params={"print": "pretty"}).text == '{\n  "b" : 1\n}'
    assert http.get("/a.json").text == '{"b":1}'
    assert http.get("/a.json", params={"print": "loud"}).status_code == 400


def test_shallow_and_export(http: httpx.Client) -> None:
    http.put("/.json", json={"a": {"x": 1}, "0": {".value": "s", ".priority": 3}})
    assert http.get("/.json", params={"shallow": "true"}).json() == {"0": True, "a": True}
    assert http.get("/a/x.json", params={"shallow": "true"}).json() == 1
    assert http.get("/.json", params={"shallow": "true", "orderBy": '"$key"'}).status_code == 400
    assert http.get("/.json", params={"format": "export"}).json() == {
        "a": {"x": 1},
        "0": {".value": "s", ".priority": 3},
    }


def test_priorities(http: httpx.Client) -> None:
    http.put("/a.json", json={"b": 1})
    assert http.put("/a/.priority.json", json=7).json() == 7
    assert http.get("/a/.priority.json").json() == 7
    assert http.patch("/.json", json={"a/b/.priority": "x"}).json() == {"a/b/.priority": "x"}
    exported = http.get("/.json", params={"format": "export"}).json()
    assert exported == {"a": {".priority": 7, "b": {".value": 1, ".priority": "x"}}}
    assert http.put("/a/.priority.json", content=b"null").json() is None
    assert http.get("/a/.priority.json").json() is None


def test_conditional_requests(http: httpx.Client) -> None:
    empty = http.get("/a.json", headers={"X-Firebase-ETag": "true"})
    assert empty.headers["etag"] == "null_etag"
    created = http.put("/a.json", json={"n": 1}, headers={"if-match": "null_etag"})
    assert created.status_code == 200
    tag = created.headers["etag"]
    assert http.get("/a.json", headers={"X-Firebase-ETag": "true"}).headers["etag"] == tag
    assert "etag" not in http.get("/a.json").headers

    conflict = http.put("/a.json", json={"n": 2}, headers={"if-match": "null_etag"})
    assert (conflict.status_code, conflict.json(), conflict.headers["etag"]) == (412, {"n": 1}, tag)
    assert http.get("/a.json").json() == {"n": 1}

    unchanged = http.get("/a.json", headers={"if-none-match": tag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert http.get("/a.json", headers={"if-none-match": "other"}).headers["etag"] == tag

    assert http.delete("/a.json", headers={"if-match": "stale"}).status_code == 412
    assert http.delete("/a.json", headers={"if-match": tag}).status_code == 200
    assert http.get("/a.json").json() is None
    for method in ("PATCH", "POST"):
        assert http.request(method, "/a.json", json={"n": 1}, headers={"if-match": tag}).status_code == 400


def test_the_method_may_be_overridden(http: httpx.Client) -> None:
    http.post("/a.json", json={"x": 1}, headers={"X-HTTP-Method-Override": "PUT"})
    http.post("/a.json", json={"y": 2}, headers={"X-HTTP-Method-Override": "patch"})
    assert http.get("/a.json").json() == {"x": 1, "y": 2}
    http.post("/a/x.json", params={"x-http-method-override": "DELETE"})
    assert http.get("/a.json").json() == {"y": 2}
    assert http.post("/a.json", json=1, headers={"X-HTTP-Method-Override": "TRACE"}).status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "body", "message"),
    [
        ("PUT", "/a.json", b"", "Error: No data supplied."),
        ("PUT", "/a.json", b"{x}", "Invalid data; couldn't parse JSON object, array, or value."),
        ("PUT", "/a.json", b"NaN", "Invalid data; couldn't parse JSON object, array, or value."),
        ("POST", "/a.json", b"", "Error: No data supplied."),
        ("PATCH", "/a.json", b"[1]", "Invalid data; couldn't parse JSON object"),
        ("PATCH", "/a.json", b"1", "Invalid data; couldn't parse JSON object"),
        ("PATCH", "/a.json", b'{"b": 1, "b/c": 2}', "is an ancestor of"),
        ("PATCH", "/a.json", b'{"b": 1, "/b/": 2}', "more than once"),
        ("PATCH", "/a.json", b'{"": 1}', "Invalid path"),
        ("PATCH", "/a.json", b'{"b": 1, "c.d": 2}', "Invalid path"),
        ("PUT", "/a.json", b'{"b.c": 1}', "couldn't parse key"),
        ("PUT", "/a%23b.json", b"1", "Invalid path: Invalid token in path"),
        ("PUT", "/a%ff.json", b"1", "Invalid path: Invalid token in path"),
        ("PUT", "/a/.priority.json", b"true", ".priority must be"),
        ("POST", "/a/.priority.json", b"1", "not supported"),
    ],
)
def test_errors_are_told_and_change_nothing(
    http: httpx.Client, method: str, path: str, body: bytes, message: str
) -> None:
    http.put("/a.json", json="kept")
    answer = http.request(method, path, content=body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert http.get("/a.json").json() == "kept"


def test_addresses_without_json_are_not_found(http: httpx.Client) -> None:
    answer = http.get("/a")
    assert answer.status_code == 404
    assert "append .json" in answer.json()["error"]


def test_keys_are_decoded_from_the_address(http: httpx.Client) -> None:
    http.put("/k%C3%BC%20%25%2Bx.json", json=1)
    assert http.get("/.json").json() == {"kü %+x": 1}
    http.put("/k%2Fb//c.json", json=2)
    assert http.get("/k/b.json").json() == {"c": 2}


def test_an_oversized_body_is_refused(start: Callable[..., Any], admin_headers: Mapping[str, str]) -> None:
    with start(body_bytes_max=1000) as rtdb, httpx.Client(base_url=rtdb.url, headers=admin_headers) as http:
        answer = http.put("/a.json", json="x" * 2000)
        assert (answer.status_code, answer.json()) == (400, {"error": "Payload is too large"})
        assert http.put("/a.json", json="x" * 500).status_code == 200


def test_queries(http: httpx.Client, anonymous: httpx.Client) -> None:
    animals = {"lambeo": {"height": 2, "size": {"width": 5}}, "stego": {"height": 4}, "tri": {"height": 3}}
    http.put("/indexed/animals.json", json=animals)
    http.put("/indexed/scores.json", json={"a": 5, "b": 3, "c": 9})

    def keys(path: str, **parameters: str) -> set[str]:
        return set(http.get(path, params=parameters).json() or ())

    assert keys("/indexed/animals.json", orderBy='"height"', startAt="3") == {"stego", "tri"}
    assert keys("/indexed/animals.json", orderBy='"height"', endBefore="3") == {"lambeo"}
    assert keys("/indexed/animals.json", orderBy='"height"', limitToLast="1") == {"stego"}
    assert keys("/indexed/animals.json", orderBy='"size/width"', equalTo="5") == {"lambeo"}
    assert keys("/indexed/animals.json", orderBy='"$key"', startAfter='"lambeo"', limitToFirst="1") == {"stego"}
    assert keys("/indexed/scores.json", orderBy='"$value"', limitToFirst="2", timeout="10s") == {"a", "b"}
    assert keys("/indexed/scores.json", orderBy='"$value"', equalTo="77") == set()


@pytest.mark.parametrize("order_by", ["weight", "$value"])
def test_a_query_needs_its_index(http: httpx.Client, rtdb: Any, namespace: str, order_by: str) -> None:
    http.put("/plain/list.json", json={"a": {"weight": 1}})
    for credentials in ({"headers": {}}, {"headers": {"Authorization": "none"}, "params": {"auth": rtdb.token("ann")}}):
        answer = http.get("/plain/list.json", params={"orderBy": json.dumps(order_by), **credentials.get("params", {})})
        name = ".value" if order_by == "$value" else order_by
        assert answer.status_code == 400
        assert answer.json()["error"] == (
            f'Index not defined, add ".indexOn": "{name}", for path "/plain/list", to the rules'
        )
    assert http.get("/plain/list.json", params={"orderBy": '"$key"'}).status_code == 200
    malformed = http.get("/plain/list.json", params={"orderBy": "height"})
    assert (malformed.status_code, malformed.json()["error"]) == (400, "orderBy must be a valid JSON encoded path")


def test_browsers_of_any_origin_are_served(http: httpx.Client) -> None:
    headers = {"Origin": "http://localhost:5173", "Access-Control-Request-Headers": "if-match, content-type"}
    preflight = http.options("/a.json", headers={**headers, "Access-Control-Request-Method": "PUT"})
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    assert "if-match" in preflight.headers["access-control-allow-headers"]
    for answer in (http.get("/a.json", headers=headers), http.get("/a", headers=headers)):
        assert answer.headers["access-control-allow-origin"] == "*"


def test_every_byte_sequence_of_unicode_survives(http: httpx.Client) -> None:
    text = "ü😀\u2028\u0000\\\"'\n"
    http.put("/a.json", json={text[:1]: text})
    assert http.get("/a.json").json() == {"ü": text}


def test_data_outlives_the_server(start: Callable[..., Any], admin_headers: Mapping[str, str], tmp_path: Path) -> None:
    with start(tmp_path) as rtdb, httpx.Client(base_url=rtdb.url, headers=admin_headers) as http:
        http.put("/a.json", json={"b": {".value": 1, ".priority": "p"}, "c": ["ü", False]})
        http.patch("/.json", json={"a/c/0": None, "d": 0.5})
        tag = http.get("/.json", headers={"X-Firebase-ETag": "true"}).headers["etag"]
    with start(tmp_path) as rtdb, httpx.Client(base_url=rtdb.url, headers=admin_headers) as http:
        answer = http.get("/.json", params={"format": "export"}, headers={"X-Firebase-ETag": "true"})
        assert answer.json() == {"a": {"b": {".value": 1, ".priority": "p"}, "c": {"1": False}}, "d": 0.5}
        assert answer.headers["etag"] == tag


def test_faults(start: Callable[..., Any], admin_headers: Mapping[str, str]) -> None:
    with start() as rtdb, httpx.Client(base_url=rtdb.url, headers=admin_headers) as http:
        rtdb.add_fault(target="rtdb.PUT", action="error")
        rtdb.add_fault(target="rtdb.PUT", action="error_after")
        rtdb.add_fault(target="rtdb.GET", action="delay", delay_ms=20)
        refused = http.put("/a.json", json=1)
        assert refused.status_code == 500
        assert "error" in refused.json()
        assert http.get("/a.json").json() is None
        assert http.put("/a.json", json=2).status_code == 500
        assert http.get("/a.json").json() == 2
        assert http.put("/a.json", json=3).status_code == 200
        rtdb.add_fault(target="rtdb.PATCH", action="error")
        assert http.post("/.json", json={"a": 4}, headers={"X-HTTP-Method-Override": "PATCH"}).status_code == 500
        assert http.get("/a.json").json() == 3
