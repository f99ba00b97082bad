"""The order of values, against the client library's own comparison and against a comparison written out here."""

import datetime
import itertools
import math
from typing import Any

import pytest
from google.cloud.firestore_v1 import _helpers
from google.cloud.firestore_v1 import types as library_types
from google.cloud.firestore_v1.order import Order
from hypothesis import given
from hypothesis import strategies as st

from emulator.firestore.documents import delete_value, get_value, set_value
from emulator.firestore.errors import InvalidArgument
from emulator.firestore.names import document_name, field_path, format_path
from emulator.firestore.protocol import Document, Value
from emulator.firestore.values import add_numbers, normalize_fields, sort_key, storage_bytes

text = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=4)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-3, 3),
    st.floats(),
    st.sampled_from([0.0, -0.0, 1.0, math.nan, 2.0**53, 2.0**63]),
    st.datetimes(timezones=st.just(datetime.UTC)),
    text,
    st.binary(max_size=4),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text.filter(bool), inner, max_size=3)),
    max_leaves=6,
)


def encode(value: Any) -> tuple[Any, Any]:
    """A value as the client library's message and as ours."""
    theirs = _helpers.encode_value(value)
    return theirs, Value.FromString(library_types.Value.serialize(theirs))


@given(values, values)
def test_order_agrees_with_the_client_library(left: Any, right: Any) -> None:
    (their_left, our_left), (their_right, our_right) = encode(left), encode(right)
    left_key, right_key = sort_key(our_left), sort_key(our_right)
    assert (left_key > right_key) - (left_key < right_key) == Order.compare(their_left, their_right)
    if left_key == right_key:
        assert hash(left_key) == hash(right_key)


@given(st.lists(values, max_size=6))
def test_the_order_is_total(samples: list[Any]) -> None:
    keys = [sort_key(encode(sample)[1]) for sample in samples]
    backwards = list(reversed(keys))
    assert sorted(keys) == sorted(backwards)
    for left, right in itertools.pairwise(sorted(keys)):
        assert left <= right


@given(st.lists(text, max_size=6))
def test_strings_are_in_the_order_of_their_bytes(samples: list[str]) -> None:
    by_key = sorted(samples, key=lambda sample: sort_key(Value(string_value=sample)))
    assert by_key == sorted(samples, key=lambda sample: sample.encode())


@pytest.mark.parametrize(
    ("integer", "double", "sign"),
    [(2**53 + 1, 2.0**53, 1), (2**63 - 1, 2.0**63, -1), (-(2**63), -(2.0**63), 0), (0, -0.0, 0), (3, math.inf, -1)],
)
def test_integers_and_doubles_compare_exactly(integer: int, double: float, sign: int) -> None:
    left, right = sort_key(Value(integer_value=integer)), sort_key(Value(double_value=double))
    assert (left > right) - (left < right) == sign


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_integers_add_with_saturation(left: int, right: int) -> None:
    total = add_numbers(left, right)
    assert isinstance(total, int)
    assert total == min(max(left + right, -(2**63)), 2**63 - 1)


def test_a_double_makes_the_sum_a_double() -> None:
    assert repr(add_numbers(1, 2.0)) == "3.0"


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4))
def test_field_paths_survive_formatting(segments: list[str]) -> None:
    assert field_path(format_path(tuple(segments))) == tuple(segments)


@pytest.mark.parametrize("path", ["", ".", "a.", ".a", "a..b", "a-b", "1a", "`", "``", "`a", "a`b`"])
def test_field_paths_that_are_none(path: str) -> None:
    with pytest.raises(InvalidArgument):
        field_path(path)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "projects/p",
        "projects/p/databases/d",
        "projects/p/databases/d/documents",
        "projects/p/databases/d/documents/a",
        "projects/p/databases/d/documents/a/b/c",
        "projects//databases/d/documents/a/b",
        "projects/p/databases/d/docs/a/b",
        "projects/p/databases/d/documents/a//b/c",
        "projects/p/databases/d/documents/" + "/".join(["a"] * 202),
    ],
)
def test_document_names_that_are_none(name: str) -> None:
    with pytest.raises(InvalidArgument):
        document_name(name)


def test_timestamps_are_cut_to_microseconds() -> None:
    document = Document()
    document.fields["at"].timestamp_value.nanos = 123_456_789
    inner = document.fields["list"].array_value.values.add()
    inner.map_value.fields["at"].timestamp_value.nanos = 999
    normalize_fields(document.fields)
    assert document.fields["at"].timestamp_value.nanos == 123_456_000
    assert inner.map_value.fields["at"].timestamp_value.nanos == 0


def test_storage_sizes_of_the_documentation() -> None:
    """The example at https://firebase.google.com/docs/firestore/storage-size: fields of 70 bytes together."""
    document = Document()
    document.fields["type"].string_value = "Personal"
    document.fields["done"].boolean_value = False
    document.fields["priority"].integer_value = 1
    document.fields["description"].string_value = "Learn Cloud Firestore"
    sizes = [len(name) + 1 + storage_bytes(document.fields[name]) for name in document.fields]
    assert sorted(sizes) == sorted([14, 6, 17, 34])


@given(st.dictionaries(st.sampled_from("abc"), values, max_size=3), st.lists(st.sampled_from("abc"), min_size=1))
def test_what_is_set_is_found_until_it_is_deleted(fields: dict[str, Any], path: list[str]) -> None:
    document = Document()
    for name, value in fields.items():
        document.fields[name].CopyFrom(encode(value)[1])
    set_value(document.fields, tuple(path), Value(string_value="here"))
    found = get_value(document.fields, tuple(path))
    assert found is not None and found.string_value == "here"
    delete_value(document.fields, tuple(path))
    assert get_value(document.fields, tuple(path)) is None
