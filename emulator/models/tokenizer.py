"""A tokenizer that is deterministic and reversible; its tokens are about as long as those of real models."""

import re
from collections.abc import Iterable
from typing import Any

# A word with its leading space, cut into pieces of eight letters; any other character by itself.
_TOKEN = re.compile(r" ?\w{1,8}| ?[^\w\s]|\s", re.DOTALL)

# What a chat adds to its texts, as published for OpenAI's chat format.
_TOKENS_PER_MESSAGE = 3
_TOKENS_PER_REPLY = 3
_TOKENS_PER_IMAGE = 85


def split(text: str) -> list[str]:
    """The tokens of a text. Joined, they are the text; a beginning of the list joins to a text with those tokens."""
    return _TOKEN.findall(text)


def count(text: str) -> int:
    """The number of tokens of a text."""
    return len(split(text))


def count_messages(messages: Iterable[dict[str, Any]]) -> int:
    """The prompt tokens of a chat, with its roles, images and tool calls."""
    total = _TOKENS_PER_REPLY
    for message in messages:
        total += _TOKENS_PER_MESSAGE + count(message_text(message)) + _TOKENS_PER_IMAGE * image_count(message)
        for call in message.get("tool_calls") or ():
            function = call.get("function") or {}
            total += count(str(function.get("name", ""))) + count(str(function.get("arguments", "")))
    return total


def message_text(message: dict[str, Any]) -> str:
    """The text of a message, whether its content is a string, a list of parts, or nothing."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    return "\n".join(part["text"] for part in parts if isinstance(part.get("text"), str))


def image_count(message: dict[str, Any]) -> int:
    content = message.get("content")
    return sum(part.get("type") == "image_url" for part in content) if isinstance(content, list) else 0
