"""Runs the provider and writes what comes: until the answer ends, is cancelled, or runs out of time.

Two threads. The pump reads the provider, with retries and fallbacks, and never waits for the database; the caller's
thread batches, writes and watches for the cancellation.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from concierge.assistant.route import Candidate
from concierge.assistant.token_writer import TokenWriter
from concierge.errors import ConciergeError, DeadlineExceeded, ProviderUnavailable
from concierge.kit.logging import log
from concierge.kit.retry import Backoff
from concierge.llm.openai_compatible import ChatCall, ChatStream, OpenAICompatibleProvider, ProviderFault, Usage

End = Literal["complete", "cancelled", "failed"]

# The longest tokens of known vocabularies, runs of blanks among them, have about this many characters.
_CHARACTERS_PER_TOKEN_MAX = 128


@dataclass(frozen=True, slots=True)
class Generation:
    """What came of it. `answered_by` is the model whose text this is, None if none came; `pieces` is a lower bound of
    the output tokens. `error` is set if and only if the end is `failed`."""

    end: End
    text: str
    pieces: int
    answered_by: Candidate | None
    usage: Usage | None
    error: ConciergeError | None = None


@dataclass(frozen=True, slots=True)
class _Started:
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class _Ended:
    usage: Usage | None
    error: ConciergeError | None = None


_Item = str | _Started | _Ended


class _Pump(threading.Thread):
    """Reads candidates in order until one answers. Puts the pieces of text into `items`, an _Ended last."""

    def __init__(
        self,
        provider: OpenAICompatibleProvider,
        calls: Iterable[tuple[Candidate, ChatCall]],
        backoff: Backoff,
        deadline: float,
    ) -> None:
        super().__init__(name="provider-pump", daemon=True)
        self.items: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._provider, self._calls, self._backoff, self._deadline = provider, tuple(calls), backoff, deadline
        self._stopped = threading.Event()
        self._stream: ChatStream | None = None

    def stop(self) -> None:
        """Ends the reading; what was read so far is in `items`."""
        self._stopped.set()
        stream = self._stream
        if stream is not None:
            stream.abort()

    def run(self) -> None:
        try:
            ended = self._answer()
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller must learn that nothing more will come
            log("ERROR", "provider.crashed", error=error)
            ended = _Ended(None, ProviderUnavailable("The model provider does not answer."))
        stream, self._stream = self._stream, None
        self.items.put(ended)
        if stream is not None:
            # After the end was told: giving the connection back may wait for the provider.
            stream.release()

    def _answer(self) -> _Ended:
        for candidate, call in self._calls:
            waits = self._backoff.waits()
            while not self._stopped.is_set():
                delivered = False
                try:
                    stream = self._stream = self._provider.stream_chat(call)
                    if self._stopped.is_set():
                        stream.abort()
                    for piece in stream:
                        if not delivered:
                            self.items.put(_Started(candidate))
                            delivered = True
                        self.items.put(piece)
                    return _Ended(stream.usage)
                except ProviderFault as fault:
                    log("WARNING", "provider.fault", model=call.model, detail=str(fault), retryable=fault.retryable)
                    self._drop_stream()
                    if delivered:
                        # The client has text of this answer: starting again would repeat it.
                        return _Ended(None, ProviderUnavailable("The model provider broke off its answer."))
                    wait_seconds = next(waits, None) if fault.retryable else None
                    if wait_seconds is None or time.monotonic() + wait_seconds >= self._deadline:
                        break
                    self._stopped.wait(wait_seconds)
        return _Ended(None, ProviderUnavailable("The model provider does not answer."))

    def _drop_stream(self) -> None:
        """Closes the stream of a failed attempt."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.release()


def generate(
    provider: OpenAICompatibleProvider,
    calls: Iterable[tuple[Candidate, ChatCall]],
    writer: TokenWriter,
    *,
    is_cancelled: Callable[[], bool],
    backoff: Backoff,
    deadline: float,
    flush_seconds: float,
    output_tokens_max: int,
) -> Generation:
    """Streams one answer through the writer. `deadline` is of time.monotonic(). Raises nothing of its own.

    A cancellation is looked for at every flush interval, before the first token as well as after it.
    """
    pump = _Pump(provider, calls, backoff, deadline)
    pump.start()
    answered_by: Candidate | None = None
    end: End = "complete"
    ended = _Ended(None)
    next_look = time.monotonic() + flush_seconds
    characters_max = output_tokens_max * _CHARACTERS_PER_TOKEN_MAX
    try:
        while True:
            now = time.monotonic()
            if now >= deadline:
                end, ended = "failed", _Ended(None, DeadlineExceeded("The answer took too long."))
                break
            if now >= next_look:
                writer.flush()
                if is_cancelled():
                    end = "cancelled"
                    break
                next_look = time.monotonic() + flush_seconds
                continue
            try:
                item = pump.items.get(timeout=min(next_look, deadline) - now)
            except queue.Empty:
                continue
            if isinstance(item, _Ended):
                ended = item
                end = "failed" if item.error is not None else "complete"
                break
            if isinstance(item, _Started):
                answered_by = item.candidate
                writer.announce(status="streaming", model=item.candidate.model)
                continue
            if writer.pieces >= output_tokens_max or writer.characters >= characters_max:
                # Each piece holds a token at least: the provider ignores the ceiling that the hold was sized for. An
                # answer that ends exactly there goes on to its usage instead.
                log("WARNING", "provider.over_ceiling", model=answered_by.model if answered_by else None)
                break
            writer.add(item[: characters_max - writer.characters])
            if writer.pieces == 1:
                writer.flush()
    finally:
        pump.stop()
    return Generation(end, writer.text, writer.pieces, answered_by, ended.usage, ended.error)
