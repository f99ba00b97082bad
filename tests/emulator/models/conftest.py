"""The offline model server on a real port, in a thread with its own event loop, and the unmodified openai client."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from emulator.clock import Clock
from emulator.faults import FaultPlan
from emulator.models import ModelServer


class ModelsFixture:
    """A running server that answers as fast as it can."""

    def __init__(self) -> None:
        self.faults = FaultPlan()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.server = ModelServer(clock=Clock(), faults=self.faults, token_interval_ms=0)
        self.base_url = f"http://{self.run(self.server.start('127.0.0.1', 0)).address}/v1"

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Polls until the condition holds; gives up after a minute."""
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "this never happened"
            time.sleep(0.005)

    def close(self) -> None:
        self.run(self.server.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture(name="models")
def _models() -> Iterator[ModelsFixture]:
    fixture = ModelsFixture()
    yield fixture
    fixture.close()


@pytest.fixture(name="client")
def _client(models: ModelsFixture) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=models.base_url, api_key="any", max_retries=0, timeout=60) as client:
        yield client
