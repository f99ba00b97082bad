"""What a commit does to documents: updates, deletes, transforms, verifications and their preconditions.

`plan` computes a whole commit without changing anything, so that a refused write leaves no trace; `DocumentStore.apply`
then makes the plan true. Source: google/firestore/v1/write.proto.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from emulator.firestore.documents import (
    StoredDocument,
    delete_value,
    get_value,
    make_value,
    set_timestamp,
    set_value,
    timestamp_us,
)
from emulator.firestore.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from emulator.firestore.names import NAME_PATH, DocumentName, FieldPath, check_same_root, document_name, field_path
from emulator.firestore.protocol import Document, Value, WriteResult
from emulator.firestore.store import Change, View
from emulator.firestore.values import (
    DEPTH_MAX,
    add_numbers,
    check_field_name,
    check_size,
    is_number,
    normalize,
    normalize_fields,
    number,
    set_number,
    sort_key,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """A commit that can be applied: one Change for each document that changes, one WriteResult for each write."""

    changes: list[Change]
    results: list[Any]


class _Draft:
    """One document while the writes of a commit are applied to it, one after the other."""

    __slots__ = ("base", "message", "name")

    def __init__(self, name: DocumentName, base: StoredDocument | None) -> None:
        self.name = name
        self.base = base
        self.message: Any | None = None if base is None else base.message

    def update_us(self) -> int:
        return 0 if self.message is None else timestamp_us(self.message.update_time)


def target_name(write: Any) -> str:
    """The full name of the document that a Write is about. Raises InvalidArgument for an empty one."""
    match write.WhichOneof("operation"):
        case "update":
            name = write.update.name
        case "delete":
            name = write.delete
        case "transform":
            name = write.transform.document
        case "verify":
            name = write.verify
        case _:
            raise InvalidArgument("empty write operation")
    return str(name)


def target_names(writes: Iterable[Any], root: str) -> list[str]:
    """The documents of the writes in order, each checked to be a document of this database. Raises InvalidArgument."""
    names = []
    for write in writes:
        name = target_name(write)
        document_name(name)
        check_same_root(name, root)
        names.append(name)
    return names


def plan(view: View, writes: Iterable[Any], commit_us: int) -> Plan:
    """Computes a commit. Raises a FirestoreError for the first write that is not allowed."""
    drafts: dict[str, _Draft] = {}
    results = []
    touched: list[_Draft | None] = []
    for write in writes:
        name = document_name(target_name(write))
        draft = drafts.get(name.name)
        if draft is None:
            draft = drafts[name.name] = _Draft(name, view.get(name.name))
        result = WriteResult()
        touched.append(_apply(draft, write, result, commit_us))
        results.append(result)
    changes = [change for change in map(_finish, drafts.values()) if change is not None]
    for result, updated in zip(results, touched, strict=True):
        # A write that changes nothing keeps the update time that the document had.
        if updated is not None and updated.message is not None:
            result.update_time.CopyFrom(updated.message.update_time)
        elif updated is not None:
            set_timestamp(result.update_time, commit_us)
    return Plan(changes, results)


def _finish(draft: _Draft) -> Change | None:
    if draft.message is None:
        return None if draft.base is None else Change(draft.name.name, draft.base, None)
    if draft.base is not None and draft.message is draft.base.message:
        return None
    check_size(draft.name.name, draft.name.segments, draft.message)
    message = draft.message
    after = StoredDocument(draft.name, message, timestamp_us(message.create_time), timestamp_us(message.update_time))
    return Change(draft.name.name, draft.base, after)


def _apply(draft: _Draft, write: Any, result: Any, commit_us: int) -> _Draft | None:
    """Applies one write. Returns the draft if the write leaves a document behind."""
    if write.HasField("current_document"):
        check_precondition(write.current_document, draft)
    match write.WhichOneof("operation"):
        case "delete":
            draft.message = None
            return None
        case "verify":
            return None
        case "transform":
            message = _next_version(draft)
            transforms = write.transform.field_transforms
        case _:
            message = _updated(draft, write)
            transforms = write.update_transforms
    for transform in transforms:
        _transform(message.fields, transform, result.transform_results.add(), commit_us)
    _keep_if_changed(draft, message, commit_us)
    return draft


def _next_version(draft: _Draft) -> Any:
    message = Document(name=draft.name.name)
    if draft.message is not None:
        message.CopyFrom(draft.message)
    return message


def _keep_if_changed(draft: _Draft, message: Any, commit_us: int) -> None:
    if draft.message is None:
        set_timestamp(message.create_time, commit_us)
    elif message == draft.message:
        return
    set_timestamp(message.update_time, commit_us)
    draft.message = message


def check_precondition(precondition: Any, draft: _Draft) -> None:
    """Raises NotFound, AlreadyExists or FailedPrecondition."""
    match precondition.WhichOneof("condition_type"):
        case "exists":
            if precondition.exists and draft.message is None:
                raise NotFound(f"No document to update: {draft.name.name}")
            if not precondition.exists and draft.message is not None:
                raise AlreadyExists(f"Document already exists: {draft.name.name}")
        case "update_time":
            expected_us = timestamp_us(precondition.update_time)
            if draft.update_us() != expected_us:
                raise FailedPrecondition(
                    f"the stored version ({draft.update_us()}) does not match the required base version ({expected_us})"
                )
        case _:
            pass


def _updated(draft: _Draft, write: Any) -> Any:
    """The next version after the update part of a write: replaced as a whole, or only the fields in its mask."""
    incoming = write.update.fields
    normalize_fields(incoming)
    if not write.HasField("update_mask"):
        message = Document(name=draft.name.name)
        message.fields.MergeFrom(incoming)
        if draft.message is not None:
            message.create_time.CopyFrom(draft.message.create_time)
            message.update_time.CopyFrom(draft.message.update_time)
        return message
    message = _next_version(draft)
    for text in write.update_mask.field_paths:
        path = field_path(text)
        if path == NAME_PATH:
            continue
        value = get_value(incoming, path)
        if value is None:
            delete_value(message.fields, path)
        else:
            set_value(message.fields, path, value)
    return message


def _transform(fields: Any, transform: Any, result: Any, commit_us: int) -> None:
    path = field_path(transform.field_path)
    _check_transform_path(path)
    current = get_value(fields, path)
    kind = transform.WhichOneof("transform_type")
    match kind:
        case "set_to_server_value":
            # The request time has milliseconds, unlike the commit time.
            set_timestamp(result.timestamp_value, commit_us - commit_us % 1000)
            set_value(fields, path, result)
        case "increment" | "maximum" | "minimum":
            operand = getattr(transform, kind)
            if not is_number(operand):
                raise InvalidArgument("Input must be int64 or double.")
            _transform_number(kind, current, operand, result)
            set_value(fields, path, result)
        case "append_missing_elements":
            elements = list(transform.append_missing_elements.values)
            _append_missing(make_value(fields, path), elements, path)
            result.null_value = 0
        case "remove_all_from_array":
            _remove_all(make_value(fields, path), list(transform.remove_all_from_array.values))
            result.null_value = 0
        case _:
            raise InvalidArgument("empty field transform")


def _check_transform_path(path: FieldPath) -> None:
    for segment in path:
        check_field_name(segment)
    if len(path) > DEPTH_MAX + 1:
        raise InvalidArgument(f"Property {path[0]} contains an invalid nested entity.")


def _transform_number(kind: str, current: Any | None, operand: Any, result: Any) -> None:
    """Writes what an increment, maximum or minimum makes of a number; anything else is replaced by the operand."""
    if current is None or not is_number(current):
        result.CopyFrom(operand)
    elif kind == "increment":
        set_number(result, add_numbers(number(current), number(operand)))
    elif number(operand) != number(operand) or number(current) != number(current):
        # A number compared with NaN gives NaN.
        result.double_value = float("nan")
    elif kind == "maximum":
        result.CopyFrom(operand if number(operand) > number(current) else current)
    else:
        result.CopyFrom(operand if number(operand) < number(current) else current)


def _array_of(value: Any) -> Any:
    """The elements of a value, which becomes an empty array if it is none."""
    if not value.HasField("array_value"):
        value.Clear()
        value.array_value.SetInParent()
    return value.array_value.values


def _append_missing(target: Any, elements: list[Any], path: FieldPath) -> None:
    values = _array_of(target)
    present = {sort_key(value) for value in values}
    for element in elements:
        normalize(element, path[-1], len(path), in_array=True)
        key = sort_key(element)
        if key not in present:
            present.add(key)
            values.append(element)


def _remove_all(target: Any, elements: list[Any]) -> None:
    values = _array_of(target)
    removed = {sort_key(element) for element in elements}
    kept = [value for value in values if sort_key(value) not in removed]
    if len(kept) != len(values):
        replacement = Value()
        replacement.array_value.values.extend(kept)
        target.CopyFrom(replacement)
