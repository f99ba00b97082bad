"""Embeddings without a model: hashed words and letter triples, so that similar texts have close vectors."""

import base64
import hashlib
import math
import re
from array import array
from sys import byteorder
from typing import Any

from emulator.models import tokenizer
from emulator.models.catalogue import find
from emulator.models.errors import ModelError

DIMENSIONS_DEFAULT = 256
_DIMENSIONS_MAX = 1536
_INPUTS_MAX = 2048
_WORD = re.compile(r"\w+")
_WORD_WEIGHT = 2.0
_TRIPLE_WEIGHT = 0.5


def embed(text: str, dimensions: int) -> list[float]:
    """A vector of length 1, a pure function of the text."""
    vector = [0.0] * dimensions
    for word in _WORD.findall(text.lower()):
        _add(vector, f"w:{word}", _WORD_WEIGHT)
        padded = f" {word} "
        for start in range(len(padded) - 2):
            _add(vector, f"t:{padded[start : start + 3]}", _TRIPLE_WEIGHT)
    if not any(vector):
        _add(vector, f"r:{text}", 1.0)
    norm = math.sqrt(sum(value * value for value in vector))
    return [value / norm for value in vector]


def respond(body: dict[str, Any]) -> dict[str, Any]:
    """POST /v1/embeddings. Raises ModelError."""
    model = find(body.get("model"), "embeddings")
    texts = _inputs(body.get("input"))
    dimensions = body.get("dimensions")
    if dimensions is None:
        dimensions = DIMENSIONS_DEFAULT
    if not isinstance(dimensions, int) or isinstance(dimensions, bool) or not 1 <= dimensions <= _DIMENSIONS_MAX:
        raise ModelError(f"'dimensions' must be from 1 to {_DIMENSIONS_MAX}.", param="dimensions")
    encoding = body.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise ModelError("'encoding_format' must be float or base64.", param="encoding_format")
    tokens = [tokenizer.count(text) for text in texts]
    if max(tokens) > model.context_window:
        raise ModelError(
            f"This model embeds at most {model.context_window} tokens at a time.",
            param="input",
            code="context_length_exceeded",
        )
    data = []
    for index, text in enumerate(texts):
        vector = embed(text, dimensions)
        encoded = vector if encoding == "float" else _base64(vector)
        data.append({"object": "embedding", "index": index, "embedding": encoded})
    used = {"prompt_tokens": sum(tokens), "total_tokens": sum(tokens)}
    return {"object": "list", "data": data, "model": model.id, "usage": used}


def _inputs(value: Any) -> list[str]:
    """The texts of `input`: a string, token numbers, or a list of either."""
    items = value if isinstance(value, list) else [value]
    if items and all(_is_token(item) for item in items):
        items = [items]
    if not 1 <= len(items) <= _INPUTS_MAX:
        raise ModelError(f"'input' must have from 1 to {_INPUTS_MAX} items.", param="input")
    texts = []
    for item in items:
        if isinstance(item, list) and item and all(_is_token(token) for token in item):
            texts.append(" ".join(f"token{token}" for token in item))
        elif isinstance(item, str) and item:
            texts.append(item)
        else:
            raise ModelError("'input' must be a non-empty string, or a list of them or of tokens.", param="input")
    return texts


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _add(vector: list[float], feature: str, weight: float) -> None:
    digest = hashlib.blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    number = int.from_bytes(digest, "big")
    vector[(number >> 1) % len(vector)] += weight if number & 1 else -weight


def _base64(vector: list[float]) -> str:
    """Little-endian 32-bit floats."""
    packed = array("f", vector)
    if byteorder == "big":
        packed.byteswap()
    return base64.b64encode(packed.tobytes()).decode()
