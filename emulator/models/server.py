"""The offline model over HTTP: the endpoints of OpenAI's API that Concierge uses, under /v1.

Used only where no provider is configured. Faults are taken for `models.chat`, `models.embeddings`, `models.images` and
`models.models`: error = 500 before anything; error_after = the work is done, then an error (in a stream: an error
event); delay = late; drop = the connection is cut, in a stream after a few tokens. A duplicate is served as usual.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from emulator.clock import Clock
from emulator.faults import Fault, FaultPlan
from emulator.models import embeddings, images
from emulator.models.catalogue import MODELS, find
from emulator.models.chat_request import ChatRequest, parse
from emulator.models.errors import ModelError
from emulator.models.generator import Answer, answer
from emulator.models.streaming import StreamedChunk, chat_chunks, usage_chunk
from emulator.web import RunningServer, serve

_INTERVAL_HEADER = "x-offline-token-interval-ms"
_INTERVAL_MS_MAX = 60_000
_BODY_BYTES_MAX = 32 * 1024 * 1024
_TOKENS_BEFORE_DROP = 5

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Statistics:
    """What the server did since it was made. `calls` counts accepted calls that cost something, by endpoint in
    `calls_by_endpoint`; `tokens` counts what was really generated; `aborted` those whose client went away."""

    calls: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    aborted: int = 0
    calls_by_endpoint: Counter[str] = field(default_factory=Counter)

    def called(self, endpoint: str, prompt_tokens: int) -> None:
        self.calls += 1
        self.calls_by_endpoint[endpoint] += 1
        self.prompt_tokens += prompt_tokens

    def as_json(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "callsByEndpoint": dict(self.calls_by_endpoint),
            "promptTokens": self.prompt_tokens,
            "tokens": self.tokens,
            "aborted": self.aborted,
        }


class ModelServer:
    """The offline model server. `token_interval_ms` is the pace of its answers, streamed or not; the request header
    `x-offline-token-interval-ms` overrides it."""

    def __init__(self, *, clock: Clock, faults: FaultPlan, token_interval_ms: float = 15) -> None:
        self.statistics = Statistics()
        self._clock = clock
        self._faults = faults
        self._token_interval_ms = token_interval_ms
        self._server: RunningServer | None = None

    async def start(self, host: str, port: int) -> RunningServer:
        """Binds and serves. Raises OSError if the port is taken."""
        app = web.Application(middlewares=[_answer_errors], client_max_size=_BODY_BYTES_MAX)
        app.add_routes(
            [
                web.get("/v1/models", self._list_models),
                web.get("/v1/models/{model}", self._get_model),
                web.post("/v1/chat/completions", self._chat),
                web.post("/v1/embeddings", self._embeddings),
                web.post("/v1/images/generations", self._images),
            ]
        )
        self._server = await serve(app, host, port)
        return self._server

    async def stop(self) -> None:
        """Closes the port and cuts open streams; does nothing if it is not open."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop()

    async def _list_models(self, request: web.Request) -> web.StreamResponse:
        _require_key(request)
        fault = await self._take_fault("models.models")
        listed = {"object": "list", "data": [model.as_json() for model in MODELS.values()]}
        return _whole(request, fault, listed)

    async def _get_model(self, request: web.Request) -> web.StreamResponse:
        _require_key(request)
        fault = await self._take_fault("models.models")
        return _whole(request, fault, find(request.match_info["model"]).as_json())

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        _require_key(request)
        fault = await self._take_fault("models.embeddings")
        response = embeddings.respond(await _json_body(request))
        self.statistics.called("embeddings", response["usage"]["prompt_tokens"])
        return _whole(request, fault, response)

    async def _images(self, request: web.Request) -> web.StreamResponse:
        _require_key(request)
        fault = await self._take_fault("models.images")
        response = images.respond(await _json_body(request), self._clock.now_ms() // 1000)
        self.statistics.called("images", response["usage"]["input_tokens"])
        self.statistics.tokens += response["usage"]["output_tokens"]
        return _whole(request, fault, response)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        _require_key(request)
        fault = await self._take_fault("models.chat")
        chat = parse(await _json_body(request))
        interval_ms = _interval_ms(request, self._token_interval_ms)
        self.statistics.called("chat", chat.prompt_tokens)
        number = self.statistics.calls
        head = {
            "id": f"chatcmpl-offline-{chat.seed.hex()[:16]}-{number}",
            "created": self._clock.now_ms() // 1000,
            "model": chat.model.id,
            "system_fingerprint": "offline",
        }
        result = answer(chat)
        try:
            if chat.stream:
                return await self._stream(request, chat, head, result, interval_ms, fault)
            pace = _Pace(interval_ms)
            for _ in range(result.completion_tokens):
                await pace.next_token()
                self.statistics.tokens += 1
            return _whole(request, fault, _completion(head, chat, result))
        except (asyncio.CancelledError, ConnectionError):
            # The client went away: nothing more is generated for it.
            self.statistics.aborted += 1
            raise

    async def _stream(
        self,
        request: web.Request,
        chat: ChatRequest,
        head: dict[str, Any],
        result: Answer,
        interval_ms: float,
        fault: Fault | None,
    ) -> web.StreamResponse:
        headers = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        dropped = fault is not None and fault.action == "drop"
        pace, sent = _Pace(interval_ms), 0
        for chunk in chat_chunks(result):
            if chunk.tokens:
                if dropped and sent >= _TOKENS_BEFORE_DROP:
                    break
                for _ in range(chunk.tokens):
                    await pace.next_token()
                sent += chunk.tokens
                self.statistics.tokens += chunk.tokens
            await _send(response, _chunk_json(head, chunk, with_usage=chat.include_usage))
        if dropped:
            _cut(request)
            return response
        if fault is not None and fault.action == "error_after":
            await _send(response, _server_error().body())
            return response
        if chat.include_usage:
            await _send(response, usage_chunk(head, result.usage(chat.prompt_tokens)))
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _take_fault(self, target: str) -> Fault | None:
        """Obeys what happens before the work; what happens after it is left to the caller."""
        fault = self._faults.take(target)
        if fault is not None and fault.action == "error":
            raise _server_error()
        if fault is not None and fault.action == "delay":
            await asyncio.sleep(fault.delay_ms / 1000)
        return fault


class _Pace:
    """Lets tokens out at even distances, counted from the first, so that small delays do not add up."""

    def __init__(self, interval_ms: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._interval_s = interval_ms / 1000
        self._due_s = self._loop.time()

    async def next_token(self) -> None:
        self._due_s += self._interval_s
        # Sleeping for nothing still lets the other requests of the loop have their turn.
        await asyncio.sleep(max(0.0, self._due_s - self._loop.time()))


def _completion(head: dict[str, Any], chat: ChatRequest, result: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(result.content), "refusal": None}
    if result.tool_calls:
        message["content"] = None
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": "".join(call.arguments)}}
            for call in result.tool_calls
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": result.finish_reason}
    return {**head, "object": "chat.completion", "choices": [choice], "usage": result.usage(chat.prompt_tokens)}


def _chunk_json(head: dict[str, Any], chunk: StreamedChunk, *, with_usage: bool) -> dict[str, Any]:
    choice = {"index": 0, "delta": chunk.delta, "logprobs": None, "finish_reason": chunk.finish_reason}
    body = {**head, "object": "chat.completion.chunk", "choices": [choice]}
    return {**body, "usage": None} if with_usage else body


async def _send(response: web.StreamResponse, event: dict[str, Any]) -> None:
    await response.write(f"data: {json.dumps(event)}\n\n".encode())


def _whole(request: web.Request, fault: Fault | None, body: dict[str, Any]) -> web.StreamResponse:
    """An answer in one piece, unless a fault takes it away after the work was done."""
    if fault is not None and fault.action == "drop":
        _cut(request)
    if fault is not None and fault.action == "error_after":
        raise _server_error()
    return web.json_response(body)


def _cut(request: web.Request) -> None:
    """Closes the connection under the client; what is written afterwards goes nowhere."""
    if request.transport is not None:
        request.transport.close()


def _server_error() -> ModelError:
    return ModelError("The offline model failed, as a test asked for.", status=500, kind="server_error")


def _require_key(request: web.Request) -> None:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        message = "You didn't provide an API key. Any non-empty one will do: `Authorization: Bearer offline`."
        raise ModelError(message, status=401, code="invalid_api_key")


def _interval_ms(request: web.Request, default: float) -> float:
    text = request.headers.get(_INTERVAL_HEADER)
    if text is None:
        return default
    try:
        interval_ms = float(text)
    except ValueError:
        interval_ms = -1
    if not 0 <= interval_ms <= _INTERVAL_MS_MAX:
        raise ModelError(f"{_INTERVAL_HEADER} must be a number from 0 to {_INTERVAL_MS_MAX}.", param=_INTERVAL_HEADER)
    return interval_ms


async def _json_body(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.read())
    except ValueError as error:
        raise ModelError("We could not parse the JSON body of your request.") from error
    if not isinstance(body, dict):
        raise ModelError("The body of your request must be a JSON object.")
    return body


@web.middleware
async def _answer_errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ModelError as error:
        return web.json_response(error.body(), status=error.status)
    except web.HTTPException as error:
        known = {404: f"Invalid URL ({request.method} {request.path})", 413: "The body of your request is too large."}
        message = known.get(error.status, error.reason or "")
        refused = ModelError(message, status=error.status)
        return web.json_response(refused.body(), status=refused.status)
