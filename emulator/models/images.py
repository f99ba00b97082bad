"""Pictures without a model: a symmetric mosaic made from the prompt's hash, as a real PNG (W3C PNG, third edition)."""

import base64
import hashlib
import re
import struct
import zlib
from random import Random
from typing import Any

from emulator.models import tokenizer
from emulator.models.catalogue import find
from emulator.models.errors import ModelError

_SIZE = re.compile(r"(\d{1,4})x(\d{1,4})")
_SIDE_MIN, _SIDE_MAX = 16, 2048
_SIZE_DEFAULT = "1024x1024"
_IMAGES_MAX = 4
_CELLS = 16
_COLOURS = 6
_PIXELS_PER_TOKEN = 1024
_UNCHANGED_FILTER, _SAME_AS_ABOVE_FILTER = 0, 2


def png(prompt: str, width: int, height: int, variant: int = 0) -> bytes:
    """A palette PNG of that size; its text says where it comes from."""
    digest = hashlib.sha256(f"{variant}:{prompt}".encode("utf-8", "surrogatepass")).digest()
    random = Random(digest)  # noqa: S311 (reproducible on purpose, protects nothing)
    palette = bytes(random.randrange(256) for _ in range(3 * _COLOURS))
    half = [[random.randrange(_COLOURS) for _ in range(_CELLS // 2)] for _ in range(_CELLS)]
    rows: list[bytes] = []
    previous = -1
    for y in range(height):
        cell = y * _CELLS // height
        if cell == previous:
            # The "up" filter stores the difference from the row above: nothing.
            rows.append(bytes([_SAME_AS_ABOVE_FILTER]) + bytes(width))
        else:
            colours = half[cell] + half[cell][::-1]
            rows.append(bytes([_UNCHANGED_FILTER]) + bytes(colours[x * _CELLS // width] for x in range(width)))
        previous = cell
    text = f"Made by the offline model of the embedded Firebase, which is not an image model. Prompt: {prompt[:500]}"
    note = b"Description\0\0\0\0\0" + text.encode("utf-8", "replace")
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", palette), (b"iTXt", note), (b"IDAT", zlib.compress(b"".join(rows))))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks) + _chunk(b"IEND", b"")


def respond(body: dict[str, Any], created_s: int) -> dict[str, Any]:
    """POST /v1/images/generations. `response_format` url gives a data: URL. Raises ModelError."""
    find(body.get("model"), "images")
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise ModelError("'prompt' must be a non-empty string.", param="prompt")
    width, height = _size(body.get("size"))
    count = 1 if body.get("n") is None else body["n"]
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= _IMAGES_MAX:
        raise ModelError(f"'n' must be from 1 to {_IMAGES_MAX}.", param="n")
    if body.get("output_format") not in (None, "png"):
        raise ModelError("The offline model makes PNG only.", param="output_format")
    response_format = body.get("response_format") or "b64_json"
    if response_format not in ("b64_json", "url"):
        raise ModelError("'response_format' must be b64_json or url.", param="response_format")
    data = []
    for variant in range(count):
        encoded = base64.b64encode(png(prompt, width, height, variant)).decode()
        url = {"url": f"data:image/png;base64,{encoded}"}
        data.append({"b64_json": encoded} if response_format == "b64_json" else url)
    input_tokens = tokenizer.count(prompt)
    output_tokens = count * max(1, width * height // _PIXELS_PER_TOKEN)
    return {
        "created": created_s,
        "data": data,
        "output_format": "png",
        "size": f"{width}x{height}",
        "usage": {
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
            "input_tokens_details": {"text_tokens": input_tokens, "image_tokens": 0},
        },
    }


def _size(value: Any) -> tuple[int, int]:
    text = _SIZE_DEFAULT if value in (None, "auto") else value
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (_SIDE_MIN <= width <= _SIDE_MAX and _SIDE_MIN <= height <= _SIDE_MAX):
        raise ModelError(f"'size' must be WIDTHxHEIGHT with sides from {_SIDE_MIN} to {_SIDE_MAX}.", param="size")
    return width, height


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
