"""Retries with exponential backoff and full jitter.

The waits are drawn uniformly from [0, min(cap, base * 2**n)], which spreads competing callers best:
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ (full jitter).
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often and how long. `attempts` counts the first one."""

    attempts: int
    base_seconds: float
    cap_seconds: float

    def waits(self, draw: Callable[[float, float], float] = random.uniform) -> Iterator[float]:
        """The waits between attempts, in seconds: attempts - 1 of them."""
        for exponent in range(self.attempts - 1):
            yield draw(0, min(self.cap_seconds, self.base_seconds * 2**exponent))


def call_with_retry(
    action: Callable[[], Result],
    *,
    backoff: Backoff,
    retry_on: tuple[type[Exception], ...],
    deadline: float = float("inf"),
    stopped: threading.Event | None = None,
) -> Result:
    """Calls `action` until it succeeds, the attempts are used up, the deadline (time.monotonic()) would pass during the
    wait, or `stopped` is set; then the last error is raised."""
    waits = backoff.waits()
    while True:
        try:
            return action()
        except retry_on:
            wait_seconds = next(waits, None)
            if wait_seconds is None or time.monotonic() + wait_seconds >= deadline:
                raise
            if stopped is None:
                time.sleep(wait_seconds)
            elif stopped.wait(wait_seconds):
                raise
