"""The whole backend under test, and the ways in: as a client, as an administrator, as the platform."""

import base64
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

import firebase_admin
import httpx
from firebase_admin import auth, credentials, db
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore
from support.storage import close_client, open_client
from support.waiting import PATIENCE_SECONDS, eventually

from cli.client import Client
from cli.stack import Stack
from concierge.kit.objects import ObjectStore
from concierge.ledger.repository import LedgerRepository
from concierge.ledger.service import Ledger
from concierge.ledger.signatures import Keyring
from concierge.ledger.verification import Verification

TERMINAL = ("done", "failed", "cancelled")
SIGNING_KEY = base64.b64encode(bytes(range(32))).decode()
CHECKPOINT_KEY = base64.b64encode(bytes(range(32, 64))).decode()
IDENTITY_KEY = base64.b64encode(bytes(range(64, 96))).decode()


class _Anonymous(credentials.Base):
    def get_credential(self) -> Any:
        return AnonymousCredentials()


class Backend:
    """One running stack with everything a test needs to drive and to inspect it."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        """`folder` holds what the stack was given and what it writes: catalogue.json, stack.log."""
        self.stack = stack
        self.catalogue = folder / "catalogue.json"
        self.log = folder / "stack.log"
        self._clients: list[Client] = []
        self._hub = httpx.Client(base_url=f"http://{stack.services['hub']}", timeout=120, trust_env=False)
        with mock.patch.dict(os.environ, stack.environment):
            self.admin_app = firebase_admin.initialize_app(
                _Anonymous(),
                {
                    "projectId": stack.project,
                    "databaseURL": f"http://{stack.services['database']}/?ns={stack.namespace}",
                },
                name=uuid4().hex,
            )
            # The client of Auth reads its address when it is made, which is when it is first used.
            auth.list_users(max_results=1, app=self.admin_app)
            self.firestore = firestore.Client(project=stack.project, credentials=AnonymousCredentials())
            self._storage = open_client(stack.project)
            self.objects = ObjectStore(self._storage.bucket(f"{stack.project}.appspot.com"))

    def close(self) -> None:
        self.close_clients()
        self._hub.close()
        close_client(self._storage)
        self.firestore.close()
        firebase_admin.delete_app(self.admin_app)

    def close_clients(self) -> None:
        while self._clients:
            self._clients.pop().close()

    # As the platform.

    def fault(self, target: str, action: str, **fields: Any) -> None:
        self._hub.post("/faults", json={"target": target, "action": action, **fields}).raise_for_status()

    def clear_faults(self) -> None:
        self._hub.delete("/faults").raise_for_status()

    def advance_clock(self, seconds: float) -> None:
        """Moves the clock of all embedded services forward; what is scheduled meanwhile is due at once."""
        self._hub.post("/clock", json={"advanceSeconds": seconds}).raise_for_status()

    def sweep(self) -> None:
        """Runs the scheduled sweeper now and waits for it."""
        self._hub.post("/schedules/sweep/run").raise_for_status()

    def checkpoint(self) -> int:
        """Runs the scheduled checkpoint now and waits for it; the HTTP status with which it ended."""
        answer = self._hub.post("/schedules/checkpoint/run").raise_for_status()
        status: int = answer.json()["status"]
        return status

    def repair_mirrors(self) -> int:
        """Runs the scheduled repair of the balance mirrors now and waits for it; the HTTP status it ended with."""
        answer = self._hub.post("/schedules/mirror_repair/run").raise_for_status()
        status: int = answer.json()["status"]
        return status

    def run_schedule(self, function: str) -> int:
        """Runs a scheduled function now and waits for it; the HTTP status it ended with."""
        status: int = self._hub.post(f"/schedules/{function}/run").raise_for_status().json()["status"]
        return status

    def restart_functions(self, **environment: str) -> None:
        """Starts the functions anew; the variables are set for that one process, not for one that follows a crash."""
        answer = self._hub.post("/functions/restart", json={"environment": environment}).raise_for_status()
        self._functions_pid = answer.json()["pid"]

    def await_crash(self) -> None:
        """Waits until the process that was started last has died, and another one is ready."""

        def crashed() -> bool:
            state = self.functions()
            return state["state"] == "ready" and state["pid"] != self._functions_pid

        eventually(crashed, "the crash")

    def kill_functions(self) -> None:
        self._hub.post("/functions/kill").raise_for_status()

    def functions(self) -> dict[str, Any]:
        answer: dict[str, Any] = self._hub.get("/functions").raise_for_status().json()
        return answer

    def deliveries(self) -> Any:
        return self._hub.get("/deliveries").raise_for_status().json()

    def idle(self) -> None:
        """Waits until no delivery is under way."""
        self._hub.get("/idle", params={"timeout": PATIENCE_SECONDS}, timeout=PATIENCE_SECONDS + 5).raise_for_status()

    # As an administrator.

    def admin(self, path: str) -> db.Reference:
        return db.reference(path, self.admin_app)

    def ledger(
        self, now: Callable[[], datetime] = lambda: datetime.now(UTC), hold_lifetime: timedelta = timedelta(minutes=10)
    ) -> Ledger:
        """The ledger's own service on the same documents, for what no client can ask for directly."""
        return Ledger(
            LedgerRepository(self.firestore),
            Keyring.from_text(SIGNING_KEY, []),
            ledger_id=self.stack.project,
            hold_lifetime=hold_lifetime,
            now=now,
        )

    # As a client.

    def new_client(self) -> Client:
        """A client of somebody who has not signed in."""
        client = Client(self.stack.addresses)
        self._clients.append(client)
        return client

    def client(self) -> Client:
        """A new person, signed up and nothing else."""
        client = self.new_client()
        client.sign_up(f"{uuid4().hex}@example.com", uuid4().hex)
        return client

    def welcomed(self) -> Client:
        """A new person whose welcome credits have arrived."""
        client = self.client()
        uid = client.session.uid  # type: ignore[union-attr]
        client.put(f"devices/{uid}/{uuid4().hex}", {"platform": "web", "createdAt": {".sv": "timestamp"}})
        eventually(lambda: self.admin(f"balances/{uid}").get(), "the welcome bonus")
        return client

    def funded(self, microcredits: int) -> Client:
        """A person with exactly this balance and no bonus to come."""
        client = self.client()
        uid = client.session.uid  # type: ignore[union-attr]
        self.ledger().credit(uid, op_id="welcome-bonus", kind="grant", amount=microcredits, counter="expense:bonus")
        return client

    def ask(self, client: Client, text: str, request_id: str | None = None, **fields: Any) -> str:
        """Writes a chat request; its id."""
        request_id = request_id or uuid4().hex
        body = {"kind": "chat", "conversationId": "c", "text": text, "createdAt": {".sv": "timestamp"}, **fields}
        client.put(f"requests/{client.session.uid}/{request_id}", body)  # type: ignore[union-attr]
        return request_id

    def response(self, client: Client, request_id: str) -> dict[str, Any]:
        found = client.read(f"responses/{client.session.uid}/{request_id}")  # type: ignore[union-attr]
        return found or {}

    def await_status(self, client: Client, request_id: str, *statuses: str) -> dict[str, Any]:
        """The response once its status is one of these (by default: a terminal one)."""
        wanted = statuses or TERMINAL

        def probe() -> dict[str, Any] | None:
            response = self.response(client, request_id)
            return response if response.get("status") in wanted else None

        found: dict[str, Any] = eventually(probe, f"status {'/'.join(wanted)} of {request_id}")
        return found

    def answer(self, client: Client, text: str, **fields: Any) -> dict[str, Any]:
        """Asks and waits for the end."""
        return self.await_status(client, self.ask(client, text, **fields))

    def kinds(self, client: Client) -> list[str]:
        """The kinds of all entries of a person's account, in order."""
        uid = client.session.uid  # type: ignore[union-attr]
        return [entry.fields()["kind"] for entry in self.ledger().entries(uid)]

    def audit(self, client: Client) -> Verification:
        """Replays the account: the chain verifies, nothing is held, nothing is negative. Every test ends with it."""
        uid = client.session.uid  # type: ignore[union-attr]
        verification = self.ledger().verify(uid)
        assert verification.findings == []
        assert verification.head.held == 0, "something is left held"
        assert verification.head.posted >= 0
        return verification
