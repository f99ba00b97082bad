"""Structured queries: filtered, ordered, cut by cursors, offset and limit, projected; and aggregations over them.

A query is compiled once and may then run over any View. Candidates come from the collection in the order of their names
and are looked at one by one; an index would be another source of candidates in `Query.matching`.
Source: google/firestore/v1/query.proto, and the official emulator where that is silent.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from emulator.firestore.documents import StoredDocument
from emulator.firestore.errors import InvalidArgument, Unimplemented
from emulator.firestore.filters import Predicate, compile_filter, inequality_paths, is_empty
from emulator.firestore.names import (
    NAME_PATH,
    FieldPath,
    check_collection_id,
    check_same_root,
    field_path,
    format_path,
    parent_root,
)
from emulator.firestore.protocol import StructuredQuery
from emulator.firestore.store import Selection, View
from emulator.firestore.values import INT64_MAX, INT64_MIN, RANK_NUMBER, Key, sort_key

_DESCENDING = StructuredQuery.DESCENDING


@dataclass(frozen=True, slots=True)
class Order:
    path: FieldPath
    descending: bool


@dataclass(frozen=True, slots=True)
class Bound:
    """A cursor: keys for the first orders. `before` puts the position in front of the documents that equal it."""

    keys: tuple[Key, ...]
    before: bool


@dataclass(frozen=True, slots=True)
class Query:
    """A compiled query. `orders` always ends with the name, so that the order is total."""

    selection: Selection
    predicate: Predicate | None
    orders: tuple[Order, ...]
    start: Bound | None
    end: Bound | None
    offset: int
    limit: int | None
    projection: list[FieldPath] | None

    def run(self, view: View) -> list[StoredDocument]:
        """The documents of the result, in order."""
        return list(self._window(self._ordered(view)))

    def run_requiring(self, view: View, paths: list[FieldPath]) -> list[StoredDocument]:
        """As run, over the documents that have all these fields."""
        documents = (
            document for document in self._ordered(view) if all(document.key(path) is not None for path in paths)
        )
        return list(self._window(documents))

    def matches(self, document: StoredDocument) -> bool:
        """True if the document satisfies selection, filter and orders, whatever cursors and limits say."""
        return (
            self.selection.matches(document.name.collection)
            and (self.predicate is None or self.predicate(document))
            and all(document.key(order.path) is not None for order in self.orders)
        )

    def matching(self, view: View) -> Iterator[StoredDocument]:
        """The documents that satisfy the filter and have every field of the orders, by ascending name."""
        documents = view.select(self.selection)
        if self.predicate is not None:
            documents = filter(self.predicate, documents)
        for path in {order.path for order in self.orders if order.path != NAME_PATH}:
            documents = filter(_has(path), documents)
        return documents

    def _ordered(self, view: View) -> Iterator[StoredDocument]:
        found = self.matching(view)
        # Only what comes before the name decides anything.
        leading = []
        for order in self.orders:
            leading.append(order)
            if order.path == NAME_PATH:
                break
        if leading != [Order(NAME_PATH, False)]:
            documents = list(found)
            if leading[-1].descending:
                documents.reverse()
            for order in reversed(leading[:-1]):
                documents.sort(key=_key_at(order.path), reverse=order.descending)
            found = iter(documents)
        return self._between(found)

    def _between(self, found: Iterator[StoredDocument]) -> Iterator[StoredDocument]:
        for document in found:
            if self.start is not None:
                side = self._side(document, self.start)
                if side < 0 or (side == 0 and not self.start.before):
                    continue
            if self.end is not None:
                side = self._side(document, self.end)
                if side > 0 or (side == 0 and self.end.before):
                    return
            yield document

    def _side(self, document: StoredDocument, bound: Bound) -> int:
        """-1, 0 or 1: the document is before, at or after the bound in the order of the query."""
        for order, wanted in zip(self.orders, bound.keys, strict=False):
            key: Any = document.key(order.path)
            if key != wanted:
                return -1 if (key < wanted) != order.descending else 1
        return 0

    def _window(self, documents: Iterator[StoredDocument]) -> Iterator[StoredDocument]:
        stop = None if self.limit is None else self.offset + self.limit
        return islice(documents, self.offset, stop)


def _has(path: FieldPath) -> Callable[[StoredDocument], bool]:
    return lambda document: document.key(path) is not None


def _key_at(path: FieldPath) -> Callable[[StoredDocument], Any]:
    return lambda document: document.key(path)


def compile_query(parent: str, query: Any) -> Query:
    """Compiles a StructuredQuery below a parent. Raises InvalidArgument, Unimplemented for vector searches."""
    root = parent_root(parent)
    if query.HasField("find_nearest"):
        raise Unimplemented("find_nearest is not supported.")
    if query.offset < 0:
        raise InvalidArgument("offset is negative")
    if query.HasField("limit") and query.limit.value < 0:
        raise InvalidArgument("limit is negative")
    explicit = _explicit_orders(query)
    projection = None
    if query.HasField("select"):
        paths = [field_path(field.field_path) for field in query.select.fields]
        projection = [path for path in paths if path != NAME_PATH]
    return Query(
        selection=_selection(parent, query),
        predicate=None if is_empty(query.where) else compile_filter(query.where, root),
        orders=_all_orders(query, explicit),
        start=_bound(query.start_at, explicit, parent) if query.HasField("start_at") else None,
        end=_bound(query.end_at, explicit, parent) if query.HasField("end_at") else None,
        offset=query.offset,
        limit=query.limit.value if query.HasField("limit") else None,
        projection=projection,
    )


def _selection(parent: str, query: Any) -> Selection:
    # `from` is a keyword of Python.
    selectors = getattr(query, "from")
    if len(selectors) > 1:
        raise InvalidArgument("StructuredQuery.from cannot have more than one collection selector.")
    if not selectors:
        return Selection(parent, "", all_descendants=True)
    selector = selectors[0]
    if selector.collection_id:
        check_collection_id(selector.collection_id)
    return Selection(parent, selector.collection_id, all_descendants=selector.all_descendants)


def _explicit_orders(query: Any) -> list[Order]:
    orders: list[Order] = []
    for order in query.order_by:
        path = field_path(order.field.field_path)
        if any(known.path == path for known in orders):
            raise InvalidArgument(f"order by clause cannot contain duplicate fields {format_path(path)}")
        orders.append(Order(path, order.direction == _DESCENDING))
    return orders


def _all_orders(query: Any, explicit: list[Order]) -> tuple[Order, ...]:
    """The orders of the query, the fields of its inequalities in the order of their names, and the document's name.

    What was not asked for goes in the direction of what was asked for last.
    """
    descending = explicit[-1].descending if explicit else False
    known = {order.path for order in explicit}
    implicit = sorted(set(inequality_paths(query.where)) - known)
    orders = [*explicit, *(Order(path, descending) for path in implicit if path != NAME_PATH)]
    if NAME_PATH not in known:
        orders.append(Order(NAME_PATH, descending))
    return tuple(orders)


def _bound(cursor: Any, explicit: list[Order], parent: str) -> Bound | None:
    if len(cursor.values) > len(explicit):
        raise InvalidArgument("Cursor has too many values.")
    if not cursor.values:
        return None
    keys = []
    for order, value in zip(explicit, cursor.values, strict=False):
        if order.path == NAME_PATH:
            if not value.HasField("reference_value"):
                raise InvalidArgument("Cursor __key__ value is not a document reference.")
            check_same_root(value.reference_value, parent_root(parent))
        keys.append(sort_key(value))
    return Bound(tuple(keys), cursor.before)


Aggregator = Callable[[list[StoredDocument], Any], None]


@dataclass(frozen=True, slots=True)
class AggregationQuery:
    """A compiled aggregation: the query, the fields that documents need to count at all, and what is computed."""

    query: Query
    required: list[FieldPath]
    aggregators: list[tuple[str, Aggregator]]

    def documents(self, view: View) -> list[StoredDocument]:
        return self.query.run_requiring(view, self.required)

    def fill(self, documents: list[StoredDocument], fields: Any) -> None:
        """Writes the aggregates over documents into a map of fields."""
        for alias, aggregate in self.aggregators:
            aggregate(documents, fields[alias])


def compile_aggregation(parent: str, aggregation_query: Any) -> AggregationQuery:
    """Compiles a StructuredAggregationQuery. Raises InvalidArgument."""
    if not aggregation_query.aggregations:
        raise InvalidArgument("Aggregations can not be empty.")
    aggregators: list[tuple[str, Aggregator]] = []
    required: list[FieldPath] = []
    unnamed = 0
    for aggregation in aggregation_query.aggregations:
        alias = aggregation.alias
        if not alias:
            unnamed += 1
            alias = f"field_{unnamed}"
        if any(known == alias for known, _ in aggregators):
            raise InvalidArgument(f"Aggregation alias {alias} is used more than once.")
        path, aggregate = _aggregator(aggregation)
        if path is not None:
            required.append(path)
        aggregators.append((alias, aggregate))
    return AggregationQuery(compile_query(parent, aggregation_query.structured_query), required, aggregators)


def _aggregator(aggregation: Any) -> tuple[FieldPath | None, Aggregator]:
    match aggregation.WhichOneof("operator"):
        case "count":
            up_to = aggregation.count.up_to.value if aggregation.count.HasField("up_to") else INT64_MAX
            if up_to < 0:
                raise InvalidArgument("up_to is negative")

            def count(documents: list[StoredDocument], result: Any) -> None:
                result.integer_value = min(len(documents), up_to)

            return None, count
        case "sum":
            path = field_path(aggregation.sum.field.field_path)
            return path, lambda documents, result: _sum(_numbers(documents, path), result)
        case "avg":
            path = field_path(aggregation.avg.field.field_path)
            return path, lambda documents, result: _average(_numbers(documents, path), result)
        case _:
            raise InvalidArgument("Aggregation operator is not set.")


def _numbers(documents: list[StoredDocument], path: FieldPath) -> list[int | float]:
    numbers: list[int | float] = []
    for document in documents:
        key = document.key(path)
        if key is not None and key[0] == RANK_NUMBER:
            numbers.append(key[2] if len(key) == 3 else float("nan"))
    return numbers


def _sum(numbers: list[int | float], result: Any) -> None:
    """Integers add up to an integer unless that overflows 64 bits; any double makes the sum a double."""
    total = sum(numbers)
    if isinstance(total, int) and INT64_MIN <= total <= INT64_MAX:
        result.integer_value = total
    else:
        result.double_value = float(total)


def _average(numbers: list[int | float], result: Any) -> None:
    if numbers:
        result.double_value = float(sum(numbers)) / len(numbers)
    else:
        result.null_value = 0
