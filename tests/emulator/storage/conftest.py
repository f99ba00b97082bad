"""Cloud Storage on a socket, in a thread with its own event loop, and the unmodified client library."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY
from support.loop import LoopThread
from support.storage import close_client, open_client

from emulator.clock import Clock
from emulator.faults import Fault, FaultPlan
from emulator.persistence import Store
from emulator.storage import StorageServer

PROJECT = "demo-storage"
QUICK = DEFAULT_RETRY.with_delay(initial=0.01, maximum=0.05).with_timeout(10)


class RunningStorage:
    """A server and the means to reach into it."""

    def __init__(self, directory: Path | None = None) -> None:
        self.faults = FaultPlan()
        self.store = Store(directory)
        self.thread = LoopThread()
        self.server = StorageServer(project_id=PROJECT, clock=Clock(), store=self.store, faults=self.faults)
        self.url = f"http://{self.thread.run(self.server.start('127.0.0.1', 0)).address}"
        self._clients: list[storage.Client] = []

    def add_fault(self, **fields: Any) -> None:
        self.thread.call(self.faults.add, Fault(**fields))

    def bucket(self) -> storage.Bucket:
        """The default bucket, through a client of its own."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STORAGE_EMULATOR_HOST", self.url)
            client = open_client(PROJECT)
        self._clients.append(client)
        return client.bucket(f"{PROJECT}.appspot.com")

    def close(self) -> None:
        while self._clients:
            close_client(self._clients.pop())
        self.thread.run(self.server.stop())
        self.thread.close()
        self.store.close()


@pytest.fixture
def start() -> Iterator[Callable[..., RunningStorage]]:
    """Starts servers; all are stopped at the end."""
    running: list[RunningStorage] = []

    def start_one(directory: Path | None = None) -> RunningStorage:
        running.append(RunningStorage(directory))
        return running[-1]

    yield start_one
    for server in running:
        server.close()


@pytest.fixture
def server(start: Callable[..., RunningStorage]) -> RunningStorage:
    return start()


@pytest.fixture
def bucket(server: RunningStorage) -> storage.Bucket:
    return server.bucket()


@pytest.fixture
def quick_retry() -> Any:
    """The library's own retries, without its long waits."""
    return QUICK
