"""The clock of all embedded services. Tests and client developers may move it forward; it never goes back."""

import asyncio
import time
from datetime import UTC, datetime


class Clock:
    """Wall-clock time plus an offset that only grows."""

    def __init__(self) -> None:
        self._offset_ms = 0
        self._moved = asyncio.Event()

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000 + self._offset_ms

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_ms() / 1000, UTC)

    def advance(self, seconds: float) -> None:
        """Moves the clock forward and wakes whoever waits for a time. Raises ValueError for a negative step."""
        if seconds < 0:
            raise ValueError("the clock only moves forward")
        self._offset_ms += int(seconds * 1000)
        self._moved.set()
        self._moved = asyncio.Event()

    async def wait_until(self, at_ms: int) -> None:
        """Returns once now_ms() >= at_ms, whether time passed or the clock was moved."""
        while (missing_ms := at_ms - self.now_ms()) > 0:
            moved = self._moved
            try:
                await asyncio.wait_for(moved.wait(), missing_ms / 1000)
            except TimeoutError:
                continue
