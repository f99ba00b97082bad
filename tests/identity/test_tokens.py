"""Bad tokens: 401 or 403 everywhere, and nothing happens."""

import base64
import json
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from support.backend import Backend

from cli.client import Client


def decoded(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def unsigned(claims: dict[str, Any]) -> str:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}."


def resigned(token: str, claims: dict[str, Any]) -> str:
    """Signed with a key of the forger's, under the id of the real one."""
    key = ec.generate_private_key(ec.SECP256R1())
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": jwt.get_unverified_header(token)["kid"]})


def tampered(token: str, claims: dict[str, Any]) -> str:
    """Other claims under the old signature."""
    header, _, signature = token.split(".")
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"{header}.{body}.{signature}"


def auth_admin(backend: Backend, method: str, path: str, body: Any) -> Any:
    url = f"{backend.stack.addresses.auth}{path}".replace("{p}", backend.stack.project)
    headers = {"Authorization": "Bearer owner"}
    return httpx.request(method, url, headers=headers, json=body, trust_env=False).raise_for_status().json()


def bad_token(backend: Backend, client: Client, kind: str) -> str:
    session = client.session
    assert session is not None
    claims = decoded(session.id_token)
    if kind == "expired":
        config = "/emulator/v1/projects/{p}/config"
        auth_admin(backend, "PATCH", config, {"idTokenLifetimeSeconds": -10})
        expired = client.refresh_id_token()
        auth_admin(backend, "PATCH", config, {"idTokenLifetimeSeconds": 3600})
        return expired
    if kind == "revoked":
        later = str(claims["iat"] + 5)
        path = "/identitytoolkit.googleapis.com/v1/projects/{p}/accounts:update"
        auth_admin(backend, "POST", path, {"localId": session.uid, "validSince": later})
        return session.id_token
    if kind == "disabled":
        path = "/identitytoolkit.googleapis.com/v1/projects/{p}/accounts:update"
        auth_admin(backend, "POST", path, {"localId": session.uid, "disableUser": True})
        return session.id_token
    other_project = {**claims, "aud": "other", "iss": "https://securetoken.google.com/other"}
    return {
        "unsigned": lambda: unsigned(claims),
        "other-project": lambda: resigned(session.id_token, other_project),
        "other-key": lambda: resigned(session.id_token, claims),
        "role-escalated": lambda: tampered(session.id_token, {**claims, "admin": True}),
        "other-user": lambda: tampered(session.id_token, {**claims, "sub": "victim", "user_id": "victim"}),
        "garbage": lambda: "not.a.token",
        "empty": lambda: "",
    }[kind]()


KINDS = [
    "expired", "revoked", "disabled", "unsigned", "other-project", "other-key", "role-escalated", "other-user",
    "garbage", "empty",
]  # fmt: skip


@pytest.mark.acceptance("I01")
@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_token_opens_nothing(backend: Backend, kind: str) -> None:
    client = backend.welcomed()
    assert client.session is not None
    uid = client.session.uid
    token = bad_token(backend, client, kind)
    entries = f"{backend.stack.addresses.api}/api/v1/accounts/{uid}/ledger/entries"
    answer = httpx.get(entries, headers={"Authorization": f"Bearer {token}".strip()}, trust_env=False)
    assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHENTICATED")
    assert "entries" not in answer.json()
    request_id = uuid4().hex
    body = {"kind": "chat", "conversationId": "c", "text": "hi", "createdAt": {".sv": "timestamp"}}
    written = httpx.put(
        f"{backend.stack.addresses.database}/requests/{uid}/{request_id}.json",
        params={"ns": backend.stack.namespace, "auth": token},
        json=body,
        trust_env=False,
    )
    assert written.status_code == 401
    backend.idle()
    assert backend.admin(f"requests/{uid}").get() is None
    assert backend.kinds(client) == ["grant"]


@pytest.mark.acceptance("I01")
def test_the_role_comes_from_the_record(backend: Backend) -> None:
    """A token that carried the admin claim when it was made is worth nothing once the claim is gone."""
    owner, admin = backend.welcomed(), backend.welcomed()
    assert owner.session is not None and admin.session is not None
    path = f"/accounts/{owner.session.uid}/ledger/entries"
    update = "/identitytoolkit.googleapis.com/v1/projects/{p}/accounts:update"

    def status() -> int:
        url = f"{backend.stack.addresses.api}/api/v1{path}"
        token = admin.session.id_token  # type: ignore[union-attr]
        return httpx.get(url, headers={"Authorization": f"Bearer {token}"}, trust_env=False).status_code

    assert status() == 403
    auth_admin(backend, "POST", update, {"localId": admin.session.uid, "customAttributes": '{"admin": true}'})
    admin.refresh_id_token()
    assert status() == 200
    auth_admin(backend, "POST", update, {"localId": admin.session.uid, "customAttributes": "{}"})
    assert decoded(admin.session.id_token)["admin"] is True
    assert status() == 403


def test_bad_parameters_are_named(backend: Backend) -> None:
    client = backend.welcomed()
    assert client.session is not None
    for query in ("limit=0", "limit=501", "limit=x", "after=-1", "after=1.5"):
        url = f"{backend.stack.addresses.api}/api/v1/accounts/{client.session.uid}/ledger/entries?{query}"
        answer = httpx.get(url, headers={"Authorization": f"Bearer {client.session.id_token}"}, trust_env=False)
        assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_ARGUMENT")
        assert answer.json()["field"] == query.partition("=")[0]
        assert answer.headers["content-type"] == "application/problem+json"
