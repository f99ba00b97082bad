"""The pure parts: the tokenizer, and values for any schema."""

import json
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from emulator.models import tokenizer
from emulator.models.chat_request import parse
from emulator.models.generator import answer
from emulator.models.schema_values import SchemaValues
from emulator.models.streaming import chat_chunks

_TEXT = st.text(st.characters(codec="utf-8"), max_size=80)
_LEAF = st.one_of(
    st.builds(
        lambda low, size: {"type": "integer", "minimum": low, "maximum": low + size},
        st.integers(-50, 50),
        st.integers(0, 9),
    ),
    st.builds(
        lambda low, size: {"type": "string", "minLength": low, "maxLength": low + size},
        st.integers(0, 9),
        st.integers(0, 9),
    ),
    st.builds(lambda values: {"enum": values}, st.lists(st.sampled_from(["red", "green", 3, None]), min_size=1)),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"const": 7}, {"type": ["number", "null"]}]),
)
_SCHEMA = st.recursive(
    _LEAF,
    lambda children: st.one_of(
        st.builds(
            lambda items, low: {"type": "array", "items": items, "minItems": low, "maxItems": low + 2},
            children,
            st.integers(0, 3),
        ),
        st.builds(
            lambda properties: {"type": "object", "properties": properties, "required": list(properties)},
            st.dictionaries(st.sampled_from("abc"), children),
        ),
        st.builds(lambda options: {"anyOf": options}, st.lists(children, min_size=1, max_size=3)),
    ),
    max_leaves=8,
)


def _fits(value: Any, schema: dict[str, Any]) -> bool:
    """A validator for just the schemas above."""
    if "const" in schema:
        return value == schema["const"]
    if "enum" in schema:
        return value in schema["enum"]
    if "anyOf" in schema:
        return any(_fits(value, option) for option in schema["anyOf"])
    kind = schema["type"]
    if kind == "integer":
        return isinstance(value, int) and schema["minimum"] <= value <= schema["maximum"]
    if kind == "string":
        return isinstance(value, str) and schema["minLength"] <= len(value) <= schema["maxLength"]
    if kind == "array":
        sized = isinstance(value, list) and schema["minItems"] <= len(value) <= schema["maxItems"]
        return sized and all(_fits(item, schema["items"]) for item in value)
    if kind == "object":
        properties = schema["properties"]
        named = isinstance(value, dict) and set(value) == set(properties)
        return named and all(_fits(value[name], properties[name]) for name in properties)
    if kind == "boolean":
        return isinstance(value, bool)
    return value is None if kind == "null" else isinstance(value, int | float)


@given(text=_TEXT)
def test_tokens_join_to_their_text(text: str) -> None:
    assert "".join(tokenizer.split(text)) == text


@given(text=_TEXT, kept=st.integers(0, 30))
def test_a_beginning_of_the_tokens_counts_as_many(text: str, kept: int) -> None:
    tokens = tokenizer.split(text)[:kept]
    assert tokenizer.count("".join(tokens)) == len(tokens)


@given(schema=_SCHEMA, text=_TEXT, seed=st.integers())
def test_values_fit_their_schema(schema: dict[str, Any], text: str, seed: int) -> None:
    value = SchemaValues(text, Random(seed)).value(schema)
    assert _fits(json.loads(json.dumps(value)), schema)
    assert SchemaValues(text, Random(seed)).value(schema) == value


def test_recursive_and_referenced_schemas_end() -> None:
    node = {"type": "object", "properties": {"name": {"type": "string"}, "children": {"$ref": "#/$defs/nodes"}}}
    nodes = {"type": "array", "items": {"$ref": "#/$defs/node"}}
    schema = {"allOf": [{"$ref": "#/$defs/node"}], "$defs": {"node": node, "nodes": nodes}}
    value = SchemaValues("tree", Random(1)).value(schema)
    assert value["name"] == "tree"
    assert value["children"][0]["name"] == "tree"
    endless = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
    assert SchemaValues("", Random(1)).value(endless) is None


@given(question=_TEXT, tokens_max=st.integers(1, 200), stop=st.sampled_from([None, "e", [" the", "."]]))
def test_streamed_tokens_are_the_answer_within_its_limit(question: str, tokens_max: int, stop: Any) -> None:
    message = {"role": "user", "content": question}
    body = {"model": "concierge-offline-large", "messages": [message], "max_tokens": tokens_max, "stop": stop}
    result = answer(parse(body))
    chunks = list(chat_chunks(result))
    assert sum(chunk.tokens for chunk in chunks) == result.completion_tokens <= tokens_max
    text = "".join(chunk.delta.get("content") or "" for chunk in chunks)
    assert text == "".join(result.content)
    assert tokenizer.count(text) == result.completion_tokens
    assert not any(ending in text for ending in ([stop] if isinstance(stop, str) else stop or []))
    assert answer(parse(body)) == result
