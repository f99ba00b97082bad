"""One embedded Firestore for all seeds of a test process."""

from collections.abc import Iterator

import pytest
from chaos.network import Network


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    running = Network()
    yield running
    running.close()
