"""The contract of the Realtime Database, path by path: who may read, create, update and delete.

The columns are the owner, another user, a user with the admin claim (no more than any other user here), nobody signed
in, and the backend's own administrator access.
"""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest
from support.backend import Backend

from cli.client import Client

NOW = {".sv": "timestamp"}
REQUEST = {"kind": "chat", "conversationId": "c", "text": "hi", "createdAt": NOW}
DEVICE = {"platform": "web", "createdAt": NOW}


@dataclass(frozen=True)
class Path:
    """One kind of path. `value` is valid there; `allowed` is what the owner may do; `public` may be read by all."""

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
    *(
        Path(f"{name}/{{id}}", {"v": 1})
        for name in ("events", "deliveries", "operations", "sagas", "deadLetters", "load", "housekeeping", "other")
    ),
    *(Path(f"{name}/{{uid}}", {"x": {"v": 1}}) for name in ("requests", "cancellations", "devices")),
]
ACTORS = ["owner", "other", "admin-claim", "anonymous-user", "nobody", "backend"]
OPERATIONS = ["read", "create", "update", "delete"]


@pytest.fixture(scope="module")
def people(shared_backend: Backend) -> dict[str, Client]:
    people = {actor: shared_backend.client() for actor in ("owner", "other", "admin-claim")}
    with httpx.Client(base_url=shared_backend.stack.addresses.auth, trust_env=False) as auth:
        claimed = people["admin-claim"]
        assert claimed.session is not None
        auth.post(
            f"/identitytoolkit.googleapis.com/v1/projects/{shared_backend.stack.project}/accounts:update",
            headers={"Authorization": "Bearer owner"},
            json={"localId": claimed.session.uid, "customAttributes": '{"admin": true}'},
        ).raise_for_status()
        anonymous = auth.post("/identitytoolkit.googleapis.com/v1/accounts:signUp?key=k", json={}).raise_for_status()
    claimed.refresh_id_token()
    people["anonymous-user"] = Client(shared_backend.stack.addresses)
    people["anonymous-user"].session = type(claimed.session)(
        anonymous.json()["localId"], anonymous.json()["idToken"], ""
    )
    return people


@pytest.mark.acceptance("I02")
@pytest.mark.parametrize("actor", ACTORS)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.template)
def test_every_path_for_everybody(backend: Backend, people: dict[str, Client], path: Path, actor: str) -> None:
    owner = people["owner"].session
    assert owner is not None
    for operation in OPERATIONS:
        names = {"uid": owner.uid, "id": uuid4().hex}
        target = path.template.format(**names)
        if path.needs is not None:
            backend.admin(path.needs.format(**names)).set({"title": "t"})
        if operation == "create":
            backend.admin(target).delete()
            if path.needs is not None:
                backend.admin(path.needs.format(**names)).update({"title": "t"})
        else:
            backend.admin(target).set(path.value)
        status = _attempt(backend, people, actor, operation, target, path.value)
        allowed = (
            actor == "backend"
            or (actor == "owner" and operation in path.allowed)
            or (path.public and operation == "read")
        )
        assert (status < 300) == allowed, f"{actor} {operation} {target}: {status}"
        if not allowed:
            assert status == 401
            exists = backend.admin(target).get() is not None
            assert exists == (operation != "create"), "a refused operation changed something"


def _attempt(backend: Backend, people: dict[str, Client], actor: str, operation: str, path: str, value: Any) -> int:
    parameters = {"ns": backend.stack.namespace}
    headers = {}
    if actor == "backend":
        headers["Authorization"] = "Bearer owner"
    elif actor != "nobody":
        session = people[actor].session
        assert session is not None
        parameters["auth"] = session.id_token
    method = {"read": "GET", "create": "PUT", "update": "PUT", "delete": "DELETE"}[operation]
    url = f"{backend.stack.addresses.database}/{path}.json"
    body = value if method == "PUT" else None
    return httpx.request(method, url, params=parameters, headers=headers, json=body, trust_env=False).status_code


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
    ids=str,
)
def test_the_rules_refuse_a_malformed_request(
    backend: Backend, people: dict[str, Client], change: dict[str, Any]
) -> None:
    path = f"requests/{people['owner'].session.uid}/{uuid4().hex}"  # type: ignore[union-attr]
    assert _attempt(backend, people, "owner", "create", path, {**REQUEST, **change}) == 401
    assert backend.admin(path).get() is None


@pytest.mark.parametrize("request_id", ["__x__", "a b", "a~b", "x" * 129])
def test_the_rules_refuse_a_bad_request_id(backend: Backend, people: dict[str, Client], request_id: str) -> None:
    path = f"requests/{people['owner'].session.uid}/{request_id}"  # type: ignore[union-attr]
    assert _attempt(backend, people, "owner", "create", path, REQUEST) == 401


def test_a_multi_path_update_is_judged_whole(backend: Backend, people: dict[str, Client]) -> None:
    session = people["owner"].session
    assert session is not None
    request_id = uuid4().hex
    update = {f"requests/{session.uid}/{request_id}": REQUEST, f"balances/{session.uid}/posted": 10**12}
    url = f"{backend.stack.addresses.database}/.json"
    parameters = {"ns": backend.stack.namespace, "auth": session.id_token}
    assert httpx.patch(url, params=parameters, json=update, trust_env=False).status_code == 401
    assert backend.admin(f"requests/{session.uid}/{request_id}").get() is None
