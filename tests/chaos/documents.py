"""Stored documents as plain values, read past the code under test: `{path below the database: fields}`."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

Documents = Mapping[str, Mapping[str, Any]]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def from_messages(messages: Mapping[str, Any], root: str) -> dict[str, dict[str, Any]]:
    """All documents below `root` (`projects/.../documents`) of protobuf messages by full name."""
    prefix = f"{root}/"
    return {name[len(prefix) :]: fields(message) for name, message in messages.items() if name.startswith(prefix)}


def fields(message: Any) -> dict[str, Any]:
    """The fields of one google.firestore.v1.Document."""
    return {name: _value(value) for name, value in message.fields.items()}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value_type")
    if kind == "null_value":
        return None
    if kind == "timestamp_value":
        stamp = value.timestamp_value
        return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)
    if kind == "map_value":
        return {name: _value(part) for name, part in value.map_value.fields.items()}
    if kind == "array_value":
        return [_value(part) for part in value.array_value.values]
    return getattr(value, kind)


def from_client(client: Any, uids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The ledger's documents of some accounts through a client, for a Firestore in another process."""
    found: dict[str, dict[str, Any]] = {}
    for uid in uids:
        account = client.collection("accounts").document(uid)
        head = account.get()
        if head.exists:
            found[account.path] = head.to_dict()
        for name in ("entries", "ops", "holds"):
            for snapshot in account.collection(name).stream():
                found[snapshot.reference.path] = snapshot.to_dict()
    return found
