"""Firestore on a socket, in a thread with its own event loop, and the unmodified client library.

The tests that use the fixture `database` alone hold for any Firestore: with CONCIERGE_CONFORMANCE_FIRESTORE_HOST set
they run against the server at that address, for instance the official emulator. Those that use `firestore` or `start`
need the embedded one.
"""

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore as client_library
from support.loop import LoopThread
from support.waiting import PATIENCE_SECONDS

from emulator.clock import Clock
from emulator.faults import Fault, FaultPlan
from emulator.firestore import FirestoreServer
from emulator.persistence import Store

OTHER_HOST = os.environ.get("CONCIERGE_CONFORMANCE_FIRESTORE_HOST")


class RunningFirestore:
    """A server and the means to reach into it."""

    def __init__(self, directory: Path | None, **options: Any) -> None:
        self.clock = Clock()
        self.faults = FaultPlan()
        self.store = Store(directory)
        self.thread = LoopThread()
        self.server = FirestoreServer(clock=self.clock, store=self.store, faults=self.faults, **options)
        self.address = f"127.0.0.1:{self.thread.run(self.server.start('127.0.0.1', 0))}"

    def add_fault(self, **fields: Any) -> None:
        self.thread.call(self.faults.add, Fault(**fields))

    def close(self) -> None:
        self.thread.run(self.server.stop())
        self.thread.close()
        self.store.close()


@contextmanager
def client_of(address: str, project: str) -> Iterator[client_library.Client]:
    """The library reads the address when it makes a client, and never again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRESTORE_EMULATOR_HOST", address)
        client = client_library.Client(project=project, credentials=AnonymousCredentials())
        # The transport is made lazily, from the variable.
        assert client._firestore_api is not None
    try:
        yield client
    finally:
        client.close()


@pytest.fixture(scope="session")
def shared_firestore() -> Iterator[RunningFirestore]:
    running = RunningFirestore(None)
    yield running
    running.close()


@pytest.fixture
def firestore(shared_firestore: RunningFirestore) -> RunningFirestore:
    """The embedded server, for tests that look inside it or are about it alone."""
    if OTHER_HOST:
        pytest.skip("about the embedded Firestore")
    return shared_firestore


@pytest.fixture
def start() -> Iterator[Callable[..., RunningFirestore]]:
    """Starts servers of the test's own."""
    if OTHER_HOST:
        pytest.skip("about the embedded Firestore")
    running: list[RunningFirestore] = []

    def start_one(directory: Path | None = None, **options: Any) -> RunningFirestore:
        running.append(RunningFirestore(directory, **options))
        return running[-1]

    yield start_one
    for server in running:
        server.close()


@pytest.fixture(scope="session")
def host(shared_firestore: RunningFirestore) -> str:
    """The address of the Firestore under test."""
    return OTHER_HOST or shared_firestore.address


@pytest.fixture
def is_conformance() -> bool:
    """True if it is another Firestore than the embedded one that is tested."""
    return OTHER_HOST is not None


@pytest.fixture
def project() -> str:
    """A project of the test's own, which is as good as a server of its own."""
    return f"demo-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def database(host: str, project: str) -> Iterator[client_library.Client]:
    with client_of(host, project) as client:
        yield client


@pytest.fixture
def connect() -> Callable[[str, str], Any]:
    """Makes a client: `with connect(address, project) as database`."""
    return client_of


@pytest.fixture
def in_parallel() -> Callable[[int, Callable[[int], Any]], list[Any]]:
    """Runs a function in threads at once; returns their results, and raises what any of them raised."""

    def run(count: int, function: Callable[[int], Any]) -> list[Any]:
        results: list[Any] = [None] * count
        failures: list[BaseException] = []
        barrier = threading.Barrier(count)

        def work(index: int) -> None:
            try:
                barrier.wait(PATIENCE_SECONDS)
                results[index] = function(index)
            except BaseException as error:  # noqa: BLE001 - it is raised again in the thread of the test
                failures.append(error)

        threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        assert not any(thread.is_alive() for thread in threads), "a thread hangs"
        if failures:
            raise failures[0]
        return results

    return run
