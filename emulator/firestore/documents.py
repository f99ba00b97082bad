"""One stored document, and the fields within its message."""

from typing import Any

from emulator.firestore.names import NAME_PATH, DocumentName, FieldPath
from emulator.firestore.protocol import Document
from emulator.firestore.values import Key, reference_key, sort_key

_UNKNOWN = object()


class StoredDocument:
    """A version of a document. It never changes: a write makes another one. Times are microseconds since the epoch."""

    __slots__ = ("_keys", "create_us", "message", "name", "update_us")

    def __init__(self, name: DocumentName, message: Any, create_us: int, update_us: int) -> None:
        self.name = name
        self.message = message
        self.create_us = create_us
        self.update_us = update_us
        self._keys: dict[FieldPath, Key | None] = {}

    @property
    def segments(self) -> tuple[str, ...]:
        return self.name.segments

    def key(self, path: FieldPath) -> Key | None:
        """The sort key of the value at a path, None if there is none; remembered, for queries ask again and again."""
        key: Any = self._keys.get(path, _UNKNOWN)
        if key is _UNKNOWN:
            if path == NAME_PATH:
                key = reference_key(self.name.name)
            else:
                value = get_value(self.message.fields, path)
                key = None if value is None else sort_key(value)
            self._keys[path] = key
        return key  # type: ignore[no-any-return]

    def value(self, path: FieldPath) -> Any | None:
        """The Value message at a path, or None."""
        return get_value(self.message.fields, path)

    def masked(self, paths: list[FieldPath] | None) -> Any:
        """The Document message with only the fields at these paths, or the whole one for None. Not to be changed."""
        if paths is None:
            return self.message
        result = Document(name=self.message.name)
        result.create_time.CopyFrom(self.message.create_time)
        result.update_time.CopyFrom(self.message.update_time)
        for path in paths:
            value = self.value(path)
            if value is not None:
                set_value(result.fields, path, value)
        return result


def set_timestamp(timestamp: Any, at_us: int) -> None:
    """Writes microseconds since the epoch into a Timestamp message."""
    seconds, micros = divmod(at_us, 1_000_000)
    timestamp.seconds = seconds
    timestamp.nanos = micros * 1000


def timestamp_us(timestamp: Any) -> int:
    """Microseconds since the epoch of a Timestamp message."""
    return int(timestamp.seconds) * 1_000_000 + int(timestamp.nanos) // 1000


def get_value(fields: Any, path: FieldPath) -> Any | None:
    """The Value message at a path below a map of fields, or None. Does not create anything on the way."""
    value = None
    for segment in path:
        if value is not None:
            if not value.HasField("map_value"):
                return None
            fields = value.map_value.fields
        if segment not in fields:
            return None
        value = fields[segment]
    return value


def make_value(fields: Any, path: FieldPath) -> Any:
    """The Value message at a path, created if missing. Values in the way that are no maps are replaced by maps."""
    for segment in path[:-1]:
        value = fields[segment]
        if not value.HasField("map_value"):
            value.map_value.SetInParent()
        fields = value.map_value.fields
    return fields[path[-1]]


def set_value(fields: Any, path: FieldPath, value: Any) -> None:
    """Puts a copy of a value at a path."""
    make_value(fields, path).CopyFrom(value)


def delete_value(fields: Any, path: FieldPath) -> None:
    """Removes what is at a path; the maps above it stay, even empty."""
    for segment in path[:-1]:
        if segment not in fields or not fields[segment].HasField("map_value"):
            return
        fields = fields[segment].map_value.fields
    if path[-1] in fields:
        del fields[path[-1]]
