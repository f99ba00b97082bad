"""Queries without their index are refused, as production does and the official emulator does not."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import FailedPrecondition
from google.cloud.firestore import Client, FieldFilter, Query

from emulator.firestore.indexes import Indexes

DECLARED = {
    "indexes": [
        {
            "collectionGroup": "holds",
            "queryScope": "COLLECTION_GROUP",
            "fields": [
                {"fieldPath": "state", "order": "ASCENDING"},
                {"fieldPath": "expiresAt", "order": "ASCENDING"},
            ],
        },
        {
            "collectionGroup": "items",
            "queryScope": "COLLECTION",
            "fields": [
                {"fieldPath": "kind", "order": "ASCENDING"},
                {"fieldPath": "size", "order": "DESCENDING"},
                {"fieldPath": "name", "order": "ASCENDING"},
            ],
        },
        {
            "collectionGroup": "accounts",
            "queryScope": "COLLECTION",
            "fields": [{"fieldPath": "bucket", "order": "ASCENDING"}, {"fieldPath": "at", "order": "ASCENDING"}],
        },
    ],
    "fieldOverrides": [
        {"collectionGroup": "accounts", "fieldPath": "*", "indexes": []},
        {
            "collectionGroup": "turns",
            "fieldPath": "at",
            "indexes": [{"order": "ASCENDING", "queryScope": "COLLECTION_GROUP"}],
        },
    ],
}


@pytest.fixture
def database(start: Callable[..., Any], connect: Callable[..., Any], project: str) -> Iterator[Client]:
    with connect(start(indexes=Indexes(DECLARED)).address, project) as client:
        yield client


def where(query: Any, *filters: tuple[str, str, Any]) -> Any:
    for field, operator, value in filters:
        query = query.where(filter=FieldFilter(field, operator, value))
    return query


SERVED: list[Callable[[Client], Any]] = [
    lambda database: database.collection("items"),
    lambda database: database.collection("items").order_by("__name__"),
    lambda database: database.collection_group("items"),
    lambda database: where(database.collection("items"), ("size", "==", 1)),
    lambda database: where(database.collection("items"), ("size", ">", 1)).order_by("size", direction=Query.DESCENDING),
    lambda database: database.collection("items").order_by("any"),
    lambda database: where(database.collection("items"), ("a", "==", 1), ("b", "==", 2)),
    lambda database: where(database.collection("items"), ("size", "==", 1)).order_by("__name__"),
    lambda database: where(database.collection("items"), ("kind", "==", 1)).order_by(
        "size", direction=Query.DESCENDING
    ),
    lambda database: where(database.collection("items"), ("kind", "==", 1)).order_by("size"),
    lambda database: where(database.collection("items"), ("kind", "==", 1), ("size", "<", 3)),
    lambda database: (
        where(database.collection("items"), ("kind", "==", 1))
        .order_by("size", direction=Query.DESCENDING)
        .order_by("name")
    ),
    lambda database: where(
        database.collection_group("holds"), ("state", "==", "held"), ("expiresAt", "<=", 5)
    ).order_by("expiresAt"),
    lambda database: where(database.collection("accounts"), ("bucket", "==", 1), ("at", ">", 5)).order_by("at"),
    lambda database: where(database.collection("accounts"), ("bucket", "==", 1)).order_by("at"),
    lambda database: where(database.collection_group("turns"), ("at", ">", 5)),
]
REFUSED: list[Callable[[Client], Any]] = [
    lambda database: database.collection("items").order_by("__name__", direction=Query.DESCENDING),
    lambda database: database.collection("items").order_by("a").order_by("b"),
    lambda database: where(database.collection("items"), ("a", "==", 1), ("b", ">", 2)),
    lambda database: where(database.collection("items"), ("size", "==", 1)).order_by("kind"),
    lambda database: where(database.collection("items"), ("kind", "==", 1)).order_by("size").order_by("name"),
    lambda database: where(database.collection_group("items"), ("size", "==", 1)),
    lambda database: where(database.collection("holds"), ("state", "==", "held"), ("expiresAt", "<=", 5)),
    lambda database: where(database.collection("accounts"), ("frozen", "==", True)),
    lambda database: database.collection("accounts").order_by("at"),
    lambda database: where(database.collection("turns"), ("at", ">", 5)),
]


@pytest.mark.parametrize("number", range(len(SERVED)))
def test_what_an_index_serves_is_answered(database: Client, number: int) -> None:
    assert SERVED[number](database).get() == []
    assert SERVED[number](database).count().get()[0][0].value == 0


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_no_index_serves_is_refused(database: Client, number: int) -> None:
    with pytest.raises(FailedPrecondition, match="requires an index"):
        REFUSED[number](database).get()
    with pytest.raises(FailedPrecondition, match="requires an index"):
        REFUSED[number](database).count().get()


def test_without_declarations_everything_is_served(
    start: Callable[..., Any], connect: Callable[..., Any], project: str
) -> None:
    with connect(start().address, project) as database:
        assert [query(database).get() for query in REFUSED] == [[] for _ in REFUSED]


@pytest.mark.parametrize("config", [{"indexes": [{}]}, {"indexes": [5]}, {"fieldOverrides": [{"fieldPath": "a"}]}])
def test_a_malformed_declaration_is_named(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"firestore\.indexes\.json"):
        Indexes(config)


def test_the_declarations_of_the_product_can_be_read() -> None:
    root = Path(__file__).parents[3]
    assert Indexes.load(root / "firestore.indexes.json") is not None
    assert Indexes.load(root / "no-such-file.json") is None
