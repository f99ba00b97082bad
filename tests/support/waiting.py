"""Patience: how tests wait for what has to happen some time."""

import time
from collections.abc import Callable
from typing import Any

# Generous, because machines are slow and shared.
PATIENCE_SECONDS = 60.0


def eventually(probe: Callable[[], Any], what: str = "the condition") -> Any:
    """The probe's first truthy value."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (value := probe()):
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.005)
    return value
