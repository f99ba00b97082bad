"""A Realtime Database on a socket: the server runs on an event loop in a thread of its own."""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import firebase_admin
import httpx
import pytest
from firebase_admin import db
from support.loop import LoopThread
from support.waiting import PATIENCE_SECONDS

from emulator.clock import Clock
from emulator.contracts import InvalidToken
from emulator.faults import Fault, FaultPlan
from emulator.persistence import Store
from emulator.rtdb import RtdbServer
from emulator.rtdb.tree import Node, export_with_priorities

ADMIN = {"Authorization": "Bearer owner"}


def make_token(claims: Mapping[str, Any], signature: str = "good") -> str:
    """A token in the shape of a JWT, of which the verifier below checks the signature and nothing else."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({}, claims)]
    return ".".join([*parts, signature])


def verify_token(token: str) -> Mapping[str, Any]:
    parts = token.split(".")
    if len(parts) != 3 or parts[2] != "good":
        raise InvalidToken("the signature does not match")
    claims: Mapping[str, Any] = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    return claims


@dataclass
class RunningRtdb:
    """A server and the means to reach it."""

    server: RtdbServer
    clock: Clock
    faults: FaultPlan
    thread: LoopThread
    url: str

    def add_fault(self, **fields: Any) -> None:
        self.thread.call(self.faults.add, Fault(**fields))

    def root(self, namespace: str) -> Any:
        """Everything in a namespace, priorities included, without asking HTTP."""
        node: Node | None = self.thread.call(self.server.databases.root, namespace)
        return export_with_priorities(node)

    def token(self, uid: str, *, seconds: float = 3600, signature: str = "good", **claims: Any) -> str:
        expires_at = int(self.clock.now_ms() / 1000 + seconds)
        firebase = {"sign_in_provider": "password"}
        return make_token({"sub": uid, "exp": expires_at, "firebase": firebase, **claims}, signature)


@contextmanager
def running(directory: Path | None = None, **options: Any) -> Iterator[RunningRtdb]:
    clock, faults = Clock(), FaultPlan()
    with closing(Store(directory)) as store, LoopThread() as thread:
        server = RtdbServer(
            project_id="demo", clock=clock, store=store, faults=faults, verify_token=verify_token, **options
        )
        try:
            url = f"http://{thread.run(server.start('127.0.0.1', 0)).address}"
            yield RunningRtdb(server, clock, faults, thread, url)
        finally:
            thread.run(server.stop())


class StreamReader:
    """Server-sent events of one response, as (event, data) with the data still text."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()

    def next(self) -> tuple[str, str]:
        event = data = ""
        for line in self._lines:
            if line.startswith("event: "):
                event = line.removeprefix("event: ")
            elif line.startswith("data: "):
                data = line.removeprefix("data: ")
            elif not line:
                return event, data
        return "end", ""

    def json(self) -> tuple[str, Any]:
        event, data = self.next()
        return event, json.loads(data)


@pytest.fixture(scope="session")
def rtdb() -> Iterator[RunningRtdb]:
    """One server for all tests that use a namespace of their own and leave rules, clock and faults alone."""
    rules = {"rules": {".read": "auth != null", ".write": "auth != null", "open": {".read": True, ".write": True}}}
    rules["rules"]["indexed"] = {"$list": {".indexOn": ["height", "size/width", ".value"]}}  # type: ignore[index]
    with running(rules_text=json.dumps(rules)) as started:
        yield started


@pytest.fixture
def start() -> Callable[..., Any]:
    """Starts a server of the test's own: `with start(rules_text=...) as rtdb`."""
    return running


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    return "".join(character if character.isalnum() else "-" for character in request.node.name)[:100]


@pytest.fixture
def http(rtdb: RunningRtdb, namespace: str) -> Iterator[httpx.Client]:
    """An administrator's client of the test's own namespace."""
    with httpx.Client(base_url=rtdb.url, headers=ADMIN, params={"ns": namespace}, timeout=PATIENCE_SECONDS) as client:
        yield client


@pytest.fixture
def anonymous(rtdb: RunningRtdb, namespace: str) -> Iterator[httpx.Client]:
    """A client without credentials of the same namespace."""
    with httpx.Client(base_url=rtdb.url, params={"ns": namespace}, timeout=PATIENCE_SECONDS) as client:
        yield client


@pytest.fixture
def open_stream() -> Iterator[Callable[..., StreamReader]]:
    """Opens streams and closes them at the end of the test."""
    clients: list[httpx.Client] = []
    responses: list[httpx.Response] = []

    def open_one(url: str, path: str, headers: Mapping[str, str] | None = None, **parameters: Any) -> StreamReader:
        client = httpx.Client(base_url=url, timeout=PATIENCE_SECONDS)
        clients.append(client)
        accept = {"Accept": "text/event-stream", **(headers or {})}
        request = client.build_request("GET", path, params=parameters, headers=accept)
        response = client.send(request, stream=True)
        responses.append(response)
        return StreamReader(response)

    yield open_one
    for response in responses:
        response.close()
    for client in clients:
        client.close()


@pytest.fixture
def reference(rtdb: RunningRtdb, namespace: str) -> Iterator[Callable[[str], db.Reference]]:
    """db.reference of an unmodified firebase_admin app."""
    app = firebase_admin.initialize_app(options={"databaseURL": f"{rtdb.url}/?ns={namespace}"}, name=namespace)
    yield lambda path="/": db.reference(path, app)
    firebase_admin.delete_app(app)


@pytest.fixture
def admin_headers() -> Mapping[str, str]:
    return ADMIN


@pytest.fixture
def token_of() -> Callable[..., str]:
    return make_token
