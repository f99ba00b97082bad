"""HTTPS calls as any client may make them, right or wrong, and what the databases hold before and after."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
from firebase_admin import auth
from support.backend import Backend

from cli.client import Client, Session

JsonDict = dict[str, Any]


def uid_of(client: Client) -> str:
    assert client.session is not None
    return client.session.uid


def call(
    backend: Backend,
    client: Client | None,
    method: str,
    path: str,
    body: Any = None,
    *,
    key: str | None = None,
    address: str | None = None,
    params: Any = None,
    content: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    """A call below /api/v1. `key` is the Idempotency-Key, `address` where Google's front end sees the caller."""
    headers = dict(headers or {})
    if client is not None and client.session is not None:
        headers["Authorization"] = f"Bearer {client.session.id_token}"
    if key is not None:
        headers["Idempotency-Key"] = key
    if address is not None:
        headers["X-Forwarded-For"] = address
    with httpx.Client(trust_env=False, timeout=60) as http:
        url = f"{backend.stack.addresses.api}/api/v1{path}"
        if content is not None:
            return http.request(method, url, params=params, headers=headers, content=content)
        return http.request(method, url, params=params, headers=headers, json=body)


def is_problem(answer: httpx.Response, status: int, code: str | None = None, field: str | None = None) -> JsonDict:
    """Asserts that this is an error as clients are promised them; its content."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    content: JsonDict = answer.json()
    assert content["status"] == status
    assert content["title"]
    assert content["code"] == (code or content["code"])
    assert field is None or content["field"] == field, content
    for internal in ("Traceback", 'File "', "google.", "firebase_admin", "firestore"):
        assert internal not in answer.text
    return content


def kept_answer(backend: Backend, client: Client, key: str) -> JsonDict | None:
    """What is kept under somebody's Idempotency-Key."""
    found: JsonDict | None = _kept(backend, client, key).get().to_dict()
    return found


def forget_lease(backend: Backend, client: Client, key: str) -> None:
    """Makes the first request of a key look as old as a dead one."""
    _kept(backend, client, key).update({"claimedAt": datetime.now(UTC) - timedelta(minutes=5)})


def _kept(backend: Backend, client: Client, key: str) -> Any:
    digest = hashlib.sha256(f"{uid_of(client)}\0{key}".encode()).hexdigest()
    return backend.firestore.document(f"idempotency/{digest}")


def documents_of(backend: Backend, client: Client) -> JsonDict:
    """Everything that the databases hold of one person, but for kept answers."""
    uid = uid_of(client)
    account = backend.firestore.document(f"accounts/{uid}")
    review = backend.firestore.document(f"bonusReviews/{uid}")
    found = {reference.path: reference.get().to_dict() for reference in (account, review)}
    for collection in account.collections():
        found |= {snapshot.reference.path: snapshot.to_dict() for snapshot in collection.stream()}
    for top in ("balances", "responses", "requests"):
        found[top] = backend.admin(f"{top}/{uid}").get()
    return found


def administrator(backend: Backend) -> Client:
    """Somebody new with the administrator's claim."""
    client = backend.client()
    auth.set_custom_user_claims(uid_of(client), {"admin": True}, backend.admin_app)
    client.refresh_id_token()
    return client


def sign_up(backend: Backend, email: str | None = None) -> Client:
    """Somebody new with this address; anonymous without one."""
    client = backend.new_client()
    if email is not None:
        client.sign_up(email, uuid4().hex)
        return client
    client.session = _identity_toolkit(backend, "signUp", {"returnSecureToken": True})
    return client


def sign_in_with_google(backend: Backend, subject: str, email: str) -> Client:
    """Somebody whose account Google vouches for."""
    token = f'{{"sub":"{subject}","email":"{email}","email_verified":true}}'
    body = {
        "postBody": str(httpx.QueryParams({"id_token": token, "providerId": "google.com"})),
        "requestUri": "http://localhost",
        "returnSecureToken": True,
        "returnIdpCredential": True,
    }
    client = backend.new_client()
    client.session = _identity_toolkit(backend, "signInWithIdp", body)
    return client


def add_device(backend: Backend, client: Client, device_id: str | None = None, **fields: Any) -> None:
    value = {"platform": "web", "createdAt": {".sv": "timestamp"}, **fields}
    client.put(f"devices/{uid_of(client)}/{device_id or uuid4().hex}", value)
    backend.idle()


def dump(backend: Backend) -> JsonDict:
    """Everything in Firestore and in the Realtime Database."""
    documents: JsonDict = {}
    pending = list(backend.firestore.collections())
    while pending:
        references = list(pending.pop().list_documents())
        for snapshot in backend.firestore.get_all(references):
            documents[snapshot.reference.path] = snapshot.to_dict()
        for reference in references:
            # What lies below a document of the root has none below itself: asking each would take most of the time.
            if reference.parent.parent is None:
                pending += list(reference.collections())
    return {"firestore": documents, "rtdb": backend.admin("/").get()}


def _identity_toolkit(backend: Backend, operation: str, body: JsonDict) -> Session:
    url = f"{backend.stack.addresses.auth}/identitytoolkit.googleapis.com/v1/accounts:{operation}"
    with httpx.Client(trust_env=False) as http:
        answer = http.post(url, params={"key": "any"}, json=body)
        assert answer.status_code == 200, answer.text
        found = answer.json()
    return Session(found["localId"], found["idToken"], found["refreshToken"])
