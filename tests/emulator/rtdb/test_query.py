"""Queries against a naive sort."""

import functools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.rtdb.errors import InvalidRequest
from emulator.rtdb.query import parse_query
from emulator.rtdb.tree import export, get
from emulator.rtdb.values import Builder

SCALARS = st.one_of(st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, -1.5]), st.text("aB", max_size=2))
KEYS = st.sampled_from(["a", "b", "B", "1", "2", "10", "-3", "x", "ü", "99999999999"])
CHILDREN = st.one_of(
    SCALARS, st.fixed_dictionaries({"v": st.one_of(st.none(), SCALARS, st.just({"o": 1})), "k": st.just(1)})
)
RANGES = ["startAt", "startAfter", "endAt", "endBefore", "equalTo"]


def compare_keys(left: str, right: str) -> int:
    def number(key: str) -> int | None:
        digits = key.removeprefix("-")
        return int(key) if digits.isdigit() and len(digits) <= 10 and -(2**31) <= int(key) < 2**31 else None

    first, second = number(left), number(right)
    if first is not None and second is not None:
        return (first > second) - (first < second)
    if first is not None or second is not None:
        return -1 if first is not None else 1
    return (left > right) - (left < right)


def compare_values(left: Any, right: Any) -> int:
    def rank(value: Any) -> int:
        for position, kind in enumerate([type(None), bool, (int, float), str, dict]):
            if isinstance(value, kind):  # type: ignore[arg-type]
                return position
        raise AssertionError(value)

    if rank(left) != rank(right):
        return rank(left) - rank(right)
    if isinstance(left, dict) or left is None:
        return 0
    return int(left > right) - int(left < right)


def naive(data: dict[str, Any], parameters: dict[str, Any]) -> list[str]:
    """What the documentation says, as directly as possible."""
    order_by = parameters["orderBy"]

    def indexed(key: str) -> Any:
        if order_by == "$value":
            return data[key]
        return data[key].get("v") if isinstance(data[key], dict) else None

    def compare(left: str, right: str) -> int:
        by_value = 0 if order_by == "$key" else compare_values(indexed(left), indexed(right))
        return by_value or compare_keys(left, right)

    def distance(key: str, bound: Any) -> int:
        return compare_keys(key, bound) if order_by == "$key" else compare_values(indexed(key), bound)

    checks = {
        "startAt": lambda sign: sign >= 0,
        "startAfter": lambda sign: sign > 0,
        "endAt": lambda sign: sign <= 0,
        "endBefore": lambda sign: sign < 0,
        "equalTo": lambda sign: sign == 0,
    }
    keys = sorted(data, key=functools.cmp_to_key(compare))
    for name, check in checks.items():
        if name in parameters:
            keys = [key for key in keys if check(distance(key, parameters[name]))]
    if "limitToFirst" in parameters:
        keys = keys[: parameters["limitToFirst"]]
    if "limitToLast" in parameters:
        keys = keys[-parameters["limitToLast"] :]
    return keys


@st.composite
def queries(draw: Any) -> dict[str, Any]:
    parameters: dict[str, Any] = {"orderBy": draw(st.sampled_from(["$key", "$value", "v"]))}
    bounds = KEYS if parameters["orderBy"] == "$key" else st.one_of(st.none(), SCALARS)
    allowed = [[], ["equalTo"], ["startAt"], ["endBefore"], ["startAfter", "endAt"], ["startAt", "endBefore"]]
    for name in draw(st.sampled_from(allowed)):
        parameters[name] = draw(bounds)
    limit = draw(st.sampled_from([None, "limitToFirst", "limitToLast"]))
    if limit:
        parameters[limit] = draw(st.integers(1, 12))
    return parameters


@given(st.dictionaries(KEYS, CHILDREN, max_size=8), queries())
def test_a_query_selects_what_a_naive_sort_selects(data: dict[str, Any], parameters: dict[str, Any]) -> None:
    query = parse_query({name: json.dumps(value) for name, value in parameters.items()})
    node = Builder(0).node(data, depth=0)
    assert query is not None
    expected = naive(data, parameters)
    assert query.select(node) == expected
    selected = query.apply(node)
    assert set(selected.sorted_keys() if selected else ()) == set(expected)
    for key in expected:
        assert export(get(selected, (key,))) == export(get(node, (key,)))


def test_priorities_order_and_limit() -> None:
    data = {
        "a": {".value": 1, ".priority": "x"},
        "b": {".value": 1, ".priority": 5},
        "c": 1,
        "d": {"e": 1, ".priority": 5},
    }
    node = Builder(0).node(data, depth=0)
    query = parse_query({"orderBy": '"$priority"'})
    assert query is not None
    assert query.select(node) == ["c", "b", "d", "a"]
    query = parse_query({"orderBy": '"$priority"', "startAt": "5", "limitToFirst": "2"})
    assert query is not None
    assert query.select(node) == ["b", "d"]
    assert query.index is None


def test_a_scalar_has_nothing_to_select() -> None:
    query = parse_query({"orderBy": '"$key"'})
    assert query is not None
    assert query.apply(Builder(0).node(5, depth=0)) is None


def test_no_parameters_are_no_query() -> None:
    assert parse_query({"print": "pretty"}) is None


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"limitToFirst": "1"}, "orderBy must be defined"),
        ({"orderBy": "height"}, "valid JSON encoded path"),
        ({"orderBy": "5"}, "valid JSON encoded path"),
        ({"orderBy": '""'}, "valid JSON encoded path"),
        ({"orderBy": '"a.b"'}, "Invalid path"),
        ({"orderBy": '"$other"'}, "Invalid path"),
        ({"orderBy": '"a"', "startAt": "x"}, "JSON primitive"),
        ({"orderBy": '"a"', "startAt": "{}"}, "JSON primitive"),
        ({"orderBy": '"a"', "equalTo": "[1]"}, "JSON primitive"),
        ({"orderBy": '"$key"', "startAt": "5"}, "must be a string"),
        ({"orderBy": '"a"', "limitToFirst": "0"}, "positive integer"),
        ({"orderBy": '"a"', "limitToLast": "-1"}, "positive integer"),
        ({"orderBy": '"a"', "limitToLast": "1.5"}, "positive integer"),
        ({"orderBy": '"a"', "limitToLast": "true"}, "positive integer"),
        ({"orderBy": '"a"', "limitToFirst": "1", "limitToLast": "1"}, "cannot both"),
        ({"orderBy": '"a"', "equalTo": "1", "endAt": "1"}, "equalTo cannot"),
        ({"orderBy": '"a"', "startAt": "1", "startAfter": "1"}, "cannot both"),
        ({"orderBy": '"a"', "endAt": "1", "endBefore": "1"}, "cannot both"),
    ],
)
def test_malformed_queries_are_refused(parameters: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        parse_query(parameters)
