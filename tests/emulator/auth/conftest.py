"""The embedded Auth on a real port, in a thread with its own event loop."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import firebase_admin
import httpx
import pytest
from support.loop import LoopThread
from support.waiting import PATIENCE_SECONDS

from emulator.auth import AuthServer
from emulator.clock import Clock
from emulator.persistence import Store

PROJECT = "demo-concierge"


class AuthFixture:
    """A running server. `client` and `admin` are the HTTP calls of a web client and of an admin."""

    def __init__(self, directory: Path | None) -> None:
        self.clock = Clock()
        self.store = Store(directory)
        self.thread = LoopThread()
        self.server = AuthServer(project_id=PROJECT, clock=self.clock, store=self.store)
        self.address = self.thread.run(self.server.start("127.0.0.1", 0)).address
        self.http = httpx.Client(base_url=f"http://{self.address}", timeout=PATIENCE_SECONDS)

    def verify(self, token: str) -> dict[str, Any]:
        return dict(self.thread.call(self.server.tokens.verify, token))

    def client(self, operation: str, **fields: Any) -> httpx.Response:
        return self.http.post(f"/identitytoolkit.googleapis.com/v1/accounts:{operation}?key=any", json=fields)

    def admin(self, path: str, **fields: Any) -> httpx.Response:
        url = f"/identitytoolkit.googleapis.com/v1/projects/{PROJECT}{path}"
        return self.http.post(url, json=fields, headers={"Authorization": "Bearer owner"})

    def refresh(self, refresh_token: str) -> httpx.Response:
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return self.http.post("/securetoken.googleapis.com/v1/token?key=any", data=form)

    def sign_up(self, email: str = "ada@example.com", password: str = "secret1") -> dict[str, Any]:
        response = self.client("signUp", email=email, password=password, returnSecureToken=True)
        assert response.status_code == 200, response.text
        return response.json()

    def set_lifetime(self, seconds: int) -> None:
        response = self.http.patch(f"/emulator/v1/projects/{PROJECT}/config", json={"idTokenLifetimeSeconds": seconds})
        assert response.json()["idTokenLifetimeSeconds"] == seconds

    def close(self) -> None:
        self.http.close()
        self.thread.run(self.server.stop())
        self.thread.close()
        self.store.close()


def code_of(response: httpx.Response) -> str:
    """The error code of a refused request."""
    assert response.status_code >= 400, response.text
    return response.json()["error"]["message"].partition(" :")[0]


@pytest.fixture(name="start_auth")
def _start_auth() -> Iterator[Callable[..., AuthFixture]]:
    running: list[AuthFixture] = []

    def start(directory: Path | None = None) -> AuthFixture:
        running.append(AuthFixture(directory))
        return running[-1]

    yield start
    for fixture in running:
        fixture.close()


@pytest.fixture(name="auth")
def _auth(start_auth: Callable[..., AuthFixture]) -> AuthFixture:
    return start_auth()


@pytest.fixture(name="refusal")
def _refusal() -> Callable[[httpx.Response], str]:
    return code_of


@pytest.fixture(name="app")
def _app(auth: AuthFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[firebase_admin.App]:
    """The unmodified Admin SDK, pointed at the server."""
    monkeypatch.setenv("FIREBASE_AUTH_EMULATOR_HOST", auth.address)
    app = firebase_admin.initialize_app(options={"projectId": PROJECT}, name=uuid.uuid4().hex)
    yield app
    firebase_admin.delete_app(app)
