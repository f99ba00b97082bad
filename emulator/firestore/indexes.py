"""Which indexes a query needs, and whether firestore.indexes.json declares them.

Cloud Firestore refuses a query without its index; the official emulator serves it, so that the mistake is found in
production. Here it is refused as there:

- Every field has ascending and descending indexes of its own within a collection, unless an override takes them away.
  They serve what concerns one field, and several equalities together.
- Anything else needs a composite index: the fields of the equalities in any order, then those of the orders (what is
  compared by more than equality among them) in their directions, or all in the opposite ones.
- Across all collections of an id, only indexes that are declared for collection groups exist.

Sources: https://firebase.google.com/docs/firestore/query-data/index-overview and
https://firebase.google.com/docs/reference/firestore/indexes. Not modelled: composite indexes that are merged.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.firestore.errors import FailedPrecondition
from emulator.firestore.names import NAME_PATH, FieldPath, field_path, format_path
from emulator.firestore.protocol import StructuredQuery
from emulator.firestore.query import Order, Query

_EQUALITIES = {
    StructuredQuery.FieldFilter.EQUAL,
    StructuredQuery.FieldFilter.IN,
    StructuredQuery.FieldFilter.ARRAY_CONTAINS,
    StructuredQuery.FieldFilter.ARRAY_CONTAINS_ANY,
}
_ANY_FIELD = "*"
_GROUP = "COLLECTION_GROUP"
_COLLECTION = "COLLECTION"


@dataclass(frozen=True, slots=True)
class _Composite:
    """One declared index over several fields; True for a descending one."""

    scope: str
    fields: tuple[tuple[FieldPath, bool], ...]


class Indexes:
    """The indexes of one database, as deployed from a firestore.indexes.json."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Raises ValueError for what is no such file."""
        self._composites: dict[str, list[_Composite]] = {}
        # (collection id, field) -> scopes in which the field is indexed on its own.
        self._overrides: dict[tuple[str, str], set[str]] = {}
        try:
            for index in config.get("indexes", []):
                fields = tuple(
                    (field_path(field["fieldPath"]), field.get("order") == "DESCENDING") for field in index["fields"]
                )
                composite = _Composite(index.get("queryScope", _COLLECTION), fields)
                self._composites.setdefault(index["collectionGroup"], []).append(composite)
            for override in config.get("fieldOverrides", []):
                scopes = {index.get("queryScope", _COLLECTION) for index in override.get("indexes", [])}
                self._overrides[override["collectionGroup"], override["fieldPath"]] = scopes
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"firestore.indexes.json: {error!r}") from error

    @classmethod
    def load(cls, file: Path) -> "Indexes | None":
        """None without such a file: then every query is served. Raises ValueError."""
        return cls(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None

    def check(self, query: Query, message: Any) -> None:
        """Raises FailedPrecondition if production would: `message` is the StructuredQuery that `query` was made of."""
        equal = set(_equality_paths(message.where)) - {NAME_PATH}
        orders = [order for order in query.orders if order.path not in equal]
        wanted = _needed(orders)
        scope = _GROUP if query.selection.all_descendants else _COLLECTION
        collection = query.selection.collection_id
        if not equal and not wanted:
            return
        by_itself = {*equal, *(order.path for order in wanted)}
        merges = not wanted or (len(by_itself) == 1 and NAME_PATH not in by_itself)
        if merges and all(self._has_single(collection, path, scope) for path in by_itself):
            return
        if any(
            composite.scope == scope and _serves(composite, equal, wanted)
            for composite in self._composites.get(collection, ())
        ):
            return
        fields = [*sorted(format_path(path) for path in equal), *map(_shown, wanted)]
        raise FailedPrecondition(
            f"The query requires an index: collection {collection!r}, scope {scope}, fields {', '.join(fields)}."
        )

    def _has_single(self, collection: str, path: FieldPath, scope: str) -> bool:
        for field in (format_path(path), _ANY_FIELD):
            scopes = self._overrides.get((collection, field))
            if scopes is not None:
                return scope in scopes
        return scope == _COLLECTION


def _needed(orders: list[Order]) -> list[Order]:
    """The orders that an index must hold. The name ends every index, in the direction of the field before it; by name
    alone, a collection can only be read upwards."""
    if not orders or orders[-1].path != NAME_PATH:
        return orders
    direction = orders[-2].descending if len(orders) > 1 else False
    return orders[:-1] if orders[-1].descending == direction else orders


def _serves(composite: _Composite, equal: set[FieldPath], wanted: list[Order]) -> bool:
    prefix, rest = composite.fields[: len(equal)], composite.fields[len(equal) :]
    if {path for path, _ in prefix} != equal or len(rest) < len(wanted):
        return False
    if [path for path, _ in rest[: len(wanted)]] != [order.path for order in wanted]:
        return False
    turned = {descending != order.descending for (_, descending), order in zip(rest, wanted, strict=False)}
    return len(turned) <= 1


def _equality_paths(query_filter: Any) -> Iterator[FieldPath]:
    match query_filter.WhichOneof("filter_type"):
        case "composite_filter":
            for part in query_filter.composite_filter.filters:
                yield from _equality_paths(part)
        case "field_filter" if query_filter.field_filter.op in _EQUALITIES:
            yield field_path(query_filter.field_filter.field.field_path)
        case "unary_filter" if query_filter.unary_filter.op in (
            StructuredQuery.UnaryFilter.IS_NULL,
            StructuredQuery.UnaryFilter.IS_NAN,
        ):
            yield field_path(query_filter.unary_filter.field.field_path)
        case _:
            pass


def _shown(order: Order) -> str:
    return f"{format_path(order.path)} {'descending' if order.descending else 'ascending'}"
