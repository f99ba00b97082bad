"""Strict JSON: what it takes, everybody reads the same."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concierge.kit import strict_json
from concierge.kit.canonical import fingerprint

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner | texts, max_size=4) | st.dictionaries(texts, inner | texts, max_size=4),
    max_leaves=20,
)


@given(values, st.booleans())
def test_json_is_read(value: Any, plain: bool) -> None:
    parsed = strict_json.parse(json.dumps(value, ensure_ascii=plain).encode())
    assert parsed == value
    # What is read can be made canonical, which is what becomes of it.
    assert fingerprint(parsed) == fingerprint(value)


@given(st.binary(max_size=100))
def test_anything_else_is_refused(raw: bytes) -> None:
    try:
        parsed = strict_json.parse(raw)
    except ValueError as error:
        assert str(error)
    else:
        assert parsed == json.loads(raw)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "line 1"),
        (b"{", "line 1"),
        (b"\xff", "not UTF-8"),
        ('{"a":1}'.encode("utf-16"), "not UTF-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'{"a":1,"a":1}', "same name twice"),
        (b'[{"b":{"a":1,"\\u0061":2}}]', "same name twice"),
        (b"NaN", "NaN"),
        (b"[-Infinity]", "Infinity"),
        (b"1e309", "too large"),
        (b"-1e309", "too large"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udc00x":1}', "surrogate"),
        (b'["a\\ud83d"]', "surrogate"),
        (b"[" * 34 + b"]" * 34, "too deeply"),
        (b"[" * 200_000, "too deeply"),
        (b'{"a":' * 100_000, "too deeply"),
        (b"9" * 5000, "integer string conversion"),
    ],
)
def test_what_readers_would_not_agree_on_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        strict_json.parse(raw)


def test_what_is_at_the_limit_is_read() -> None:
    depth = strict_json.DEPTH_MAX
    assert strict_json.parse(b"[" * depth + b"1" + b"]" * depth)
    assert strict_json.parse(b'"\\ud83d\\ude00"') == "\U0001f600"
    assert strict_json.parse(b"1e308") == 1e308
    assert math.copysign(1, strict_json.parse(b"-0.0")) == -1
