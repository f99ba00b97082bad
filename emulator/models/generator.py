"""What the offline model answers: pure functions of the request, and plain about not being a language model."""

import json
import re
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from emulator.models import tokenizer
from emulator.models.chat_request import ChatRequest
from emulator.models.schema_values import SchemaValues

FinishReason = Literal["stop", "length", "tool_calls"]

_QUOTE_LENGTH_MAX = 100
_WORDS_MAX = 20_000
_WORDS_WANTED = re.compile(r"\b(\d{1,6})[\s-]*words?\b", re.IGNORECASE)

_EXPLANATIONS = (
    "Concierge took your request from the Realtime Database, held credits for it on the ledger, and is streaming this "
    "text in numbered batches. When it ends, only what was used is captured and the rest is released.",
    "Before the first word, your credits were put on hold in one Firestore transaction. These words travel through the "
    "Realtime Database in small batches; afterwards the hold is settled and you get a receipt.",
    "A trigger found your request, the ledger reserved what the answer may cost at most, and the tokens reach every "
    "device of yours as they are made. The receipt names the entry that charges you, so that anybody can check it.",
)
_CLOSINGS = (
    "Set AI_PLATFORM_BASE_URL and AI_PLATFORM_API_KEY to talk to a real model.",
    "With a real provider configured, everything stays the same except these words.",
)
_FILLER = (
    "The request arrives in the database and a trigger picks it up.",
    "A hold reserves the most that the answer may cost.",
    "Tokens are gathered for a moment and written as one numbered chunk.",
    "A client that was away reads on from the last number it has.",
    "When the stream ends, the ledger captures what was really used.",
    "Every entry carries the hash of the entry before it.",
    "Nothing in this text was thought; it fills the length that was asked for.",
    "The same question gets the same words again, which is what a test needs.",
)


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    arguments: tuple[str, ...]
    """JSON, in tokens."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a chat: text in tokens, or tool calls. `completion_tokens` counts all of it."""

    content: tuple[str, ...]
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason
    completion_tokens: int

    def usage(self, prompt_tokens: int) -> dict[str, int]:
        return usage(prompt_tokens, self.completion_tokens)


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def answer(request: ChatRequest) -> Answer:
    """The one answer to this request: the same request gets the same again."""
    random = Random(request.seed)  # noqa: S311 (reproducible on purpose, protects nothing)
    called = _tools_to_call(request)
    if called:
        return _call_tools(request, called, random)
    if request.response_format["type"] == "text":
        text = _text(request, random)
    else:
        text = json.dumps(_json_value(request, random), ensure_ascii=False)
    cuts = [position for stop in request.stops if (position := text.find(stop)) >= 0]
    tokens = tokenizer.split(text[: min(cuts)] if cuts else text)
    kept = tuple(tokens[: request.tokens_max])
    return Answer(kept, (), "length" if len(kept) < len(tokens) else "stop", len(kept))


def _text(request: ChatRequest, random: Random) -> str:
    opening = f"This is {request.model.id}, the offline model of the embedded Firebase; it is not a language model."
    sentences = [opening, _understood(request)]
    wanted = _WORDS_WANTED.search(request.question)
    if wanted is None:
        return " ".join([*sentences, random.choice(_EXPLANATIONS), random.choice(_CLOSINGS)])
    count = min(int(wanted[1]), _WORDS_MAX)
    words = " ".join(sentences).split()
    while len(words) < count:
        words += " ".join(random.sample(_FILLER, len(_FILLER))).split()
    return " ".join(words[:count]).rstrip(".,;:") + "." if count else "."


def _understood(request: ChatRequest) -> str:
    """What the model was given: the question, the results of tools, earlier turns, images."""
    results = [tokenizer.message_text(m) for m in _after_last_user(request.messages) if m["role"] == "tool"]
    said = f"You asked: “{_shortened(request.question)}”." if request.question.strip() else "You sent no text."
    if results:
        said += f" The tools answered: {'; '.join(f'“{_shortened(result)}”' for result in results)}."
    turns = sum(message["role"] == "user" for message in request.messages)
    if turns > 1:
        said += f" This is turn {turns} of our conversation."
    images = sum(tokenizer.image_count(message) for message in request.messages)
    if images:
        said += f" With it came {images} image{'s' if images > 1 else ''}, which I cannot see."
    return said


def _json_value(request: ChatRequest, random: Random) -> Any:
    if request.response_format["type"] == "json_schema":
        schema = request.response_format["json_schema"].get("schema") or {"type": "object"}
        return SchemaValues(request.question, random).value(schema)
    return {
        "model": request.model.id,
        "offline": True,
        "question": _shortened(request.question),
        "answer": "This is the offline model of the embedded Firebase; it is not a language model.",
    }


def _tools_to_call(request: ChatRequest) -> list[str]:
    """The names of the tools that this answer calls; none if it answers with text."""
    choice = request.tool_choice
    if isinstance(choice, dict):
        return [choice["name"]]
    if choice == "none":
        return []
    lowered = request.question.lower()
    named = [name for name in request.tools if _names_tool(lowered, name.lower())]
    if choice == "required":
        named = named or list(request.tools)[:1]
    elif any(message["role"] == "tool" for message in _after_last_user(request.messages)):
        # The results are there: calling again would never end.
        return []
    return named if request.parallel_tool_calls else named[:1]


def _names_tool(text: str, name: str) -> bool:
    spoken = name.replace("_", " ").replace("-", " ")
    return any(re.search(rf"(?<!\w){re.escape(form)}(?!\w)", text) for form in {name, spoken})


def _call_tools(request: ChatRequest, names: list[str], random: Random) -> Answer:
    left = request.tokens_max
    calls: list[ToolCall] = []
    finish_reason: FinishReason = "tool_calls"
    for index, name in enumerate(names):
        schema = request.tools[name].get("parameters") or {"type": "object"}
        value = SchemaValues(request.question, random).value(schema)
        tokens = tokenizer.split(json.dumps(value if isinstance(value, dict) else {}, ensure_ascii=False))
        left -= tokenizer.count(name)
        kept = tokens[: max(left, 0)]
        left -= len(kept)
        calls.append(ToolCall(f"call_{request.seed.hex()[:16]}{index}", name, tuple(kept)))
        if len(kept) < len(tokens):
            finish_reason = "length"
            break
    used = sum(tokenizer.count(call.name) + len(call.arguments) for call in calls)
    return Answer((), tuple(calls), finish_reason, min(used, request.tokens_max))


def _after_last_user(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    last = max((index for index, message in enumerate(messages) if message["role"] == "user"), default=-1)
    return messages[last + 1 :]


def _shortened(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _QUOTE_LENGTH_MAX else flat[: _QUOTE_LENGTH_MAX - 1].rstrip() + "…"
