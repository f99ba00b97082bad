"""The token writer: batches the pieces of an answer by time and writes them as numbered chunks.

There is at most one write in flight, and the caller spaces them (the first piece goes out at once). A write that fails
may have been applied all the same: its chunks are written again as they were, under their own numbers, and what came
since goes into the next one. So chunks stay gapless, in order, and never change. While the provider is silent,
heartbeats tell the sweeper that the run is alive.
"""

import time
from typing import Any

from firebase_admin import exceptions as firebase_exceptions

from concierge.assistant.repository import Responses
from concierge.kit.logging import log
from concierge.kit.retry import Backoff


class TokenWriter:
    """The live text of one response."""

    def __init__(self, responses: Responses, uid: str, request_id: str, *, heartbeat_seconds: float) -> None:
        self._responses, self._uid, self._request_id = responses, uid, request_id
        self._heartbeat_seconds = heartbeat_seconds
        self._written_at = float("-inf")
        self._pending: list[str] = []
        self._unconfirmed: dict[str, str] = {}
        self._pieces: list[str] = []
        self._header: dict[str, Any] = {}
        self.chunks = 0
        self.characters = 0

    @property
    def text(self) -> str:
        """Everything that was generated."""
        return "".join(self._pieces)

    @property
    def pieces(self) -> int:
        """How many pieces came; each holds at least one token."""
        return len(self._pieces)

    def announce(self, **fields: Any) -> None:
        """Fields that go with the next write, as status and model."""
        self._header.update(fields)

    def add(self, piece: str) -> None:
        self._pending.append(piece)
        self._pieces.append(piece)
        self.characters += len(piece)

    def flush(self) -> bool:
        """Writes what waits, as one chunk; with nothing to write, a heartbeat when one is due.

        False if the database did not take it: it is tried again next time.
        """
        now = time.monotonic()
        waiting = self._pending or self._unconfirmed or self._header
        if not waiting and now - self._written_at < self._heartbeat_seconds:
            return True
        if self._pending:
            self._unconfirmed[f"chunks/{self.chunks}"] = "".join(self._pending)
            self._pending.clear()
            self.chunks += 1
        fields = {**self._header, **self._unconfirmed}
        try:
            self._responses.write(self._uid, self._request_id, fields)
        except firebase_exceptions.FirebaseError as error:
            log("WARNING", "chunk.not_written", uid=self._uid, requestId=self._request_id, error=error)
            return False
        self._written_at = now
        self._unconfirmed.clear()
        self._header.clear()
        return True

    def flush_rest(self, backoff: Backoff) -> bool:
        """Writes the last pieces, patiently. False if the database took them at no attempt."""
        for wait_seconds in backoff.waits():
            if self.flush():
                return True
            time.sleep(wait_seconds)
        return self.flush()
