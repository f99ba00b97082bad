"""A model provider of a known pace, in a process of its own: what both the functions and the bare client call.

    python -m bench.provider

prints its port and ends with its standard input. A message `... N tokens every M ms ...` gets N words, M milliseconds
apart, the first one at once; M = 0 sends them as fast as they go. It speaks the part of OpenAI's protocol that a
streamed chat needs, and marks when it was asked and when it answered.
"""

import asyncio
import json
import os
import re
from typing import Any

from aiohttp import web

from bench.lifeline import until_input_ends
from bench.tracing import Marker

_SCRIPT = re.compile(r"(\d+) tokens every (\d+) ms")


def message(tokens: int, interval_ms: int) -> str:
    """A question that gets this answer."""
    return f"Please answer with {tokens} tokens every {interval_ms} ms."


def script(text: str) -> tuple[int, int]:
    """(tokens, milliseconds between them) that a question asks for; 10 at once if it does not say."""
    found = _SCRIPT.search(text)
    return (int(found[1]), int(found[2])) if found else (10, 0)


class Provider:
    """`mark` is told of each request and of its first token."""

    def __init__(self, mark: Any) -> None:
        self._mark = mark

    async def chat(self, request: web.Request) -> web.StreamResponse:
        peer = request.transport.get_extra_info("peername") if request.transport is not None else None
        self._mark("provider.request", f"{peer[0]}:{peer[1]}" if peer else "")
        body = await request.json()
        tokens, interval_ms = script(body["messages"][-1]["content"])
        tokens = min(tokens, body["max_tokens"])
        head = {"id": "bench", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        loop = asyncio.get_running_loop()
        started = loop.time()
        for index in range(tokens):
            if interval_ms:
                # Counted from the start, so that small delays do not add up.
                await asyncio.sleep(max(0.0, started + index * interval_ms / 1000 - loop.time()))
            await _send(response, {**head, "choices": [_choice({"content": f"word{index} "})]})
            if index == 0:
                self._mark("provider.first_token")
        await _send(response, {**head, "choices": [_choice({}, "stop")]})
        usage = {"prompt_tokens": 30, "completion_tokens": tokens, "total_tokens": 30 + tokens}
        await _send(response, {**head, "choices": [], "usage": usage})
        await response.write(b"data: [DONE]\n\n")
        self._mark("provider.end")
        return response


def _choice(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason}


async def _send(response: web.StreamResponse, event: dict[str, Any]) -> None:
    await response.write(f"data: {json.dumps(event)}\n\n".encode())


async def _serve() -> None:
    marks = os.environ.get("CONCIERGE_BENCH_MARKS")
    provider = Provider(Marker(marks) if marks else lambda *_: None)
    app = web.Application()
    app.add_routes([web.post("/v1/chat/completions", provider.chat)])
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await until_input_ends()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_serve())
