"""Queries over the wire: filters, orders, cursors, windows, groups, aggregations, listings."""

import datetime
import math
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import firestore as client_library
from google.cloud.firestore_v1 import And, FieldFilter, GeoPoint, Or
from google.cloud.firestore_v1.vector import Vector

Database = client_library.Client

# In the order of Firestore; those that are equal in it differ by name only.
ORDERED: list[tuple[str, Any]] = [
    ("null", None),
    ("false", False),
    ("true", True),
    ("nan", math.nan),
    ("minus-infinity", -math.inf),
    ("minus-five", -5),
    ("minus-zero", -0.0),
    ("zero", 0),
    ("one", 1),
    ("one-and-a-half", 1.5),
    ("big", 2**53 + 1),
    ("infinity", math.inf),
    ("time", datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)),
    ("a", "a"),
    ("e-acute", "é"),
    ("ligature", "ﬀ"),
    ("emoji", "😀"),
    ("bytes", b"a"),
    ("point", GeoPoint(1, 2)),
    ("array-empty", []),
    ("array-nan", [math.nan, None]),
    ("array", [1, "a"]),
    ("vector", Vector([1.0, 2.0])),
    ("map-empty", {}),
    ("map", {"a": 1}),
]
NAMES = [name for name, _ in ORDERED]
NOT_NULL = NAMES[1:]


@pytest.fixture
def mixed(database: Database) -> Any:
    """A collection with a value of every type in `v`, and one document without."""
    collection = database.collection("mixed")
    batch = database.batch()
    for name, value in ORDERED:
        batch.set(collection.document(name), {"v": value, "k": name})
    batch.set(collection.document("missing"), {"k": "missing", "w": 1})
    batch.commit()
    return collection


def ids(query: Any) -> list[str]:
    return [snapshot.id for snapshot in query.stream()]


def where(collection: Any, operator: str, value: Any) -> list[str]:
    return ids(collection.where(filter=FieldFilter("v", operator, value)))


def without(*names: str) -> list[str]:
    return [name for name in NOT_NULL if name not in names]


def test_order_of_all_types(mixed: Any) -> None:
    assert ids(mixed.order_by("v")) == NAMES
    assert ids(mixed.order_by("v", direction="DESCENDING")) == NAMES[::-1]
    assert ids(mixed) == sorted([*NAMES, "missing"])


@pytest.mark.parametrize(
    ("operator", "value", "expected"),
    [
        ("<", 1, ["minus-infinity", "minus-five", "minus-zero", "zero"]),
        ("<=", 1.0, ["minus-infinity", "minus-five", "minus-zero", "zero", "one"]),
        (">", 1, ["one-and-a-half", "big", "infinity"]),
        (">", float(2**53), ["big", "infinity"]),
        (">=", 0, ["minus-zero", "zero", "one", "one-and-a-half", "big", "infinity"]),
        (">", "b", ["e-acute", "ligature", "emoji"]),
        (">=", True, ["true"]),
        ("<", [1, "a"], ["array-empty", "array-nan"]),
        ("<=", {"a": 1}, ["map-empty", "map"]),
        ("==", 0, ["minus-zero", "zero"]),
        ("==", 1.0, ["one"]),
        ("==", None, ["null"]),
        ("==", math.nan, ["nan"]),
        ("==", {"a": 1.0}, ["map"]),
        ("!=", 0, without("minus-zero", "zero")),
        ("!=", None, NOT_NULL),
        ("!=", math.nan, without("nan")),
        ("in", [1, "a", None, 77], ["a", "one"]),
        ("in", [[1, "a"], {"a": 1}], ["array", "map"]),
        ("not-in", [1, "a"], without("one", "a")),
        ("not-in", [1, None], []),
        ("array_contains", 1, ["array"]),
        ("array_contains", [1], []),
        ("array_contains_any", ["a", "b"], ["array"]),
        ("array_contains_any", [None, math.nan], []),
    ],
)
def test_filters(mixed: Any, operator: str, value: Any, expected: list[str]) -> None:
    assert where(mixed, operator, value) == expected


@pytest.mark.parametrize(
    ("operator", "value"),
    [("in", []), ("in", list(range(31))), ("not-in", list(range(11))), ("array_contains_any", [])],
)
def test_lists_of_a_wrong_size(mixed: Any, operator: str, value: Any) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        where(mixed, operator, value)


def test_composite_filters(mixed: Any) -> None:
    one, eleven = FieldFilter("v", "==", 1), FieldFilter("w", "==", 1)
    assert ids(mixed.where(filter=Or([one, eleven]))) == ["missing", "one"]
    assert ids(mixed.where(filter=Or([one, eleven])).order_by("v")) == ["one"]
    both = And([FieldFilter("v", ">", 0), FieldFilter("k", ">", "c")])
    assert sorted(ids(mixed.where(filter=both))) == ["infinity", "one", "one-and-a-half"]
    nested = And([Or([one, FieldFilter("v", "==", "a")]), FieldFilter("k", "!=", "a")])
    assert ids(mixed.where(filter=nested)) == ["one"]
    # Two inequalities order the result by both fields, which no document has.
    assert ids(mixed.where(filter=Or([FieldFilter("v", ">", 0), FieldFilter("w", ">", 0)]))) == []


def test_an_inequality_orders_by_its_field(mixed: Any) -> None:
    over = mixed.where(filter=FieldFilter("v", ">", -9))
    assert ids(over.order_by("v", direction="DESCENDING"))[:2] == ["infinity", "big"]
    assert ids(over.order_by("k"))[:2] == ["big", "infinity"]


def test_names_as_a_field(mixed: Any, database: Database) -> None:
    def by_name(operator: str, value: Any) -> list[str]:
        return ids(mixed.where(filter=FieldFilter("__name__", operator, value)))

    assert by_name("==", mixed.document("one")) == ["one"]
    assert by_name("in", [mixed.document("one"), mixed.document("absent")]) == ["one"]
    assert by_name(">=", mixed.document("vector")) == ["vector", "zero"]


def test_cursors(mixed: Any) -> None:
    ordered = mixed.order_by("v")
    assert ids(ordered.start_at({"v": True}).end_at({"v": -5})) == ["true", "nan", "minus-infinity", "minus-five"]
    assert ids(ordered.start_after({"v": True}).end_before({"v": -5})) == ["nan", "minus-infinity"]
    assert ids(ordered.start_at({"v": 0}).limit(2)) == ["minus-zero", "zero"]
    assert ids(ordered.start_after(mixed.document("minus-zero").get()).limit(2)) == ["zero", "one"]
    descending = mixed.order_by("v", direction="DESCENDING")
    assert ids(descending.start_at({"v": 0}).limit(3)) == ["zero", "minus-zero", "minus-five"]
    assert ids(mixed.order_by("__name__").start_after({"__name__": mixed.document("vector")})) == ["zero"]
    # A cursor, unlike a filter, goes on into the other types.
    assert ids(ordered.start_at({"v": "😀"}))[1] == "bytes"


def test_windows(mixed: Any) -> None:
    ordered = mixed.order_by("v")
    assert ids(ordered.offset(1).limit(2)) == ["false", "true"]
    assert ids(ordered.offset(100)) == []
    assert ids(ordered.limit(0)) == []
    assert [snapshot.id for snapshot in ordered.limit_to_last(2).get()] == ["map-empty", "map"]
    with pytest.raises(exceptions.InvalidArgument):
        ids(ordered.limit(-1))


def test_select(mixed: Any) -> None:
    query = mixed.where(filter=FieldFilter("v", "==", {"a": 1}))
    full, empty = query.select(["v.a", "absent"]).get()[0], query.select([]).get()[0]
    assert full.to_dict() == {"v": {"a": 1}}
    assert empty.to_dict() == {}
    assert empty.update_time is not None


def test_two_orders_with_directions(database: Database) -> None:
    collection = database.collection("grid")
    for x in range(3):
        for y in range(3):
            collection.document(f"{x}{y}").set({"x": x, "y": y})
    query = collection.order_by("x", direction="DESCENDING").order_by("y")
    assert ids(query) == ["20", "21", "22", "10", "11", "12", "00", "01", "02"]
    assert ids(query.start_after({"x": 2, "y": 1}).end_at({"x": 1})) == ["22", "10", "11", "12"]


def test_subcollections_and_groups(database: Database) -> None:
    for path in ("a/1/items/x", "a/2/items/y", "b/1/items/z", "items/top", "a/1/other/o"):
        database.document(path).set({"p": path})
    assert ids(database.collection("a/1/items")) == ["x"]
    assert ids(database.collection_group("items")) == ["x", "y", "z", "top"]
    assert ids(database.collection_group("items").where(filter=FieldFilter("p", ">", "b"))) == ["z", "top"]
    database.document("b/1/items/z").delete()
    assert ids(database.collection_group("items")) == ["x", "y", "top"]


def test_listing_collections_and_missing_parents(database: Database) -> None:
    database.document("top/missing/sub/deep/deeper/leaf").set({})
    database.document("top/present").set({"a": 1})
    assert [collection.id for collection in database.collections()] == ["top"]
    assert [collection.id for collection in database.document("top/missing").collections()] == ["sub"]
    assert [collection.id for collection in database.document("top/missing/sub/deep").collections()] == ["deeper"]
    listed = list(database.collection("top").list_documents(page_size=1))
    assert [reference.id for reference in listed] == ["missing", "present"]
    assert ids(database.collection("top")) == ["present"]
    database.document("top/missing/sub/deep/deeper/leaf").delete()
    assert [reference.id for reference in database.collection("top").list_documents()] == ["present"]
    assert list(database.document("top/missing").collections()) == []


def test_listing_in_pages(database: Database) -> None:
    collection = database.collection("many")
    batch = database.batch()
    for number in range(70):
        batch.set(collection.document(f"{number:03}"), {"n": -number})
    batch.commit()
    assert [reference.id for reference in collection.list_documents(page_size=30)] == [f"{n:03}" for n in range(70)]


def test_recursive_delete(database: Database) -> None:
    for path in ("tree/0/leaves/a", "tree/0", "tree/1/leaves/a/deep/b", "tree/own", "tree2/other", "a/b"):
        database.document(path).set({})
    assert database.recursive_delete(database.collection("tree")) == 4
    assert [collection.id for collection in database.collections()] == ["a", "tree2"]


def aggregate(query: Any) -> dict[str, Any]:
    return {result.alias: result.value for result in query.get()[0]}


def test_aggregations(database: Database) -> None:
    collection = database.collection("numbers")
    for name, value in {"a": 1, "b": 2, "c": 4.5, "d": "text", "e": None}.items():
        collection.document(name).set({"v": value})
    collection.document("without").set({})
    assert aggregate(collection.count("n")) == {"n": 6}
    assert aggregate(collection.limit(2).count("n")) == {"n": 2}
    # Only documents with the fields that are added up are counted.
    assert aggregate(collection.count("n").sum("v", "s").avg("v", "m")) == {"n": 5, "s": 7.5, "m": 2.5}
    integers = collection.where(filter=FieldFilter("v", "<", 3))
    assert repr(aggregate(integers.sum("v", "s"))) == "{'s': 3}"
    # The average of nothing is null, which the client library shows as zero.
    nothing = database.collection("nothing")
    assert aggregate(nothing.count("n").sum("v", "s").avg("v", "m")) == {"n": 0, "s": 0, "m": 0}


def test_a_sum_of_integers_that_overflows_is_a_double(database: Database) -> None:
    for name in "abc":
        database.document(f"large/{name}").set({"v": 2**62})
    assert aggregate(database.collection("large").sum("v", "s")) == {"s": 3 * 2.0**62}


def test_paths_that_are_no_fields(mixed: Any, database: Database) -> None:
    from google.cloud.firestore_v1 import types

    query = mixed.order_by("v")._to_protobuf()
    query.order_by[0].field.field_path = "a..b"
    request = types.RunQueryRequest(parent=database._database_string + "/documents", structured_query=query)
    with pytest.raises(exceptions.InvalidArgument):
        list(database._firestore_api.run_query(request=request, metadata=database._rpc_metadata))
