"""The contract of the Realtime Database, path by path: who may read, create, update and delete.

The actors are the owner, another user, a user with the admin claim (no more than any other user here), an anonymous
user, nobody, and the backend with its administrator's access.
"""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

NOW = {".sv": "timestamp"}
REQUEST = {"kind": "chat", "conversationId": "c", "text": "hi", "createdAt": NOW}
DEVICE = {"platform": "web", "createdAt": NOW}
SERVER_ONLY = ("events", "deliveries", "operations", "sagas", "deadLetters", "load", "housekeeping", "other")
ACTORS = ["owner", "other", "admin-claim", "anonymous-user", "nobody", "backend"]
METHODS = {"read": "GET", "create": "PUT", "update": "PUT", "delete": "DELETE"}


@dataclass(frozen=True)
class Path:
    """One kind of path. `value` is valid there; `allowed` is what the owner may do; `public` may be read by all;
    `needs` must exist first."""

    template: str
    value: Any
    allowed: frozenset[str] = frozenset()
    public: bool = False
    needs: str | None = None


PATHS = [
    Path("requests/{uid}/{id}", REQUEST, frozenset({"create"})),
    Path("cancellations/{uid}/{id}", True, frozenset({"create"}), needs="requests/{uid}/{id}"),
    Path("preferences/{uid}", {"theme": "dark"}, frozenset({"read", "create", "update", "delete"})),
    Path("devices/{uid}/{id}", DEVICE, frozenset({"create"})),
    Path("notifications/{uid}/{id}/readAt", 1, frozenset({"read", "create"}), needs="notifications/{uid}/{id}"),
    Path("notifications/{uid}/{id}", {"title": "t"}, frozenset({"read"})),
    Path("responses/{uid}/{id}", {"status": "done"}, frozenset({"read"})),
    Path("conversations/{uid}/{id}", {"title": "t"}, frozenset({"read"})),
    Path("balances/{uid}", {"posted": 1, "held": 0, "available": 1, "seq": 1}, frozenset({"read"})),
    Path("workflows/{uid}/{id}", {"state": "running"}, frozenset({"read"})),
    Path("system/status", {"ok": True}, public=True),
    *(Path(f"{name}/{{id}}", {"v": 1}) for name in SERVER_ONLY),
    *(Path(f"{name}/{{uid}}", {"x": {"v": 1}}) for name in ("requests", "cancellations", "devices", "notifications")),
]


@pytest.mark.acceptance("I02")
@pytest.mark.parametrize("actor", ACTORS)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.template)
def test_every_path_for_everybody(database: Any, path: Path, actor: str) -> None:
    for operation, method in METHODS.items():
        names = {"uid": database.owner, "id": uuid4().hex}
        target = path.template.format(**names)
        if operation == "create":
            database.put(target, None)
        else:
            database.put(target, path.value)
        if path.needs is not None:
            database.call("backend", "PATCH", path.needs.format(**names), {"title": "t"}).raise_for_status()
        before = database.value(target)
        status = database.call(actor, method, target, path.value).status_code
        readable = path.template.startswith("notifications/{uid}") and actor == "owner" and operation == "read"
        allowed = (
            actor == "backend"
            or (actor == "owner" and operation in path.allowed)
            or (path.public and operation == "read")
            or readable
        )
        assert (status < 300) == allowed, f"{actor} {operation} {target}: {status}"
        if not allowed:
            assert status == 401
            assert database.value(target) == before, "a refused operation changed something"


@pytest.mark.parametrize(
    "change",
    [
        {"text": None},
        {"text": 5},
        {"text": ""},
        {"text": "x" * 32_001},
        {"kind": "poem"},
        {"conversationId": None},
        {"createdAt": "now"},
        {"createdAt": 10**15},
        {"surprise": 1},
        {"options": {"price": 0}},
        {"options": {"maxTokens": 1.5}},
        {"options": {"temperature": -1}},
        {"attachments": {"0": {"path": "a"}}},
        {"attachments": {"10": {"path": "a", "contentType": "b"}}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_malformed_request_is_refused(database: Any, change: dict[str, Any]) -> None:
    path = f"requests/{database.owner}/{uuid4().hex}"
    assert database.call("owner", "PUT", path, {**REQUEST, **change}).status_code == 401
    assert database.value(path) is None
    assert database.call("owner", "PUT", path, REQUEST).status_code == 200


@pytest.mark.parametrize("request_id", ["__x__", "a b", "a~b", "x" * 129])
def test_a_bad_request_id_is_refused(database: Any, request_id: str) -> None:
    assert database.call("owner", "PUT", f"requests/{database.owner}/{request_id}", REQUEST).status_code == 401


def test_a_cancellation_needs_its_request(database: Any) -> None:
    assert database.call("owner", "PUT", f"cancellations/{database.owner}/{uuid4().hex}", True).status_code == 401


def test_a_multi_path_update_is_judged_whole(database: Any) -> None:
    request = f"requests/{database.owner}/{uuid4().hex}"
    update = {request: REQUEST, f"balances/{database.owner}/posted": 10**12}
    assert database.call("owner", "PATCH", "", update).status_code == 401
    assert database.value(request) is None
    assert database.call("owner", "PATCH", "", {request: REQUEST}).status_code == 200
