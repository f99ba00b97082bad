"""One running fixture app for all tests of the folder."""

from collections.abc import Iterator

import pytest

from tests.emulator.triggers.harness import Harness


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    harness = Harness(tmp_path_factory.mktemp("functions"))
    harness.start()
    yield harness
    harness.close()


@pytest.fixture
def functions(running: Harness) -> Iterator[Harness]:
    """The running app, with nothing in flight, no faults and no records."""
    running.reset()
    yield running
    running.thread.call(running.plan.clear)
