"""The messages of google.firestore.v1 as raw protobuf classes, compiled from the schema in milliseconds.

The classes live in a descriptor pool of their own: they never meet the registrations of the client library, so both can
be loaded in one process, in any order. A message crosses over to classes of another pool as bytes.
"""

from typing import Any

from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    empty_pb2,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)

from emulator.firestore.schema import SCHEMA

_PACKAGE = "google.firestore.v1"


# Messages of two other packages that are too small for a module of their own.
_PACKAGES = {"LatLng": "google.type", "Status": "google.rpc"}
_WELL_KNOWN = {name: f".google.protobuf.{name}" for name in ("Timestamp", "NullValue", "Int32Value", "Int64Value")}
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _FIELD.TYPE_STRING,
    "bytes": _FIELD.TYPE_BYTES,
    "bool": _FIELD.TYPE_BOOL,
    "double": _FIELD.TYPE_DOUBLE,
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
}


class _Compiler:
    """Turns the schema into file descriptors, one for each package."""

    def __init__(self, schema: str) -> None:
        self._lines = schema.strip().splitlines()
        self._enums = {line.split()[1] for line in self._lines if line.startswith("enum ")} | {"NullValue"}
        self.files: dict[str, Any] = {}
        self._messages: dict[str, Any] = {}

    def compile(self) -> list[Any]:
        message: Any = None
        for line in self._lines:
            words = line.split()
            if words[0] == "message":
                message = self._declare(words[1])
            elif words[0] == "enum":
                self._add_enum(words[1], words[2:])
            else:
                self._add_field(message, words)
        own = self.files.pop(_PACKAGE)
        own.dependency.extend(file.name for file in self.files.values())
        own.dependency.extend(module.DESCRIPTOR.name for module in (timestamp_pb2, struct_pb2, wrappers_pb2))
        return [*self.files.values(), own]

    def _declare(self, path: str) -> Any:
        outer, _, name = path.rpartition(".")
        if outer:
            message = self._messages[outer].nested_type.add(name=name)
        else:
            package = _PACKAGES.get(name, _PACKAGE)
            file = self.files.get(package)
            if file is None:
                file = self.files[package] = descriptor_pb2.FileDescriptorProto(
                    name=f"concierge/{package}.proto", package=package, syntax="proto3"
                )
            message = file.message_type.add(name=name)
        self._messages[path] = message
        return message

    def _add_enum(self, path: str, values: list[str]) -> None:
        outer, _, name = path.rpartition(".")
        enum = self._messages[outer].enum_type.add(name=name)
        for value in values:
            label, _, number = value.partition("=")
            enum.value.add(name=label, number=int(number))

    def _add_field(self, message: Any, words: list[str]) -> None:
        modifier = words.pop(0) if words[0] in ("repeated", "map") else ""
        type_name, name, number = words[0], words[1], int(words[2])
        field = message.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL)
        if modifier == "map":
            self._make_map(message, field, type_name)
            return
        if modifier == "repeated":
            field.label = _FIELD.LABEL_REPEATED
        self._set_type(field, type_name)
        if len(words) == 5:
            oneofs = [oneof.name for oneof in message.oneof_decl]
            if words[4] not in oneofs:
                message.oneof_decl.add(name=words[4])
                oneofs.append(words[4])
            field.oneof_index = oneofs.index(words[4])

    def _set_type(self, field: Any, type_name: str) -> None:
        if type_name in _SCALARS:
            field.type = _SCALARS[type_name]
            return
        field.type = _FIELD.TYPE_ENUM if type_name in self._enums else _FIELD.TYPE_MESSAGE
        package = _PACKAGES.get(type_name, _PACKAGE)
        field.type_name = _WELL_KNOWN.get(type_name, f".{package}.{type_name}")

    def _make_map(self, message: Any, field: Any, value_type: str) -> None:
        entry = message.nested_type.add(name=field.name.title().replace("_", "") + "Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=_FIELD.LABEL_OPTIONAL, type=_FIELD.TYPE_STRING)
        self._set_type(entry.field.add(name="value", number=2, label=_FIELD.LABEL_OPTIONAL), value_type)
        field.label = _FIELD.LABEL_REPEATED
        field.type = _FIELD.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{message.name}.{entry.name}"


def _build_pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for module in (timestamp_pb2, struct_pb2, wrappers_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    for file in _Compiler(SCHEMA).compile():
        pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL = _build_pool()


def message_class(name: str) -> Any:
    """The class of a message of google.firestore.v1 by its name, nested ones with dots. Raises KeyError."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


Document = message_class("Document")
Value = message_class("Value")
ArrayValue = message_class("ArrayValue")
MapValue = message_class("MapValue")
Write = message_class("Write")
WriteResult = message_class("WriteResult")
Cursor = message_class("Cursor")
StructuredQuery = message_class("StructuredQuery")
TransactionOptions = message_class("TransactionOptions")
BatchGetDocumentsResponse = message_class("BatchGetDocumentsResponse")
BatchWriteResponse = message_class("BatchWriteResponse")
BeginTransactionResponse = message_class("BeginTransactionResponse")
CommitResponse = message_class("CommitResponse")
ListCollectionIdsResponse = message_class("ListCollectionIdsResponse")
ListDocumentsResponse = message_class("ListDocumentsResponse")
ListenResponse = message_class("ListenResponse")
RunAggregationQueryResponse = message_class("RunAggregationQueryResponse")
RunQueryResponse = message_class("RunQueryResponse")
Empty = empty_pb2.Empty
