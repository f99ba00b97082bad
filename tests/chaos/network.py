"""The embedded Firestore and Cloud Storage in this process, and clients whose every call of Firestore is a step.

The clients are the unmodified libraries over real sockets; an interceptor of gRPC's own hands each call to whoever
directs the simulation before it is sent, the library's own retries too.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import grpc
from chaos.documents import fields, from_messages
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore, storage
from google.cloud.firestore_v1.services.firestore import FirestoreClient
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcTransport
from support.loop import LoopThread
from support.storage import close_client, open_client
from support.waiting import PATIENCE_SECONDS

from emulator.clock import Clock
from emulator.faults import Fault, FaultPlan
from emulator.firestore import FirestoreServer
from emulator.firestore.indexes import Indexes
from emulator.persistence import Store
from emulator.storage import StorageServer

ROOT = Path(__file__).resolve().parent.parent.parent
BUCKET_PROJECT = "demo-simulation"

Send = Callable[[], Any]
Direct = Callable[[str, Send], Any]


class _Wire(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):  # type: ignore[misc]
    def __init__(self, network: "Network") -> None:
        self._network = network

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return self._network.direct(details.method.rpartition("/")[2], lambda: continuation(details, request))

    intercept_unary_stream = intercept_unary_unary


class Network:
    """One for many simulations, each in a project of its own. `direct` is called with the name of every call of
    Firestore and with what sends it."""

    def __init__(self) -> None:
        self._faults = FaultPlan()
        self._clock = Clock()
        self._loop = LoopThread()
        self._storage_loop = LoopThread()
        self._server = FirestoreServer(
            clock=self._clock, faults=self._faults, indexes=Indexes.load(ROOT / "firestore.indexes.json")
        )
        self._storage = StorageServer(
            project_id=BUCKET_PROJECT, clock=self._clock, store=Store(None), faults=FaultPlan()
        )
        self._address = f"127.0.0.1:{self._loop.run(self._server.start())}"
        url = f"http://{self._storage_loop.run(self._storage.start('127.0.0.1', 0)).address}"
        channel = grpc.intercept_channel(grpc.insecure_channel(self._address), _Wire(self))
        self._channel = channel
        self._api = FirestoreClient(transport=FirestoreGrpcTransport(host=self._address, channel=channel))
        with mock.patch.dict(os.environ, {"STORAGE_EMULATOR_HOST": url}):
            self._objects = open_client(BUCKET_PROJECT)
        self._buckets = 0
        self.direct: Direct = _at_once

    def client(self, project: str) -> firestore.Client:
        """A client of its own for each instance; they share the channel."""
        with mock.patch.dict(os.environ, {"FIRESTORE_EMULATOR_HOST": self._address}):
            client = firestore.Client(project=project, credentials=AnonymousCredentials())
        client._firestore_api_internal = self._api
        return client

    def new_bucket(self) -> storage.Bucket:
        """An empty one."""
        self._buckets += 1
        name = f"simulation-{self._buckets}"
        self._storage_loop.call(self._storage.buckets.create, name)
        return self._objects.bucket(name)

    @contextmanager
    def directed(self, direct: Direct) -> Iterator[None]:
        """Hands every call to this director for a while."""
        self.direct = direct
        try:
            yield
        finally:
            self.direct = _at_once

    def plan(self, rpc: str, action: Any) -> None:
        """The next call of this name meets a fault of the embedded Firestore."""
        # Whoever has the baton makes the next call, and nobody else does.
        self._faults.add(Fault(f"firestore.{rpc}", action))

    def await_met(self) -> None:
        """A call with an answer in pieces is not there yet when it has been sent: a caller that dies at once would
        take it back, and leave its fault to somebody else. Sleeping would hand the baton over."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._loop.call(lambda: self._faults.is_empty):
            assert time.monotonic() < deadline, "the planned fault was never met"

    def documents(self, project: str) -> dict[str, dict[str, Any]]:
        """Everything that is stored for a project, past all clients."""
        messages = {name: stored.message for name, stored in self._server.documents.documents().items()}
        return from_messages(messages, _root(project))

    def document(self, project: str, path: str) -> dict[str, Any] | None:
        stored = self._server.documents.get(f"{_root(project)}/{path}")
        return None if stored is None else fields(stored.message)

    def forget(self, project: str) -> None:
        """Removes every document of a project, and the faults that nobody met."""
        self._faults.clear()
        self._loop.call(self._server.clear, project)

    def seconds_in_firestore(self) -> float:
        """Processor time that the embedded Firestore's thread has used."""
        return self._loop.call(time.thread_time)

    def close(self) -> None:
        self._channel.close()
        close_client(self._objects)
        self._loop.run(self._server.stop())
        self._loop.close()
        self._storage_loop.run(self._storage.stop())
        self._storage_loop.close()


def _root(project: str) -> str:
    return f"projects/{project}/databases/(default)/documents"


def _at_once(_: str, send: Send) -> Any:
    return send()
