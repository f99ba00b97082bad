"""Any server with the OpenAI protocol (Nebius, OpenAI, Ollama, the offline model server), through the `openai` package.

The only file that knows `openai`. Retries are the caller's: the package's own are switched off, because a retry has to
respect the request's deadline and its cancellation.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import httpx2
import openai

from concierge.llm.metering import Purpose, policy_of

# What a provider's nonsense turns into while it is read: the package builds its objects without checking types.
_NONSENSE = (ValueError, TypeError, AttributeError, KeyError, IndexError)

_KEPT_STREAM = "concierge_kept_stream"
# Tells gateways, and whoever reads the provider's log, what a call was for; never whose it was.
_PURPOSE_HEADER = "X-Concierge-Purpose"
# What may follow the last event: the end of the chunked body, now and then a comment.
_REST_CHUNKS_MAX = 8


class ProviderFault(Exception):
    """The provider failed. `retryable` says whether the same call may work later; details are for the log only."""

    def __init__(self, detail: str, *, retryable: bool) -> None:
        super().__init__(detail)
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class Usage:
    """What the provider counted, in tokens; all whole and not negative.

    `cached_input_tokens` of the input tokens came from the provider's cache: they are a part of them, not more.
    """

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ChatCall:
    """One call. `messages` are `{role, content}`; `max_tokens` bounds the output, as the hold does. `purpose` decides
    who pays (metering.py)."""

    purpose: Purpose
    model: str
    messages: tuple[dict[str, str], ...]
    max_tokens: int
    temperature: float | None = None


class _KeptStream(httpx2.SyncByteStream):
    """A response body whose connection can be used again.

    The `openai` package closes a stream at its last event, a few bytes before the end of the body, and a connection
    with an unread body is thrown away: every answer would begin with a new TCP and TLS handshake. So closing waits
    for `finish`, unless the body was read to its end.
    """

    def __init__(self, body: httpx2.SyncByteStream) -> None:
        self._body = body
        self._chunks = iter(body)
        self._exhausted = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._chunks)
        except StopIteration:
            self._exhausted = True
            raise

    def close(self) -> None:
        if self._exhausted:
            self._body.close()

    def finish(self, *, read_rest: bool) -> None:
        """Closes for good, after reading what is left if the connection is worth keeping."""
        try:
            if read_rest and not self._exhausted:
                for _ in range(_REST_CHUNKS_MAX):
                    if next(self._chunks, None) is None:
                        break
        except httpx2.HTTPError:
            # The rest did not come: then the connection is closed instead of kept.
            return
        finally:
            self._body.close()


class _KeepingTransport(httpx2.HTTPTransport):
    """The usual transport; bodies of streamed answers can be finished by whoever reads them."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            assert isinstance(response.stream, httpx2.SyncByteStream)
            kept = _KeptStream(response.stream)
            response.stream = kept
            response.extensions = {**response.extensions, _KEPT_STREAM: kept}
        return response


class ChatStream:
    """The answer while it arrives. Iterate once, then `release`; `usage` is set after the end if the provider sent a
    sound one."""

    def __init__(self, stream: "openai.Stream[Any]") -> None:
        self._stream = stream
        self._complete = False
        self._aborted = threading.Event()
        self.usage: Usage | None = None

    def __iter__(self) -> Iterator[str]:
        """Pieces of text, none empty. Raises ProviderFault; ends quietly after abort()."""
        finished = False
        whole = _WholeCharacters()
        try:
            for chunk in self._stream:
                if self._aborted.is_set():
                    return
                if chunk.usage is not None:
                    self.usage = _sound_usage(chunk.usage)
                    finished = True
                for choice in chunk.choices or ():
                    finished = finished or choice.finish_reason is not None
                    if choice.delta is not None and choice.delta.content:
                        finished = True
                        if piece := whole.add(str(choice.delta.content)):
                            yield piece
        except (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError, OSError, *_NONSENSE) as error:
            if self._aborted.is_set():
                return
            raise _fault(error) from error
        self._complete = True
        if rest := whole.end():
            yield rest
        if not finished and not self._aborted.is_set():
            raise ProviderFault("the provider's stream held no answer", retryable=True)

    def release(self) -> None:
        """Gives the connection back, for another answer if this one was read whole. May wait for the provider."""
        self._stream.close()
        kept = self._stream.response.extensions.get(_KEPT_STREAM)
        if kept is not None:
            kept.finish(read_rest=self._complete and not self._aborted.is_set())

    def abort(self) -> None:
        """Ends the stream from another thread, even one that is blocked in a read."""
        self._aborted.set()
        network = self._stream.response.extensions.get("network_stream")
        connection = network.get_extra_info("socket") if network is not None else None
        if connection is not None:
            # Closing would not wake the reader; a shutdown does. It fails if the provider has hung up already.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _WholeCharacters:
    """Makes pieces of text that any store takes: JSON can carry halves of a surrogate pair, UTF-8 cannot."""

    def __init__(self) -> None:
        self._half = ""

    def add(self, text: str) -> str:
        """The text with pairs joined, also across pieces; a half without its other becomes U+FFFD."""
        text = self._half + text
        self._half = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        return _joined(text.removesuffix(self._half))

    def end(self) -> str:
        return _joined(self._half)


def _joined(text: str) -> str:
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class OpenAICompatibleProvider:
    """One server. Safe to share between threads."""

    def __init__(
        self, *, base_url: str, api_key: str, connect_timeout_seconds: float, silence_timeout_seconds: float
    ) -> None:
        timeout = httpx2.Timeout(silence_timeout_seconds, connect=connect_timeout_seconds)
        http_client = openai.DefaultHttpxClient(transport=_KeepingTransport(), timeout=timeout)
        self._client = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=0, http_client=http_client)

    def close(self) -> None:
        """Gives up all connections."""
        self._client.close()

    def stream_chat(self, call: ChatCall) -> ChatStream:
        """Starts an answer. Raises ProviderFault; UndeclaredPurpose before anything is sent."""
        policy_of(call.purpose)
        try:
            stream = self._client.chat.completions.create(
                model=call.model,
                messages=cast(Any, call.messages),  # our dicts are its TypedDicts
                max_tokens=call.max_tokens,
                stream=True,
                stream_options={"include_usage": True},
                temperature=openai.omit if call.temperature is None else call.temperature,
                extra_headers={_PURPOSE_HEADER: call.purpose},
            )
        except (openai.OpenAIError, httpx2.HTTPError, OSError, *_NONSENSE) as error:
            raise _fault(error) from error
        return ChatStream(stream)

    def model_ids(self) -> list[str]:
        """What the server says it offers. Raises ProviderFault."""
        purpose: Purpose = "model-list"
        policy_of(purpose)
        try:
            return [model.id for model in self._client.models.list(extra_headers={_PURPOSE_HEADER: purpose})]
        except (openai.OpenAIError, httpx2.HTTPError, OSError, *_NONSENSE) as error:
            raise _fault(error) from error


def _fault(error: Exception) -> ProviderFault:
    permanent = isinstance(error, openai.APIStatusError) and error.status_code in (400, 401, 403, 404, 413, 422)
    # The provider's own words stay out: they may quote the question, and details go to the log.
    status = f" {error.status_code}" if isinstance(error, openai.APIStatusError) else ""
    return ProviderFault(f"{type(error).__name__}{status}", retryable=not permanent)


def _sound_usage(reported: Any) -> Usage | None:
    """The provider's count if it consists of whole numbers, none negative; no bill is based on anything else."""
    counts = (reported.prompt_tokens, reported.completion_tokens)
    if any(type(count) is not int or count < 0 for count in counts):
        return None
    return Usage(*counts, _sound_cached(reported, reported.prompt_tokens))


def _sound_cached(reported: Any, input_tokens: int) -> int:
    """How many of the input tokens came from the cache; 0 where the provider's details cannot be true.

    They are contained in `prompt_tokens`, which is why they are only ever a part of what is charged.
    https://platform.openai.com/docs/guides/prompt-caching
    """
    details = getattr(reported, "prompt_tokens_details", None)
    cached = details.get("cached_tokens") if isinstance(details, dict) else getattr(details, "cached_tokens", None)
    return cached if type(cached) is int and 0 <= cached <= input_tokens else 0
