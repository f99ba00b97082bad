"""Firestore values: their order, their equality, and what may be stored.

A value's sort key is a tuple whose plain comparison is the order of Firestore: null < false < true < NaN < numbers <
timestamps < strings < bytes < references < geo points < arrays < vectors < maps. Integers and doubles are compared
exactly by mathematical value, and equal ones (1 and 1.0, 0.0 and -0.0) have equal keys. Python compares strings by code
point, which is the order of their UTF-8 bytes.
Source: https://firebase.google.com/docs/firestore/manage-data/data-types ("Value type ordering").
"""

import math
import re
from typing import Any

from emulator.firestore.errors import InvalidArgument
from emulator.firestore.names import NAME_BYTES_MAX, document_name, is_reserved

Key = tuple[Any, ...]

RANK_NULL = 0
RANK_BOOLEAN = 1
RANK_NUMBER = 2
RANK_TIMESTAMP = 3
RANK_STRING = 4
RANK_BYTES = 5
RANK_REFERENCE = 6
RANK_GEO_POINT = 7
RANK_ARRAY = 8
RANK_VECTOR = 9
RANK_MAP = 10

NULL_KEY: Key = (RANK_NULL,)
NAN_KEY: Key = (RANK_NUMBER, 0)

DEPTH_MAX = 20
DOCUMENT_BYTES_MAX = 1_048_576
INDEXED_VALUE_BYTES_MAX = 1_048_487
INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)

_VECTOR = "__vector__"
_NUMERIC_ID = re.compile(r"__id-?\d+__")


def is_vector(fields: Any) -> bool:
    """True if the fields of a map are those of a vector: `{__type__: "__vector__", value: [...]}`."""
    return "__type__" in fields and fields["__type__"].string_value == _VECTOR


def reference_key(name: str) -> Key:
    """The sort key of a document name: by segments. Numeric ids, `__id7__`, come before all others.

    No stored document has a numeric id; client libraries use the least of them as the lower end of a range of names.
    """
    segments = tuple(name.split("/"))
    if "/__id" in name:
        segments = tuple("" if _NUMERIC_ID.fullmatch(segment) else segment for segment in segments)
    return (RANK_REFERENCE, segments)


def sort_key(value: Any) -> Key:
    """The sort key of a Value message. Raises InvalidArgument for one without a type."""
    kind = value.WhichOneof("value_type")
    match kind:
        case "string_value":
            return (RANK_STRING, value.string_value)
        case "integer_value":
            return (RANK_NUMBER, 1, value.integer_value)
        case "boolean_value":
            return (RANK_BOOLEAN, value.boolean_value)
        case "null_value":
            return NULL_KEY
        case "double_value":
            number = value.double_value
            return NAN_KEY if math.isnan(number) else (RANK_NUMBER, 1, number)
        case "timestamp_value":
            timestamp = value.timestamp_value
            return (RANK_TIMESTAMP, timestamp.seconds, timestamp.nanos)
        case "bytes_value":
            return (RANK_BYTES, value.bytes_value)
        case "reference_value":
            return reference_key(value.reference_value)
        case "geo_point_value":
            return (RANK_GEO_POINT, value.geo_point_value.latitude, value.geo_point_value.longitude)
        case "array_value":
            return (RANK_ARRAY, tuple(sort_key(element) for element in value.array_value.values))
        case "map_value":
            fields = value.map_value.fields
            if is_vector(fields):
                elements = tuple(sort_key(element) for element in fields["value"].array_value.values)
                return (RANK_VECTOR, len(elements), elements)
            return (RANK_MAP, tuple((name, sort_key(fields[name])) for name in sorted(fields)))
        case _:
            raise _untyped()


def _untyped() -> InvalidArgument:
    return InvalidArgument("Cannot convert firestore.v1.Value with type unset.")


def is_number(value: Any) -> bool:
    return value.WhichOneof("value_type") in ("integer_value", "double_value")


def number(value: Any) -> int | float:
    """The number of a numeric Value."""
    result: int | float = value.integer_value if value.HasField("integer_value") else value.double_value
    return result


def add_numbers(left: int | float, right: int | float) -> int | float:
    """Adds as the increment transform does: integers stay within 64 bits by saturation, a double makes a double."""
    if isinstance(left, int) and isinstance(right, int):
        return max(INT64_MIN, min(INT64_MAX, left + right))
    return float(left) + float(right)


def set_number(value: Any, result: int | float) -> None:
    if isinstance(result, int):
        value.integer_value = result
    else:
        value.double_value = result


def check_field_name(name: str, *, within_vector: bool = False) -> None:
    """Raises InvalidArgument unless a field may have this name."""
    if not name:
        raise InvalidArgument("The property.name is the empty string.")
    if len(name) > NAME_BYTES_MAX // 4 and len(name.encode()) > NAME_BYTES_MAX:
        raise InvalidArgument(f"The property.name is longer than {NAME_BYTES_MAX} bytes.")
    if is_reserved(name) and not within_vector:
        raise InvalidArgument(f"field name {name} is reserved")


def normalize_fields(fields: Any, depth: int = 0) -> None:
    """Checks the fields of a document or map to be stored, and cuts their timestamps to microseconds.

    Raises InvalidArgument for an untyped value, a bad field name, an array in an array, or a nesting beyond 20 levels.
    """
    vector = depth > 0 and is_vector(fields)
    for name in fields:
        check_field_name(name, within_vector=vector)
        normalize(fields[name], name, depth)


def normalize(value: Any, name: str, depth: int = 0, *, in_array: bool = False) -> None:
    """Checks one value to be stored below `depth` levels of maps and arrays; see normalize_fields."""
    match value.WhichOneof("value_type"):
        case None:
            raise _untyped()
        case "timestamp_value":
            timestamp = value.timestamp_value
            if not 0 <= timestamp.nanos < 1_000_000_000:
                raise InvalidArgument(f"Timestamp nanos {timestamp.nanos} are outside of 0 to 999999999.")
            timestamp.nanos -= timestamp.nanos % 1000
        case "map_value":
            _check_depth(name, depth + 1)
            if in_array and is_vector(value.map_value.fields):
                raise InvalidArgument("Cannot convert a vector value in an array value.")
            normalize_fields(value.map_value.fields, depth + 1)
        case "array_value":
            if in_array:
                raise InvalidArgument("Cannot convert an array value in an array value.")
            _check_depth(name, depth + 1)
            for element in value.array_value.values:
                normalize(element, name, depth + 1, in_array=True)
        case "reference_value":
            document_name(value.reference_value, "Resource")
        case "geo_point_value":
            _check_geo_point(value.geo_point_value)
        case _:
            pass


def _check_depth(name: str, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise InvalidArgument(f"Property {name} contains an invalid nested entity.")


def _check_geo_point(point: Any) -> None:
    for label, degrees, limit in (("latitude", point.latitude, 90.0), ("longitude", point.longitude, 180.0)):
        if not -limit <= degrees <= limit:
            raise InvalidArgument(f"Geo point {label} '{degrees}' outside permitted range {-limit} to {limit}.")


def storage_bytes(value: Any) -> int:
    """The size of a stored value. Source: https://firebase.google.com/docs/firestore/storage-size."""
    match value.WhichOneof("value_type"):
        case "null_value" | "boolean_value":
            return 1
        case "string_value":
            return len(value.string_value.encode()) + 1
        case "bytes_value":
            return len(value.bytes_value)
        case "reference_value":
            return name_bytes(document_name(value.reference_value).segments)
        case "geo_point_value":
            return 16
        case "array_value":
            return sum(storage_bytes(element) for element in value.array_value.values)
        case "map_value":
            return fields_bytes(value.map_value.fields)
        case _:
            return 8


def name_bytes(segments: tuple[str, ...]) -> int:
    return sum(len(segment.encode()) + 1 for segment in segments) + 16


def fields_bytes(fields: Any) -> int:
    return sum(len(name.encode()) + 1 + storage_bytes(fields[name]) for name in fields)


def check_size(name: str, segments: tuple[str, ...], message: Any) -> None:
    """Raises InvalidArgument for a document above 1 MiB of storage, or with a string or bytes too long to be kept."""
    # The encoding of a value takes at least an eighth of its storage size, so that small messages need no closer look.
    if message.ByteSize() < DOCUMENT_BYTES_MAX // 8:
        return
    for field in message.fields:
        value = message.fields[field]
        if max(len(value.string_value.encode()), len(value.bytes_value)) > INDEXED_VALUE_BYTES_MAX:
            raise InvalidArgument(f'The value of property "{field}" is longer than {INDEXED_VALUE_BYTES_MAX} bytes.')
    size = name_bytes(segments) + fields_bytes(message.fields) + 32
    if size > DOCUMENT_BYTES_MAX:
        raise InvalidArgument(
            f"Document '{name}' cannot be written because its size ({size:,} bytes) exceeds the maximum allowed size "
            f"of {DOCUMENT_BYTES_MAX:,} bytes."
        )
