"""The `where` of a query, compiled to a function of a document.

Comparisons stay within the type of their operand; null and NaN are found by the unary filters alone; != and not-in find
neither null nor missing fields.
Source: google/firestore/v1/query.proto, and the official emulator where that is silent.
"""

import operator
from collections.abc import Callable, Iterator
from typing import Any

from emulator.firestore.documents import StoredDocument
from emulator.firestore.errors import InvalidArgument
from emulator.firestore.names import NAME_PATH, FieldPath, check_same_root, field_path
from emulator.firestore.protocol import StructuredQuery
from emulator.firestore.values import NAN_KEY, NULL_KEY, RANK_ARRAY, Key, sort_key

Predicate = Callable[[StoredDocument], bool]

_CompositeOperator = StructuredQuery.CompositeFilter
_FieldOperator = StructuredQuery.FieldFilter
_UnaryOperator = StructuredQuery.UnaryFilter

IN_VALUES_MAX = 30
NOT_IN_VALUES_MAX = 10
FILTERS_MAX = 100

_RANGES: dict[int, Callable[[Key, Key], bool]] = {
    _FieldOperator.LESS_THAN: operator.lt,
    _FieldOperator.LESS_THAN_OR_EQUAL: operator.le,
    _FieldOperator.GREATER_THAN: operator.gt,
    _FieldOperator.GREATER_THAN_OR_EQUAL: operator.ge,
}
_LISTS = {
    _FieldOperator.IN: ("IN", IN_VALUES_MAX),
    _FieldOperator.ARRAY_CONTAINS_ANY: ("ARRAY_CONTAINS_ANY", IN_VALUES_MAX),
    _FieldOperator.NOT_IN: ("NOT_IN", NOT_IN_VALUES_MAX),
}
_INEQUALITIES = {*_RANGES, _FieldOperator.NOT_EQUAL, _FieldOperator.NOT_IN}
_UNARY_INEQUALITIES = {_UnaryOperator.IS_NOT_NAN, _UnaryOperator.IS_NOT_NULL}


def is_empty(query_filter: Any) -> bool:
    """True for a filter that was not set, or a composite of nothing."""
    kind = query_filter.WhichOneof("filter_type")
    return kind is None or (kind == "composite_filter" and not query_filter.composite_filter.filters)


def inequality_paths(query_filter: Any) -> Iterator[FieldPath]:
    """The fields that are compared by anything but equality; a query is ordered by them without being told."""
    match query_filter.WhichOneof("filter_type"):
        case "composite_filter":
            for part in query_filter.composite_filter.filters:
                yield from inequality_paths(part)
        case "field_filter" if query_filter.field_filter.op in _INEQUALITIES:
            yield field_path(query_filter.field_filter.field.field_path)
        case "unary_filter" if query_filter.unary_filter.op in _UNARY_INEQUALITIES:
            yield field_path(query_filter.unary_filter.field.field_path)
        case _:
            pass


def compile_filter(query_filter: Any, root: str) -> Predicate:
    """The predicate of a filter over documents below a root. Raises InvalidArgument."""
    match query_filter.WhichOneof("filter_type"):
        case "composite_filter":
            return _compile_composite(query_filter.composite_filter, root)
        case "field_filter":
            return _compile_field(query_filter.field_filter, root)
        case "unary_filter":
            return _compile_unary(query_filter.unary_filter)
        case _:
            raise InvalidArgument("A filter is empty.")


def _compile_composite(composite: Any, root: str) -> Predicate:
    if composite.op not in (_CompositeOperator.AND, _CompositeOperator.OR):
        raise InvalidArgument("Unsupported CompositeFilter operator.")
    if len(composite.filters) > FILTERS_MAX:
        raise InvalidArgument(f"A composite filter supports up to {FILTERS_MAX} filters.")
    parts = tuple(compile_filter(part, root) for part in composite.filters)
    if len(parts) == 1:
        return parts[0]
    if composite.op == _CompositeOperator.AND:
        return lambda document: all(part(document) for part in parts)
    return lambda document: any(part(document) for part in parts)


def _compile_unary(unary: Any) -> Predicate:
    path = field_path(unary.field.field_path)
    match unary.op:
        case _UnaryOperator.IS_NULL:
            return lambda document: document.key(path) == NULL_KEY
        case _UnaryOperator.IS_NAN:
            return lambda document: document.key(path) == NAN_KEY
        case _UnaryOperator.IS_NOT_NULL:
            return lambda document: document.key(path) not in (None, NULL_KEY)
        case _UnaryOperator.IS_NOT_NAN:
            return lambda document: document.key(path) not in (None, NULL_KEY, NAN_KEY)
        case _:
            raise InvalidArgument("Unknown UnaryFilter operator.")


def _compile_field(field: Any, root: str) -> Predicate:
    path = field_path(field.field.field_path)
    if field.op in _LISTS:
        return _compile_list(field, path, root)
    if path == NAME_PATH:
        check_name_operand(field.value, root)
    operand = sort_key(field.value)
    if field.op in _RANGES:
        return _compile_range(path, _RANGES[field.op], operand)
    match field.op:
        case _FieldOperator.EQUAL:
            if operand in (NULL_KEY, NAN_KEY):
                return _nothing
            return lambda document: document.key(path) == operand
        case _FieldOperator.NOT_EQUAL:
            if operand == NULL_KEY:
                return _nothing
            # Nothing equals NaN, so that all values differ from it, NaN itself too.
            unwanted = (None, NULL_KEY) if operand == NAN_KEY else (None, NULL_KEY, operand)
            return lambda document: document.key(path) not in unwanted
        case _FieldOperator.ARRAY_CONTAINS:
            return _compile_contains(path, {operand})
        case _:
            raise InvalidArgument("Unknown FieldFilter operator.")


def _nothing(_: StoredDocument) -> bool:
    return False


def check_name_operand(value: Any, root: str) -> None:
    """Raises InvalidArgument unless the value is a reference to a document of the same database."""
    if not value.HasField("reference_value"):
        raise InvalidArgument("__key__ filter value must be a Key")
    check_same_root(value.reference_value, root)


def _compile_range(path: FieldPath, compare: Callable[[Key, Key], bool], operand: Key) -> Predicate:
    if operand in (NULL_KEY, NAN_KEY):
        return _nothing
    rank = operand[0]

    def in_range(document: StoredDocument) -> bool:
        key = document.key(path)
        return key is not None and key[0] == rank and key != NAN_KEY and compare(key, operand)

    return in_range


def _compile_list(field: Any, path: FieldPath, root: str) -> Predicate:
    label, count_max = _LISTS[field.op]
    if not field.value.HasField("array_value"):
        raise InvalidArgument(f"'{label}' requires an ArrayValue.")
    values = field.value.array_value.values
    if not values:
        raise InvalidArgument(f"'{label}' requires an non-empty ArrayValue.")
    if len(values) > count_max:
        raise InvalidArgument(f"'{label}' supports up to {count_max} comparison values.")
    if path == NAME_PATH:
        for value in values:
            check_name_operand(value, root)
    operands = {sort_key(value) for value in values}
    if field.op == _FieldOperator.NOT_IN:
        if NULL_KEY in operands:
            return _nothing
        unwanted = (operands - {NAN_KEY}) | {None, NULL_KEY}
        return lambda document: document.key(path) not in unwanted
    comparable = operands - {NULL_KEY, NAN_KEY}
    if field.op == _FieldOperator.IN:
        return lambda document: document.key(path) in comparable
    return _compile_contains(path, comparable)


def _compile_contains(path: FieldPath, operands: set[Key]) -> Predicate:
    wanted = {key for key in operands if key not in (NULL_KEY, NAN_KEY)}

    def contains(document: StoredDocument) -> bool:
        key = document.key(path)
        return key is not None and key[0] == RANK_ARRAY and not wanted.isdisjoint(key[1])

    return contains
