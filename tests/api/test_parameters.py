"""Query parameters, cursors and ids: whatever comes in, it is the value that it says, or it is refused by its field."""

import base64
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeVar, cast
from urllib.parse import urlencode

import pytest
from flask import Flask, g
from hypothesis import given
from hypothesis import strategies as st

from concierge.api.app import create_app
from concierge.api.idempotency import KEY
from concierge.api.parameters import Digits, Moment, query_number, whole_number
from concierge.api.support import Schema, body, decode_cursor, encode_cursor, is_uid, query
from concierge.api.v1.reservations import ReserveBody
from concierge.errors import InvalidArgument
from concierge.identity.tokens import Caller
from concierge.kit.microcredits import AMOUNT_MAX_MICROCREDITS

MAXIMUM = 10_000
Model = TypeVar("Model", bound=Schema)


class Numbered(Schema):
    number: Digits


class Timed(Schema):
    at: Moment


class Listed(Schema):
    kind: tuple[str, ...] = ()
    one_name: str | None = None


@pytest.fixture(scope="module")
def app() -> Iterator[Flask]:
    yield create_app(cast(Any, None))


def outcome(call: Callable[[], Any]) -> Any:
    """What a call gives, or the field that it refuses."""
    try:
        return call()
    except InvalidArgument as error:
        return f"refused: {error.field}"


def parse_query(model: type[Model]) -> Model:
    """The query of somebody who is signed in."""
    g.caller = Caller("somebody", is_admin=False)
    return query(model)


def is_before(value: dict[str, Any]) -> bool:
    return type(value["before"]) is int and 0 < value["before"] <= MAXIMUM


@given(st.text())
def test_digits_are_the_number_they_show(text: str) -> None:
    found = outcome(lambda: whole_number("n", text, minimum=0, maximum=MAXIMUM))
    plain = text != "" and set(text) <= set("0123456789") and len(text) <= 16 and int(text) <= MAXIMUM
    assert found == (int(text) if plain else "refused: n")


@given(st.integers(-(10**20), 10**20))
def test_numbers_in_the_range_are_taken(number: int) -> None:
    found = outcome(lambda: whole_number("n", str(number), minimum=5, maximum=MAXIMUM))
    assert found == (number if 5 <= number <= MAXIMUM else "refused: n")


@given(text=st.one_of(st.text(max_size=30), st.text(st.sampled_from("0123456789+-_. \n\u0661"), max_size=4)))
def test_a_number_of_a_query_is_digits(app: Flask, text: str) -> None:
    with app.test_request_context(query_string=urlencode({"number": text})):
        found = outcome(lambda: parse_query(Numbered).number)
        asked = outcome(lambda: query_number("number", minimum=0, maximum=10**16 - 1))
    plain = text != "" and set(text) <= set("0123456789") and len(text) <= 16
    assert found == asked == (int(text) if plain else "refused: number")


@given(microseconds=st.integers(0, 3 * 10**17), offset=st.integers(-23 * 60, 23 * 60))
def test_times_are_moments(app: Flask, microseconds: int, offset: int) -> None:
    zone = timezone(timedelta(minutes=offset))
    moment = datetime(2, 1, 1, tzinfo=zone) + timedelta(microseconds=microseconds)
    with app.test_request_context(query_string=urlencode({"at": moment.isoformat()})):
        assert parse_query(Timed).at == moment
    text = moment.astimezone(UTC).isoformat().replace("+00:00", "z").replace("T", "t")
    with app.test_request_context(query_string=urlencode({"at": text})):
        assert parse_query(Timed).at == moment


@given(text=st.text(st.sampled_from("0123456789-:.TZ+ tz\u0661"), max_size=30))
def test_what_is_no_time_is_none(app: Flask, text: str) -> None:
    with app.test_request_context(query_string=urlencode({"at": text})):
        found = outcome(lambda: parse_query(Timed).at)
    assert found == "refused: at" or (text[10] in "Tt" and text.isascii() and found.tzinfo is not None)


def test_only_lists_are_repeated(app: Flask) -> None:
    with app.test_request_context("/?kind=a&kind=b&oneName=c"):
        assert parse_query(Listed) == Listed(kind=("a", "b"), one_name="c")
    for wrong, field in (("oneName=a&oneName=b", "oneName"), ("one_name=a", "one_name"), ("x=1", "x")):
        with app.test_request_context(f"/?{wrong}"):
            assert outcome(lambda: parse_query(Listed)) == f"refused: {field}"
    with app.test_request_context("/?n=1&n=2"):
        assert outcome(lambda: query_number("n", minimum=0, maximum=5)) == "refused: n"


@given(st.integers(1, MAXIMUM), st.text(max_size=10))
def test_cursors_come_back(before: int, kind: str) -> None:
    text = encode_cursor(kind, {"before": before})
    assert decode_cursor(kind, text, is_before) == {"before": before}
    assert outcome(lambda: decode_cursor(f"{kind}x", text, is_before)) == "refused: cursor"


@given(st.one_of(st.text(max_size=50), st.text(st.sampled_from("ABCabc019-_+/= "), max_size=50)))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    found = outcome(lambda: decode_cursor("history", text, is_before))
    assert found == "refused: cursor" or is_before(found)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_cursor_or_refused(raw: bytes) -> None:
    text = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    found = outcome(lambda: decode_cursor("history", text, is_before))
    assert found == "refused: cursor" or is_before(found)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["kind", "before", "x"]), json_values | st.just("history")))
def test_any_object_is_a_cursor_or_refused(value: dict[str, Any]) -> None:
    text = base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
    found = outcome(lambda: decode_cursor("history", text, is_before))
    sound = value.get("kind") == "history" and "before" in value and is_before(value)
    assert found == ({key: value[key] for key in value if key != "kind"} if sound else "refused: cursor")


@given(st.text(max_size=140))
def test_a_user_id_can_name_a_document(text: str) -> None:
    """As Firestore limits document ids, and Auth user ids."""
    allowed = (
        1 <= len(text) <= 128
        and text not in (".", "..")
        and not (text.startswith("__") and text.endswith("__") and len(text) >= 4)
        and not any(character == "/" or ord(character) < 32 or ord(character) == 127 for character in text)
        and not any("\ud800" <= character <= "\udfff" for character in text)
    )
    assert is_uid(text) is allowed


@pytest.mark.parametrize("text", ["__x__", "____", ".", "..", "a/b", "a\n", "", "x" * 129, "\ud800"])
def test_what_is_no_user_id(text: str) -> None:
    assert not is_uid(text)


@pytest.mark.parametrize("text", ["...", "__x", "x__", "a b", "\u00fc", "me@example.com", "x" * 128])
def test_what_is_a_user_id(text: str) -> None:
    assert is_uid(text)


@pytest.mark.parametrize("key", ["caf\u00e9", "\x7f", "a\n", " a", "\u0661", "\ud800", ""])
def test_what_is_no_idempotency_key(key: str) -> None:
    assert not KEY.fullmatch(key)


def amount_of(app: Flask, content: bytes) -> Any:
    with app.test_request_context(method="POST", data=content):
        return outcome(lambda: body(ReserveBody).amount)


@given(value=json_values)
def test_an_amount_is_a_positive_whole_number(app: Flask, value: Any) -> None:
    found = amount_of(app, json.dumps({"amountMicrocredits": value}).encode())
    if type(value) is int and 1 <= value <= AMOUNT_MAX_MICROCREDITS:
        assert found == value
    else:
        assert found in ("refused: amountMicrocredits", "refused: body")


@given(whole=st.integers(0, 10**11), fraction=st.text(st.sampled_from("0123456789"), max_size=7))
def test_decimal_credits_are_exact(app: Flask, whole: int, fraction: str) -> None:
    text = f"{whole}.{fraction}" if fraction else str(whole)
    found = amount_of(app, json.dumps({"amountCredits": text}).encode())
    exact = whole * 10**6 + int(fraction.ljust(6, "0") or 0) if len(fraction) <= 6 else 0
    assert found == (exact if 1 <= exact <= AMOUNT_MAX_MICROCREDITS else "refused: amountCredits")


@given(text=st.text(max_size=20))
def test_other_texts_are_no_amount(app: Flask, text: str) -> None:
    found = amount_of(app, json.dumps({"amountCredits": text}).encode())
    assert found in ("refused: amountCredits", "refused: body") or text.replace(".", "", 1).isascii()
