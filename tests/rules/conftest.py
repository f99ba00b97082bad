"""Auth and the Realtime Database with the product's own rules, and no functions that would act on what is written."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.loop import LoopThread

from cli.client import Addresses, Client, Session
from emulator.auth import AuthServer
from emulator.clock import Clock
from emulator.faults import FaultPlan
from emulator.persistence import Store
from emulator.rtdb import RtdbServer

PROJECT = "demo-rules"
NAMESPACE = f"{PROJECT}-default-rtdb"
RULES = Path(__file__).parent.parent.parent / "database.rules.json"


@dataclass
class Database:
    """The database over REST. `people` are signed-in clients by role."""

    http: httpx.Client
    people: dict[str, Client]

    @property
    def owner(self) -> str:
        session = self.people["owner"].session
        assert session is not None
        return session.uid

    def call(self, actor: str, method: str, path: str, value: Any = None) -> httpx.Response:
        """One REST call as one of the people, as nobody, or as the backend."""
        parameters, headers = {"ns": NAMESPACE}, {}
        if actor == "backend":
            headers["Authorization"] = "Bearer owner"
        elif actor != "nobody":
            session = self.people[actor].session
            assert session is not None
            parameters["auth"] = session.id_token
        content = json.dumps(value) if method in ("PUT", "PATCH") else None
        return self.http.request(method, f"/{path}.json", params=parameters, headers=headers, content=content)

    def value(self, path: str) -> Any:
        return self.call("backend", "GET", path).raise_for_status().json()

    def put(self, path: str, value: Any) -> None:
        self.call("backend", "PUT", path, value).raise_for_status()


@pytest.fixture(scope="package")
def database() -> Iterator[Database]:
    clock, store, faults = Clock(), Store(None), FaultPlan()
    auth = AuthServer(project_id=PROJECT, clock=clock, store=store)
    rtdb = RtdbServer(
        project_id=PROJECT,
        clock=clock,
        store=store,
        faults=faults,
        verify_token=auth.tokens.verify,
        rules_text=RULES.read_text(),
    )
    with LoopThread() as loop:
        auth_url = f"http://{loop.run(auth.start('127.0.0.1', 0)).address}"
        rtdb_url = f"http://{loop.run(rtdb.start('127.0.0.1', 0)).address}"
        with httpx.Client(base_url=rtdb_url, trust_env=False) as http:
            people = sign_in(Addresses(auth_url, rtdb_url, NAMESPACE, ""))
            yield Database(http, people)
            for client in people.values():
                client.close()
        loop.run(rtdb.stop())
        loop.run(auth.stop())


def sign_in(addresses: Addresses) -> dict[str, Client]:
    """The owner, another user, one with the admin claim, and an anonymous one."""
    people = {actor: Client(addresses) for actor in ("owner", "other", "admin-claim", "anonymous-user")}
    for actor, client in people.items():
        if actor != "anonymous-user":
            client.sign_up(f"{actor}@example.com", "secret-password")
    claimed = people["admin-claim"]
    assert claimed.session is not None
    with httpx.Client(base_url=addresses.auth, trust_env=False) as auth:
        auth.post(
            f"/identitytoolkit.googleapis.com/v1/projects/{PROJECT}/accounts:update",
            headers={"Authorization": "Bearer owner"},
            json={"localId": claimed.session.uid, "customAttributes": '{"admin": true}'},
        ).raise_for_status()
        claimed.refresh_id_token()
        anonymous = auth.post("/identitytoolkit.googleapis.com/v1/accounts:signUp?key=k", json={}).raise_for_status()
    found = anonymous.json()
    people["anonymous-user"].session = Session(found["localId"], found["idToken"], found["refreshToken"])
    return people
