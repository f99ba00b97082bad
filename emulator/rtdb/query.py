"""Queries: order, range and limit over the children of one location.

Source: "Retrieving data" and "Query parameters" of the REST API. A query on a scalar selects nothing.
"""

import heapq
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from emulator.contracts import Json, RtdbPath
from emulator.rtdb.errors import InvalidRequest
from emulator.rtdb.ordering import OBJECT_ORDER, KeyOrder, ValueOrder, key_order, value_order
from emulator.rtdb.tree import Branch, Leaf, Node, Scalar, branch_of, get
from emulator.rtdb.values import parse_path

OrderKind = Literal["key", "value", "priority", "child"]
_RANGES = ("startAt", "startAfter", "endAt", "endBefore", "equalTo")
_LIMITS = ("limitToFirst", "limitToLast")
PARAMETERS = ("orderBy", *_RANGES, *_LIMITS)

_Entry = tuple[ValueOrder, KeyOrder, str]


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of a range: a value of the index and, to break ties, a key."""

    value: Scalar | None
    inclusive: bool = True
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """`child` is the path that is ordered by if `kind` is "child". `equal` is kept for rules that ask for it."""

    kind: OrderKind
    child: RtdbPath = ()
    start: Bound | None = None
    end: Bound | None = None
    equal: bool = False
    limit: int | None = None
    from_end: bool = False

    @property
    def index(self) -> str | None:
        """What `.indexOn` must name for this query; None if no index is needed."""
        if self.kind == "child":
            return "/".join(self.child)
        return ".value" if self.kind == "value" else None

    def select(self, node: Node | None) -> list[str]:
        """The keys that the query selects, in its order. Time is linear in the number of children."""
        if not isinstance(node, Branch):
            return []
        low = None if self.start is None else self._bound(self.start)
        high = None if self.end is None else self._bound(self.end)
        entries: list[_Entry] = []
        for key, child in node.children.items():
            entry = (self._order(key, child), key_order(key), key)
            if low is not None and self.start is not None and not _within(entry, low, self.start.inclusive, 1):
                continue
            if high is not None and self.end is not None and not _within(entry, high, self.end.inclusive, -1):
                continue
            entries.append(entry)
        if self.limit is None or self.limit >= len(entries):
            selected = sorted(entries)
        elif self.from_end:
            selected = heapq.nlargest(self.limit, entries)[::-1]
        else:
            selected = heapq.nsmallest(self.limit, entries)
        return [key for _, _, key in selected]

    def apply(self, node: Node | None) -> Branch | None:
        """The node with the selected children only."""
        keys = self.select(node)
        if not isinstance(node, Branch) or len(keys) == len(node.children):
            return node if isinstance(node, Branch) else None
        return branch_of({key: node.children[key] for key in keys}, node.priority)

    def _order(self, key: str, child: Node) -> ValueOrder:
        if self.kind == "key":
            return (0, 0, "")  # the key, which comes next, decides
        if self.kind == "priority":
            return value_order(child.priority)
        indexed = get(child, self.child)
        if isinstance(indexed, Branch):
            return OBJECT_ORDER
        return value_order(indexed.value if isinstance(indexed, Leaf) else None)

    def _bound(self, bound: Bound) -> tuple[ValueOrder, KeyOrder | None]:
        if self.kind == "key":
            assert isinstance(bound.value, str)
            return (0, 0, ""), key_order(bound.value)
        return value_order(bound.value), None if bound.key is None else key_order(bound.key)


def _within(entry: _Entry, bound: tuple[ValueOrder, KeyOrder | None], inclusive: bool, direction: int) -> bool:
    """Whether an entry is on the right side of a bound: above it for direction 1, below it for -1.

    A bound without a key stands for all entries of its value.
    """
    value, key = bound
    mine: tuple[object, ...] = (entry[0],) if key is None else (entry[0], entry[1])
    other: tuple[object, ...] = (value,) if key is None else (value, key)
    if mine == other:
        return inclusive
    return (mine > other) == (direction > 0)


def parse_query(parameters: Mapping[str, str]) -> Query | None:
    """The query of a REST call, None if its parameters ask for none. Raises InvalidRequest."""
    given = [name for name in PARAMETERS if name in parameters]
    if not given:
        return None
    if "orderBy" not in parameters:
        raise InvalidRequest("orderBy must be defined when other query parameters are defined")
    kind, child = _order_by(parameters["orderBy"])
    values = {name: _constraint(name, parameters[name], kind) for name in _RANGES if name in parameters}
    if "equalTo" in values and len(values) > 1:
        raise InvalidRequest("equalTo cannot be specified in addition to startAfter, startAt, endAt, or endBefore")
    if "startAt" in values and "startAfter" in values:
        raise InvalidRequest("startAt and startAfter cannot both be specified")
    if "endAt" in values and "endBefore" in values:
        raise InvalidRequest("endAt and endBefore cannot both be specified")
    if "limitToFirst" in parameters and "limitToLast" in parameters:
        raise InvalidRequest("limitToFirst and limitToLast cannot both be specified")
    limits = [(_limit(name, parameters[name]), name == "limitToLast") for name in _LIMITS if name in parameters]
    limit, from_end = limits[0] if limits else (None, False)
    if "equalTo" in values:
        bound = Bound(values["equalTo"])
        return Query(kind, child, bound, bound, equal=True, limit=limit, from_end=from_end)
    start = _first_bound(values, "startAt", "startAfter")
    end = _first_bound(values, "endAt", "endBefore")
    return Query(kind, child, start, end, limit=limit, from_end=from_end)


def _order_by(text: str) -> tuple[OrderKind, RtdbPath]:
    order_by = _json(text, "orderBy must be a valid JSON encoded path")
    if not isinstance(order_by, str) or not order_by.strip("/"):
        raise InvalidRequest("orderBy must be a valid JSON encoded path")
    if order_by == "$key":
        return "key", ()
    if order_by == "$value":
        return "value", ()
    if order_by == "$priority":
        return "priority", ()
    return "child", parse_path(order_by)


def _constraint(name: str, text: str, kind: OrderKind) -> Scalar | None:
    value = _json(text, "Constraint index field must be a JSON primitive")
    if isinstance(value, (dict, list)):
        raise InvalidRequest("Constraint index field must be a JSON primitive")
    if kind == "key" and not isinstance(value, str):
        raise InvalidRequest(f"{name} must be a string when ordering by $key")
    checked: Scalar | None = value
    return checked


def _limit(name: str, text: str) -> int:
    value = _json(text, f"{name} must be a positive integer")
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidRequest(f"{name} must be a positive integer")
    return value


def _first_bound(values: Mapping[str, Scalar | None], inclusive: str, exclusive: str) -> Bound | None:
    if inclusive in values:
        return Bound(values[inclusive])
    return Bound(values[exclusive], inclusive=False) if exclusive in values else None


def _json(text: str, message: str) -> Json:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(message) from error
