"""Who may do what over HTTP: tokens, overrides, anonymous callers, the rules themselves."""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest

from emulator.rtdb.rules.errors import RulesError

RULES = """{
  // Owners only.
  "rules": {
    "users": {
      "$uid": {
        ".read": "auth.uid == $uid",
        ".write": "auth != null && auth.uid == $uid",
        "name": { ".validate": "newData.isString()" },
        "drop": { ".write": "auth != null", ".read": false }
      }
    },
    "claims": { ".read": "auth.token.role == 'tester' && auth.provider == 'password'" },
    "public": { ".read": true },
    "verified": { ".write": "auth.token.email_verified === true" }
  }
}"""


@pytest.fixture
def service(start: Callable[..., Any]) -> Iterator[Any]:
    with start(rules_text=RULES) as running:
        yield running


@pytest.fixture
def client(service: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        yield client


def denied(answer: httpx.Response) -> bool:
    if answer.status_code == 401:
        assert answer.json() == {"error": "Permission denied"}
        return True
    assert answer.status_code == 200
    return False


def test_owner_other_anonymous_and_admin(service: Any, client: httpx.Client, admin_headers: Mapping[str, str]) -> None:
    ann, bob = {"auth": service.token("ann")}, {"auth": service.token("bob")}
    for method in ("PUT", "PATCH", "POST", "DELETE", "GET"):
        body = None if method in ("GET", "DELETE") else {"name": "Ann"}
        for parameters, expected in ((ann, False), (bob, True), ({}, True)):
            path = "/users/ann.json"
            assert denied(client.request(method, path, params=parameters, json=body)) is expected, (method, parameters)
        assert client.request(method, "/users/ann.json", headers=admin_headers, json=body).status_code == 200
    assert client.get("/public.json").status_code == 200
    assert denied(client.get("/.json", params=ann))
    assert denied(client.put("/users/ann/name.json", params=ann, json=5))
    assert denied(client.patch("/users.json", params=ann, json={"ann/name": "x", "bob/name": "x"}))
    assert not denied(client.patch("/users.json", params=ann, json={"ann/name": "x", "ann/age": 1}))


def test_who_may_not_read_learns_nothing_from_a_conflict(
    service: Any, client: httpx.Client, admin_headers: Mapping[str, str]
) -> None:
    client.put("/users/ann/drop.json", headers=admin_headers, json="secret")
    bob = {"auth": service.token("bob")}
    assert denied(client.put("/users/ann/drop.json", params=bob, json=1, headers={"if-match": "x"}))
    assert not denied(client.put("/users/ann/drop.json", params=bob, json=1))


def test_claims_reach_the_rules(service: Any, client: httpx.Client) -> None:
    assert client.get("/claims.json", params={"auth": service.token("x", role="tester")}).status_code == 200
    assert denied(client.get("/claims.json", params={"auth": service.token("x", role="guest")}))
    assert denied(client.put("/verified.json", params={"auth": service.token("x")}, json=1))
    assert not denied(client.put("/verified.json", params={"auth": service.token("x", email_verified=True)}, json=1))


def test_tokens_that_are_not_good(service: Any, client: httpx.Client) -> None:
    expired, forged = service.token("ann", seconds=-1), service.token("ann", signature="forged")
    both = service.token("ann", seconds=-1, signature="forged")
    cases = [
        (expired, "Auth token is expired"),
        (both, "Auth token is expired"),
        (forged, "Could not parse auth token."),
        ("nonsense", "Could not parse auth token."),
        ("a.b.c", "Could not parse auth token."),
        ("", "Could not parse auth token."),
        (service.token(""), "Could not parse auth token."),
    ]
    for token, message in cases:
        for method in ("GET", "DELETE"):
            answer = client.request(method, "/public.json", params={"auth": token})
            assert (answer.status_code, answer.json()) == (401, {"error": message}), token
    assert client.get("/public.json", headers={"Authorization": "Bearer nonsense"}).status_code == 401
    assert client.get("/public.json", headers={"Authorization": f"Bearer {forged}"}).status_code == 401


def test_a_token_expires_with_the_clock(service: Any, client: httpx.Client) -> None:
    ann = {"auth": service.token("ann", seconds=3600)}
    assert not denied(client.get("/users/ann.json", params=ann))
    service.thread.call(service.clock.advance, 3601)
    answer = client.get("/users/ann.json", params=ann)
    assert (answer.status_code, answer.json()["error"]) == (401, "Auth token is expired")


def test_access_tokens(service: Any, client: httpx.Client) -> None:
    assert client.get("/.json", headers={"Authorization": "Bearer owner"}).status_code == 200
    assert client.get("/.json", headers={"Authorization": "Bearer ya29.c.some-token"}).status_code == 200
    assert client.get("/.json", params={"access_token": "owner"}).status_code == 200
    assert client.get("/.json", params={"auth": "owner"}).status_code == 200
    as_ann = {"Authorization": f"Bearer {service.token('ann')}"}
    assert client.get("/users/ann.json", headers=as_ann).status_code == 200
    assert denied(client.get("/.json", headers=as_ann))


def test_an_override_takes_the_place_of_the_administrator(
    service: Any, client: httpx.Client, admin_headers: Mapping[str, str]
) -> None:
    def get(path: str, override: str, headers: Mapping[str, str] = admin_headers, **more: str) -> httpx.Response:
        return client.get(path, headers=headers, params={"auth_variable_override": override, **more})

    assert get("/users/ann.json", '{"uid": "ann"}').status_code == 200
    assert denied(get("/users/bob.json", '{"uid": "ann"}'))
    assert denied(get("/users/ann.json", "null"))
    assert get("/public.json", "null").status_code == 200
    assert get("/public.json", "nonsense").status_code == 401
    assert get("/public.json", "5").status_code == 401
    # Nobody else may step into somebody's shoes.
    assert denied(get("/users/ann.json", '{"uid": "ann"}', headers={}))
    assert denied(get("/users/ann.json", '{"uid": "ann"}', headers={}, auth=service.token("bob")))


def test_the_author_of_a_change_is_published(
    service: Any, client: httpx.Client, admin_headers: Mapping[str, str]
) -> None:
    changes: list[Any] = []
    service.server.listeners.append(changes.append)
    client.put("/users/ann/name.json", params={"auth": service.token("ann")}, json="A")
    client.put("/users/ann/name.json", headers=admin_headers, json="B")
    override = {"auth_variable_override": '{"uid": "ann"}'}
    client.put("/users/ann/name.json", headers=admin_headers, params=override, json="C")
    client.put("/users/ann/name.json", json="D")
    assert [(change.auth_type, change.auth_id) for change in changes] == [
        ("app_user", "ann"),
        ("admin", None),
        ("app_user", "ann"),
    ]
    assert changes[0].at_ms <= service.clock.now_ms()


def test_without_rules_everything_is_locked(start: Callable[..., Any], admin_headers: Mapping[str, str]) -> None:
    with start() as locked, httpx.Client(base_url=locked.url) as client:
        assert denied(client.get("/a.json"))
        assert denied(client.put("/a.json", params={"auth": locked.token("ann")}, json=1))
        assert client.put("/a.json", headers=admin_headers, json=1).status_code == 200


def test_rules_are_read_and_replaced_by_administrators(
    service: Any, client: httpx.Client, admin_headers: Mapping[str, str]
) -> None:
    path = "/.settings/rules.json"
    assert client.get(path, headers=admin_headers).text == RULES
    for headers, parameters in (({}, {}), ({}, {"auth": service.token("ann")})):
        assert denied(client.get(path, headers=headers, params=parameters))
        assert denied(client.put(path, headers=headers, params=parameters, content="{}"))
    broken = client.put(path, headers=admin_headers, content='{"rules": {".read": "auht != null"}}')
    assert broken.status_code == 400
    assert "Line 1" in broken.json()["error"]
    assert "auht" in broken.json()["error"]
    assert denied(client.get("/.json"))
    replaced = client.put(path, headers=admin_headers, content=json.dumps({"rules": {".read": True}}))
    assert (replaced.status_code, replaced.json()) == (200, {"status": "ok"})
    assert client.get("/.json").status_code == 200
    assert client.post(path, headers=admin_headers, content="{}").status_code == 400


def test_rules_that_do_not_load_stop_the_server_from_being_made(start: Callable[..., Any]) -> None:
    with pytest.raises(RulesError), start(rules_text='{"rules": {".read": "maybe"}}'):
        pass


def test_a_token_without_expiry_is_taken(service: Any, client: httpx.Client, token_of: Callable[..., str]) -> None:
    assert client.get("/users/ann.json", params={"auth": token_of({"sub": "ann"})}).status_code == 200
    payload = base64.urlsafe_b64encode(b"[]").decode()
    answer = client.get("/users/ann.json", params={"auth": f"e30.{payload}.forged"})
    assert answer.json() == {"error": "Could not parse auth token."}
