"""A chat answer as the chunks of OpenAI's stream: a role, then content or tool calls in pieces, then the reason."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from emulator.models import tokenizer
from emulator.models.generator import Answer, ToolCall


@dataclass(frozen=True, slots=True)
class StreamedChunk:
    """`tokens` is how many tokens this chunk took to generate."""

    delta: dict[str, Any]
    finish_reason: str | None = None
    tokens: int = 0


def chat_chunks(answer: Answer) -> Iterator[StreamedChunk]:
    """The chunks of an answer; their tokens add up to its `completion_tokens`."""
    if answer.tool_calls:
        yield from _tool_call_chunks(answer)
    else:
        yield StreamedChunk({"role": "assistant", "content": "", "refusal": None})
        for token in answer.content:
            yield StreamedChunk({"content": token}, tokens=1)
    yield StreamedChunk({}, finish_reason=answer.finish_reason)


def usage_chunk(head: dict[str, Any], usage: dict[str, int]) -> dict[str, Any]:
    """The last event where `stream_options.include_usage` is set."""
    return {**head, "object": "chat.completion.chunk", "choices": [], "usage": usage}


def _tool_call_chunks(answer: Answer) -> Iterator[StreamedChunk]:
    left = answer.completion_tokens
    for index, call in enumerate(answer.tool_calls):
        opening = _opening(index, call)
        tokens = min(tokenizer.count(call.name), left)
        left -= tokens
        role = {"role": "assistant", "content": None} if index == 0 else {}
        yield StreamedChunk({**role, "tool_calls": [opening]}, tokens=tokens)
        for token in call.arguments:
            left -= 1
            yield StreamedChunk({"tool_calls": [{"index": index, "function": {"arguments": token}}]}, tokens=1)


def _opening(index: int, call: ToolCall) -> dict[str, Any]:
    return {"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
