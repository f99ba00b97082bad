"""The offline model server on a real port, in a thread with its own event loop, and the unmodified openai client."""

from collections.abc import Iterator

import openai
import pytest
from support.loop import LoopThread
from support.waiting import PATIENCE_SECONDS

from emulator.clock import Clock
from emulator.faults import FaultPlan
from emulator.models import ModelServer


class ModelsFixture:
    """A running server that answers as fast as it can."""

    def __init__(self) -> None:
        self.faults = FaultPlan()
        self.thread = LoopThread()
        self.server = ModelServer(clock=Clock(), faults=self.faults, token_interval_ms=0)
        self.base_url = f"http://{self.thread.run(self.server.start('127.0.0.1', 0)).address}/v1"

    def close(self) -> None:
        self.thread.run(self.server.stop())
        self.thread.close()


@pytest.fixture(name="models")
def _models() -> Iterator[ModelsFixture]:
    fixture = ModelsFixture()
    yield fixture
    fixture.close()


@pytest.fixture(name="client")
def _client(models: ModelsFixture) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=models.base_url, api_key="any", max_retries=0, timeout=PATIENCE_SECONDS) as client:
        yield client
