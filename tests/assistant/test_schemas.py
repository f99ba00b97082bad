"""Bad requests get a typed error that names the field."""

from typing import Any

import pytest

from concierge.assistant.schemas import parse_request
from concierge.errors import InvalidArgument

GOOD: dict[str, Any] = {"kind": "chat", "conversationId": "c1", "text": "Hello", "createdAt": 1_700_000_000_000}


def test_a_good_request_is_read() -> None:
    request = parse_request("r1", {**GOOD, "options": {"maxTokens": 10, "temperature": 0.5}})
    assert (request.kind, request.text, request.options.max_tokens) == ("chat", "Hello", 10)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"text": None}, "text"),
        ({"text": 5}, "text"),
        ({"text": ""}, "text"),
        ({"text": "   \n"}, "text"),
        ({"text": "x" * 32_001}, "text"),
        ({"kind": "poem"}, "kind"),
        ({"conversationId": ["c"]}, "conversationId"),
        ({"createdAt": "now"}, "createdAt"),
        ({"createdAt": float("nan")}, "createdAt"),
        ({"surprise": 1}, "surprise"),
        ({"options": {"maxTokens": 0}}, "options.maxTokens"),
        ({"options": {"maxTokens": 1.5}}, "options.maxTokens"),
        ({"options": {"maxTokens": True}}, "options.maxTokens"),
        ({"options": {"maxTokens": -5}}, "options.maxTokens"),
        ({"options": {"temperature": 3}}, "options.temperature"),
        ({"options": {"price": 0}}, "options.price"),
        ({"attachments": [{"path": "a"}]}, "attachments.0.contentType"),
    ],
)
def test_a_bad_request_names_its_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_request("r1", {**GOOD, **change})
    assert caught.value.field == field
    assert caught.value.public()["code"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize("missing", ["kind", "text", "conversationId", "createdAt"])
def test_a_missing_field_is_named(missing: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_request("r1", {key: value for key, value in GOOD.items() if key != missing})
    assert caught.value.field == missing


@pytest.mark.parametrize("raw", [None, "text", 5, [], True])
def test_what_is_no_object_is_refused(raw: Any) -> None:
    with pytest.raises(InvalidArgument):
        parse_request("r1", raw)


@pytest.mark.parametrize("request_id", ["", "__x__", "a/b", "a b", "a~b", "x" * 129, "ä"])
def test_a_bad_request_id_is_refused(request_id: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_request(request_id, GOOD)


def test_the_body_hash_ignores_the_time_and_nothing_else() -> None:
    base = parse_request("r1", GOOD).body_hash()
    assert parse_request("r1", {**GOOD, "createdAt": 5}).body_hash() == base
    for change in ({"text": "Hello!"}, {"conversationId": "c2"}, {"options": {"maxTokens": 9}}, {"kind": "auto"}):
        assert parse_request("r1", {**GOOD, **change}).body_hash() != base
