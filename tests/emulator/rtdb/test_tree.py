"""The tree and the way in and out of it, against a model made of plain dictionaries."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.rtdb.errors import InvalidRequest
from emulator.rtdb.tree import Node, TreeSnapshot, export, export_with_priorities, get, put, same, shallow
from emulator.rtdb.values import Builder, parse_json, parse_path

KEYS = st.sampled_from(["a", "b", "0", "1", "2", "5", "ü", "-N", "10"])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(-2, 2), st.text("aé😀", max_size=3), st.just(2**70)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)
PATHS = st.lists(KEYS, max_size=4).map(tuple)


def build(value: Any, now_ms: int = 1_000, existing: Node | None = None) -> Node | None:
    return Builder(now_ms).node(value, depth=0, existing=existing)


def model(value: Any) -> Any:
    """A value with arrays as dictionaries and nothing empty in it."""
    if isinstance(value, list):
        value = {str(index): item for index, item in enumerate(value)}
    if isinstance(value, dict):
        return {key: inner for key, item in value.items() if (inner := model(item)) is not None} or None
    return value


def model_put(root: Any, path: tuple[str, ...], value: Any) -> Any:
    if not path:
        return model(value)
    children = dict(root) if isinstance(root, dict) else {}
    inner = model_put(children.get(path[0]), path[1:], value)
    if inner is None and not isinstance(root, dict):
        return root
    children.pop(path[0], None)
    if inner is not None:
        children[path[0]] = inner
    return children or None


def model_export(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    exported = {key: model_export(item) for key, item in value.items()}
    if all(key.isdigit() and str(int(key)) == key for key in exported):
        highest = max(map(int, exported))
        if highest < 2 * len(exported):
            return [exported.get(str(index)) for index in range(highest + 1)]
    return exported


@given(VALUES)
def test_what_goes_in_comes_out(value: Any) -> None:
    assert export(build(value)) == model_export(model(value))


@given(st.lists(st.tuples(PATHS, VALUES), max_size=8))
def test_a_sequence_of_writes_matches_the_model_and_leaves_old_versions_alone(writes: list[Any]) -> None:
    root: Node | None = None
    expected: Any = None
    versions = [(root, export(root))]
    for path, value in writes:
        root = put(root, path, build(value))
        expected = model_put(expected, path, value)
        assert export(root) == model_export(expected)
        assert export(get(root, path)) == model_export(model(value))
        versions.append((root, export(root)))
    for version, exported in versions:
        assert export(version) == exported


@given(VALUES, VALUES)
def test_same_means_equal_content(left: Any, right: Any) -> None:
    def strict(value: Any) -> str:
        return repr(export_with_priorities(build(value)))

    assert same(build(left), build(right)) == (strict(left) == strict(right))
    assert same(build(left), build(left))


@pytest.mark.parametrize(
    ("value", "exported"),
    [
        ([1, 2], [1, 2]),
        ({"0": "a", "1": "b"}, ["a", "b"]),
        ({"1": "a"}, [None, "a"]),
        ({"2": "a"}, {"2": "a"}),
        ({"2": "a", "3": "b"}, [None, None, "a", "b"]),
        ({"4": "a", "1": "b"}, {"1": "b", "4": "a"}),
        ({"0": "a", "x": "b"}, {"0": "a", "x": "b"}),
        ({"01": "a"}, {"01": "a"}),
        ({"-1": "a", "0": "b"}, {"-1": "a", "0": "b"}),
        ([None, None, 1], {"2": 1}),
        ([], None),
        ({"a": {"b": [None, {}]}}, None),
        ({"a": {"b": None}, "c": 1}, {"c": 1}),
        ({".value": 1}, 1),
        ({".value": None, ".priority": 1}, None),
        (1.0, 1),
        (2**63, float(2**63)),
        (-(2**63), -(2**63)),
    ],
)
def test_coercion(value: Any, exported: Any) -> None:
    result = export(build(value))
    assert result == exported
    assert type(result) is type(exported)


def test_keys_come_in_the_order_of_firebase() -> None:
    root = build({"b": 1, "a": 2, "10": 3, "9": 4, "-1": 5})
    assert list(export(root)) == ["-1", "9", "10", "a", "b"]
    assert TreeSnapshot(root).keys(()) == ("-1", "9", "10", "a", "b")
    assert list(shallow(root)) == ["-1", "9", "10", "a", "b"]


def test_a_child_below_a_scalar_replaces_it_and_keeps_its_priority() -> None:
    root = build({"a": {".value": 1, ".priority": "p"}})
    assert export_with_priorities(put(root, ("a", "b"), build(2))) == {"a": {"b": 2, ".priority": "p"}}
    assert put(root, ("a", "b"), None) is root


def test_the_last_child_takes_its_parents_and_their_priorities_along() -> None:
    root = build({"a": {"b": {"c": 1, ".priority": 5}, ".priority": 6}, "z": 1})
    assert export_with_priorities(put(root, ("a", "b", "c"), None)) == {"z": 1}


def test_a_set_replaces_the_priority_and_a_set_below_keeps_it() -> None:
    root = build({"a": {"b": 1, ".priority": 5}})
    assert export_with_priorities(put(root, ("a",), build({"b": 2}))) == {"a": {"b": 2}}
    assert export_with_priorities(put(root, ("a", "c"), build(2))) == {"a": {"b": 1, "c": 2, ".priority": 5}}


def test_an_unchanged_part_is_shared_between_versions() -> None:
    before = build({"a": {"x": 1}, "b": {"y": 1}})
    after = put(before, ("a", "x"), build(2))
    assert get(after, ("b",)) is get(before, ("b",))


def test_a_wide_branch_is_updated_in_place_of_one_path() -> None:
    root = build({f"k{number}": number for number in range(20_000)})
    for number in range(2_000):
        root = put(root, (f"k{number}",), build(-1))
    assert export(get(root, ("k1999",))) == -1
    assert export(get(root, ("k2000",))) == 2000


@pytest.mark.parametrize(
    "key", ["", "a.b", "a#", "$a", "a[", "a]", "a/b", "a\x00", "a\x1f", "a\x7f", "k" * 769, "ü" * 385]
)
def test_invalid_keys_are_refused(key: str) -> None:
    with pytest.raises(InvalidRequest):
        build({key: 1})


@pytest.mark.parametrize("key", ["k" * 768, "ü" * 384, "a b", "😀", "-", "%2F", "\u0080", "\U0010ffff"])
def test_valid_keys_are_taken(key: str) -> None:
    assert export(build({key: 1})) == {key: 1}


def test_a_null_does_not_excuse_an_invalid_key() -> None:
    with pytest.raises(InvalidRequest):
        build({"a.b": None})


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def test_thirty_two_levels_are_the_limit() -> None:
    assert build(nested(32)) is not None
    with pytest.raises(InvalidRequest, match="depth"):
        build(nested(33))
    with pytest.raises(InvalidRequest, match="depth"):
        Builder(0).node(nested(2), depth=31)
    parse_path("/a" * 32)
    with pytest.raises(InvalidRequest, match="depth"):
        parse_path("/a" * 33)


@pytest.mark.parametrize(
    "body",
    [b"NaN", b"Infinity", b"-Infinity", b"{", b"{a:1}", b"hello", b'"\xff"', b"1e999", b"[" * 100_000, b"1" * 5_000],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="couldn't parse JSON"):
        build(parse_json(body))


@pytest.mark.parametrize("value", ["\ud800", {"\ud800": 1}, ["\udfff"]])
def test_a_lone_surrogate_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest):
        build(value)


def test_a_long_string_is_refused_by_its_bytes() -> None:
    assert build("x" * 10_485_760) is not None
    with pytest.raises(InvalidRequest, match="string"):
        build("x" * 10_485_761)
    with pytest.raises(InvalidRequest, match="string"):
        build("ü" * 5_242_881)


@pytest.mark.parametrize(
    ("existing", "increment", "result"),
    list(itertools.chain.from_iterable([[(5, 2, 7), (5, -7, -2), (1.5, 1, 2.5), (0.5, 0.5, 1)],
        [(None, 3, 3), ("text", 3, 3), (True, 3, 3), ({"a": 1}, 3, 3)], [(2**63 - 1, 1, float(2**63))]])),
)  # fmt: skip
def test_increments(existing: Any, increment: float, result: Any) -> None:
    new = export(build({".sv": {"increment": increment}}, existing=build(existing)))
    assert new == result
    assert type(new) is type(result)


def test_server_values_anywhere() -> None:
    existing = build({"count": 4, "deep": {"count": {".value": 1, ".priority": 9}}})
    value = {
        "at": {".sv": "timestamp"},
        "count": {".sv": {"increment": 1}},
        "deep": {"count": {".sv": {"increment": 1}, ".priority": {".sv": "timestamp"}}},
        "boxed": {".value": {".sv": "timestamp"}, ".priority": "p"},
    }
    assert export_with_priorities(build(value, 1234, existing)) == {
        "at": 1234,
        "count": 5,
        "deep": {"count": {".value": 2, ".priority": 1234}},
        "boxed": {".value": 1234, ".priority": "p"},
    }


@pytest.mark.parametrize(
    "value",
    [
        {".sv": "now"},
        {".sv": {"increment": "1"}},
        {".sv": {"increment": True}},
        {".sv": {"decrement": 1}},
        {".sv": "timestamp", "a": 1},
        {".value": 1, "a": 2},
        {".value": {"a": 1}},
        {".value": [1]},
        {"a": 1, ".priority": True},
        {"a": 1, ".priority": {"b": 1}},
        {"a": 1, ".priority": [1]},
        {".other": 1},
    ],
)
def test_malformed_metadata_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest):
        build(value)
