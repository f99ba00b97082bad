"""Models, embeddings and images through the unmodified openai client."""

import base64
import math
import struct
import zlib
from typing import Any

import httpx
import openai
import pytest

from emulator.faults import Fault

EMBED = "concierge-offline-embed"
IMAGE = "concierge-offline-image"


def _dot(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def _rows(png: bytes) -> tuple[int, int, list[bytes]]:
    """Width, height and pixel rows of a palette PNG, checking every chunk's checksum and undoing the filters."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    position, data, kinds = 8, b"", []
    while position < len(png):
        length, kind = struct.unpack(">I4s", png[position : position + 8])
        content = png[position + 8 : position + 8 + length]
        assert zlib.crc32(kind + content) == struct.unpack(">I", png[position + 8 + length : position + 12 + length])[0]
        kinds.append(kind)
        if kind == b"IHDR":
            width, height, depth, colour_type = struct.unpack(">IIBB", content[:10])
            assert (depth, colour_type) == (8, 3)
        elif kind == b"IDAT":
            data += zlib.decompress(content)
        position += 12 + length
    assert kinds == [b"IHDR", b"PLTE", b"iTXt", b"IDAT", b"IEND"]
    rows: list[bytes] = []
    for y in range(height):
        line = data[y * (width + 1) : (y + 1) * (width + 1)]
        pixels = line[1:] if line[0] == 0 else bytes(a + b for a, b in zip(line[1:], rows[-1], strict=True))
        rows.append(pixels)
    assert len(data) == height * (width + 1)
    return width, height, rows


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    listed = [model.id for model in client.models.list()]
    assert listed == [f"concierge-offline-{name}" for name in ("small", "large", "embed", "image")]
    assert client.models.retrieve(EMBED).owned_by == "embedded-firebase"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-9")
    assert caught.value.code == "model_not_found"


def test_similar_texts_are_closer_than_others(client: openai.OpenAI) -> None:
    texts = ["The cat sat on the mat.", "A cat is sitting on a mat", "Quarterly revenue grew by nine percent"]
    answer = client.embeddings.create(model=EMBED, input=texts)
    cat, similar, other = (item.embedding for item in answer.data)
    assert _dot(cat, similar) > _dot(cat, other) + 0.2
    for vector in (cat, similar, other):
        assert len(vector) == 256
        assert math.isclose(_dot(vector, vector), 1, rel_tol=1e-5)
    assert client.embeddings.create(model=EMBED, input=texts[0]).data[0].embedding == cat
    assert answer.usage.total_tokens > 0


def test_base64_and_float_are_the_same_vector_of_any_length(models: Any, client: openai.OpenAI) -> None:
    plain = client.embeddings.create(model=EMBED, input="hello", dimensions=64, encoding_format="float")
    # The client asks for base64 by itself if nothing is said, and decodes it.
    decoded = client.embeddings.create(model=EMBED, input="hello", dimensions=64)
    assert len(plain.data[0].embedding) == 64
    assert decoded.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    body = {"model": EMBED, "input": "hello", "dimensions": 64, "encoding_format": "base64"}
    raw = httpx.post(f"{models.base_url}/embeddings", json=body, headers={"Authorization": "Bearer x"}).json()
    packed = base64.b64decode(raw["data"][0]["embedding"])
    assert list(struct.unpack("<64f", packed)) == pytest.approx(plain.data[0].embedding, abs=1e-6)


@pytest.mark.parametrize("value", ["…", "!", "日本語", [1, 2], [[1, 2], [3]], ["a", "b"]])
def test_any_input_has_a_vector_of_length_one(client: openai.OpenAI, value: Any) -> None:
    data = client.embeddings.create(model=EMBED, input=value).data
    assert len(data) == (1 if value == [1, 2] or isinstance(value, str) else 2)
    assert all(math.isclose(_dot(item.embedding, item.embedding), 1, rel_tol=1e-5) for item in data)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [None]}, "input"),
        ({"input": "word " * 9000}, "input"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "text"}, "encoding_format"),
        ({"model": IMAGE}, "model"),
    ],
)
def test_bad_embedding_requests(models: Any, change: dict[str, Any], param: str) -> None:
    body = {"model": EMBED, "input": "x", **change}
    response = httpx.post(f"{models.base_url}/embeddings", json=body, headers={"Authorization": "Bearer x"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_an_image_is_a_png_of_that_size_made_from_its_prompt(client: openai.OpenAI) -> None:
    def generate(prompt: str) -> bytes:
        answer = client.images.generate(model=IMAGE, prompt=prompt, size="256x256")
        assert answer.data
        return base64.b64decode(answer.data[0].b64_json or "")

    first = generate("a red boat")
    width, height, rows = _rows(first)
    assert (width, height) == (256, 256)
    assert len(set(rows)) > 4
    assert all(row == row[::-1] for row in rows)
    assert b"not an image model. Prompt: a red boat" in first
    assert generate("a red boat") == first
    assert _rows(generate("a blue boat"))[2] != rows


def test_sizes_counts_and_urls(client: openai.OpenAI) -> None:
    answer = client.images.generate(model=IMAGE, prompt="x", size="1536x1024", n=2)
    assert answer.data
    pictures = {base64.b64decode(image.b64_json or "") for image in answer.data}
    assert len(pictures) == 2
    assert [_rows(picture)[:2] for picture in pictures] == [(1536, 1024)] * 2
    assert answer.usage is not None
    assert answer.usage.output_tokens == 2 * 1536
    by_url = client.images.generate(model=IMAGE, prompt="x", size="256x256", response_format="url")
    assert by_url.data
    prefix, _, encoded = (by_url.data[0].url or "").partition(",")
    assert prefix == "data:image/png;base64"
    assert _rows(base64.b64decode(encoded))[:2] == (256, 256)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"size": "9x9"}, "size"),
        ({"size": "huge"}, "size"),
        ({"n": 0}, "n"),
        ({"output_format": "webp"}, "output_format"),
        ({"response_format": "svg"}, "response_format"),
        ({"model": EMBED}, "model"),
    ],
)
def test_bad_image_requests(models: Any, change: dict[str, Any], param: str) -> None:
    body = {"model": IMAGE, "prompt": "x", **change}
    response = httpx.post(f"{models.base_url}/images/generations", json=body, headers={"Authorization": "Bearer x"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_other_paths_and_payloads_get_openai_errors(models: Any) -> None:
    headers = {"Authorization": "Bearer x"}
    unknown = httpx.post(f"{models.base_url}/audio/speech", json={}, headers=headers)
    assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "invalid_request_error")
    for content in (b"{", b"[]", b"\xff\xfe"):
        broken = httpx.post(f"{models.base_url}/chat/completions", content=content, headers=headers)
        assert (broken.status_code, broken.json()["error"]["type"]) == (400, "invalid_request_error")
    body = {"model": "concierge-offline-small", "messages": [{"role": "user", "content": "x"}], "stream": True}
    stream = httpx.post(f"{models.base_url}/chat/completions", json=body, headers=headers)
    assert stream.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert stream.text.endswith("\n\ndata: [DONE]\n\n")
    keyless = httpx.get(f"{models.base_url}/models")
    assert keyless.status_code == 401


@pytest.mark.parametrize("endpoint", ["embeddings", "images", "models"])
def test_faults_have_their_own_targets(models: Any, client: openai.OpenAI, endpoint: str) -> None:
    calls = {
        "embeddings": lambda: client.embeddings.create(model=EMBED, input="x"),
        "images": lambda: client.images.generate(model=IMAGE, prompt="x", size="256x256"),
        "models": lambda: client.models.list(),
    }
    models.faults.add(Fault(f"models.{endpoint}", "error"))
    models.faults.add(Fault(f"models.{endpoint}", "drop"))
    with pytest.raises(openai.InternalServerError):
        calls[endpoint]()
    with pytest.raises(openai.APIConnectionError):
        calls[endpoint]()
    assert calls[endpoint]()
