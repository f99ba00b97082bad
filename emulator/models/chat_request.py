"""A chat completion request, checked: whatever a real provider would refuse is refused here too."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from emulator.models import tokenizer
from emulator.models.catalogue import OfflineModel, find
from emulator.models.errors import ModelError

_ROLES = frozenset(("system", "developer", "user", "assistant", "tool", "function"))
_STOPS_MAX = 4
# These do not change the words: a streamed answer is the one that is not streamed, and a limit only shortens it.
_NOT_SEEDED = frozenset(
    (
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "user",
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
    )
)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """`tokens_max` is the lower of max_tokens, max_completion_tokens and what the context window leaves."""

    model: OfflineModel
    messages: list[dict[str, Any]]
    tools: dict[str, dict[str, Any]]
    tool_choice: Any
    parallel_tool_calls: bool
    response_format: dict[str, Any]
    stops: tuple[str, ...]
    tokens_max: int
    stream: bool
    include_usage: bool
    prompt_tokens: int
    seed: bytes

    @property
    def question(self) -> str:
        """The text of the last message of the user, "" if there is none."""
        return next((tokenizer.message_text(m) for m in reversed(self.messages) if m["role"] == "user"), "")


def parse(body: dict[str, Any]) -> ChatRequest:
    """Raises ModelError."""
    model = find(body.get("model"), "chat")
    messages = _messages(body.get("messages"))
    tools = _tools(body)
    if body.get("n") not in (None, 1):
        raise ModelError("The offline model answers with n=1 only.", param="n")
    if body.get("logprobs"):
        raise ModelError("The offline model has no log probabilities.", param="logprobs")
    _check_range(body, "temperature", 0, 2)
    _check_range(body, "top_p", 0, 1)
    stream, options = body.get("stream") or False, body.get("stream_options")
    if not isinstance(stream, bool):
        raise ModelError("'stream' must be a boolean.", param="stream")
    if options is not None and not (stream and isinstance(options, dict)):
        raise ModelError("'stream_options' is an object, and only allowed when streaming.", param="stream_options")
    response_format = _response_format(body.get("response_format"))
    prompt_tokens = tokenizer.count_messages(messages)
    prompt_tokens += sum(tokenizer.count(json.dumps(tool, ensure_ascii=False)) for tool in tools.values())
    seeded = {name: value for name, value in body.items() if name not in _NOT_SEEDED}
    return ChatRequest(
        model=model,
        messages=messages,
        tools=tools,
        tool_choice=_tool_choice(body.get("tool_choice"), tools),
        parallel_tool_calls=body.get("parallel_tool_calls") is not False,
        response_format=response_format,
        stops=_stops(body.get("stop")),
        tokens_max=_tokens_max(body, model, prompt_tokens),
        stream=stream,
        include_usage=bool(options and options.get("include_usage")),
        prompt_tokens=prompt_tokens,
        seed=hashlib.sha256(json.dumps(seeded, sort_keys=True).encode()).digest(),
    )


def _messages(messages: Any) -> list[dict[str, Any]]:
    if not isinstance(messages, list) or not messages:
        raise ModelError("'messages' must be a non-empty list.", param="messages")
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise ModelError(f"{where} needs a role out of {sorted(_ROLES)}.", param=f"{where}.role")
        content = message.get("content")
        parts_fit = isinstance(content, list) and all(isinstance(part, dict) for part in content)
        calls = message.get("tool_calls")
        is_call = message["role"] == "assistant" and (calls or content is None)
        if not (isinstance(content, str) or parts_fit or (content is None and is_call)):
            raise ModelError(f"{where}.content must be a string or a list of parts.", param=f"{where}.content")
        if calls is not None and not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
            raise ModelError(f"{where}.tool_calls must be a list of calls.", param=f"{where}.tool_calls")
        if message["role"] == "tool" and not isinstance(message.get("tool_call_id"), str):
            raise ModelError(f"{where} needs the tool_call_id that it answers.", param=f"{where}.tool_call_id")
    return messages


def _tools(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The offered functions by name: {name, description?, parameters?}."""
    tools = body.get("tools") or []
    functions: dict[str, dict[str, Any]] = {}
    for index, tool in enumerate(tools if isinstance(tools, list) else [None]):
        function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ModelError(f"tools[{index}] must be a function with a name.", param=f"tools[{index}]")
        functions[function["name"]] = function
    return functions


def _tool_choice(choice: Any, tools: dict[str, dict[str, Any]]) -> Any:
    """ "none", "auto", "required", or the name of one tool as {"name": ...}."""
    if choice is None:
        return "auto" if tools else "none"
    if choice in ("none", "auto", "required"):
        if choice == "required" and not tools:
            raise ModelError("'tool_choice' is only allowed when 'tools' are given.", param="tool_choice")
        return choice
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if name not in tools:
        raise ModelError(f"'tool_choice' names {name!r}, which is not among 'tools'.", param="tool_choice")
    return {"name": name}


def _response_format(value: Any) -> dict[str, Any]:
    if value is None:
        return {"type": "text"}
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in ("text", "json_object", "json_schema"):
        raise ModelError("'response_format' must be text, json_object or json_schema.", param="response_format")
    described = value.get("json_schema")
    if kind == "json_schema" and not (isinstance(described, dict) and isinstance(described.get("name"), str)):
        raise ModelError("'response_format.json_schema' needs a name.", param="response_format.json_schema.name")
    checked: dict[str, Any] = value
    return checked


def _stops(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value or []
    if not isinstance(stops, list) or len(stops) > _STOPS_MAX or not all(isinstance(stop, str) for stop in stops):
        raise ModelError(f"'stop' must be a string or a list of up to {_STOPS_MAX}.", param="stop")
    return tuple(stop for stop in stops if stop)


def _tokens_max(body: dict[str, Any], model: OfflineModel, prompt_tokens: int) -> int:
    room = model.context_window - prompt_tokens
    if room < 1:
        message = f"This model's context window is {model.context_window} tokens; the messages have {prompt_tokens}."
        raise ModelError(message, param="messages", code="context_length_exceeded")
    for name in ("max_tokens", "max_completion_tokens"):
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(f"{name!r} must be a whole number of at least 1.", param=name)
        room = min(room, value)
    return room


def _check_range(body: dict[str, Any], name: str, low: float, high: float) -> None:
    value = body.get(name)
    if value is None:
        return
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise ModelError(f"{name!r} must be a number from {low} to {high}.", param=name)
