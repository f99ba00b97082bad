"""CloudEvents of the Realtime Database and Firestore, as Eventarc sends them to second-generation functions. Pure.

Sources: https://cloud.google.com/eventarc/docs/reference/supported-events, the attributes which firebase_functions 0.6
reads in db_fn.py and firestore_fn.py, and google/events/cloud/firestore/v1/data.proto.
"""

import base64
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from emulator.contracts import FirestoreChange, Json, RtdbChange, RtdbPath
from emulator.triggers import deltas

ChangeKind = Literal["created", "updated", "deleted"]

RTDB_TYPE_PREFIX = "google.firebase.database.ref.v1."
FIRESTORE_TYPE_PREFIX = "google.cloud.firestore.document.v1."
AUTH_CONTEXT_SUFFIX = ".withAuthContext"

# "The trigger payload of one write": existing and new data together.
RTDB_PAYLOAD_BYTES_MAX = 1024 * 1024
# The largest event that Eventarc carries.
EVENTARC_BYTES_MAX = 512 * 1024


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """One event: its attributes, and its data as JSON text or as bytes of another type."""

    attributes: Mapping[str, str]
    data: bytes
    data_is_json: bool

    @property
    def id(self) -> str:
        return self.attributes["id"]

    def structured(self) -> tuple[dict[str, str], bytes]:
        """HTTP headers and body in structured mode, which carries any text in attributes, unlike headers would."""
        attributes = json.dumps(self.attributes, separators=(",", ":")).encode()
        name, data = b"data", self.data
        if not self.data_is_json:
            name, data = b"data_base64", b'"' + base64.b64encode(self.data) + b'"'
        body = b'%s,"%s":%s}' % (attributes[:-1], name, data)
        return {"Content-Type": "application/cloudevents+json; charset=utf-8"}, body


def new_id() -> str:
    """Unique; a redelivery carries the id of its event again."""
    return uuid.uuid4().hex


def timestamp(at_ms: int) -> str:
    """RFC 3339 in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def change_kind(before: Any, after: Any) -> ChangeKind | None:
    """What happened to a value that is None where it did not exist; None if it never did."""
    if before is None:
        return None if after is None else "created"
    return "deleted" if after is None else "updated"


def type_wanted(wanted: str, kind: ChangeKind) -> bool:
    """True if a function that listens to `wanted` (the last part of an event type) hears of such a change."""
    return wanted in ("written", kind)


def rtdb_event(
    change: RtdbChange, path: RtdbPath, before: Json, after: Json, *, event_type: str, location: str, database_host: str
) -> CloudEvent:
    """The event of one node of a change; `before` and `after` are its values."""
    data, delta = deltas.encode(before, after)
    reference = "/".join(path)
    attributes = {
        "specversion": "1.0",
        "id": new_id(),
        "source": f"//firebasedatabase.googleapis.com/projects/_/locations/{location}/instances/{change.namespace}",
        "type": event_type,
        "datacontenttype": "application/json",
        "subject": f"refs/{reference}",
        "time": timestamp(change.at_ms),
        "instance": change.namespace,
        "ref": reference,
        "firebasedatabasehost": database_host,
        "location": location,
        "authtype": change.auth_type,
    }
    if change.auth_id is not None:
        attributes["authid"] = change.auth_id
    payload = json.dumps({"data": data, "delta": delta}, separators=(",", ":"), ensure_ascii=False)
    return CloudEvent(attributes, payload.encode("utf-8", "surrogatepass"), data_is_json=True)


@dataclass(frozen=True, slots=True)
class DocumentName:
    """The parts of `projects/{project}/databases/{database}/documents/{document}`."""

    project: str
    database: str
    document: str


def document_name(name: str) -> DocumentName:
    """Splits a full resource name. Raises ValueError for anything else."""
    parts = name.split("/", 5)
    if len(parts) != 6 or (parts[0], parts[2], parts[4]) != ("projects", "databases", "documents"):
        raise ValueError(f"not a document: {name}")
    return DocumentName(parts[1], parts[3], parts[5])


def document_fields_changed(change: FirestoreChange) -> bool:
    """False for a write that left the fields as they were, which the platform does not report."""
    if change.before is None or change.after is None:
        return change.before is not change.after
    return _fields(change.before) != _fields(change.after)


def _fields(document: Any) -> bytes:
    # Compared as bytes, since NaN would differ from itself.
    bare = type(document)()
    bare.CopyFrom(document)
    for name in ("name", "create_time", "update_time"):
        bare.ClearField(name)
    encoded: bytes = bare.SerializeToString(deterministic=True)
    return encoded


def firestore_event(change: FirestoreChange, *, event_type: str, location: str, auth_id: str) -> CloudEvent:
    """The event of one document, as `google.events.cloud.firestore.v1.DocumentEventData`.

    Only servers reach Firestore here (its rules deny all clients), so the principal is always a service account.
    """
    name = document_name(change.name)
    attributes = {
        "specversion": "1.0",
        "id": new_id(),
        "source": f"//firestore.googleapis.com/projects/{name.project}/databases/{name.database}",
        "type": event_type,
        "datacontenttype": "application/protobuf",
        "dataschema": "https://github.com/googleapis/google-cloudevents/blob/main/proto/google/events/cloud/firestore/v1/data.proto",
        "subject": f"documents/{name.document}",
        "time": timestamp(change.at_ms),
        "project": name.project,
        "database": name.database,
        "namespace": "(default)",
        "document": name.document,
        "location": location,
    }
    if event_type.endswith(AUTH_CONTEXT_SUFFIX):
        attributes |= {"authtype": "service_account", "authid": auth_id}
    data = _message_field(1, change.after) + _message_field(2, change.before)
    return CloudEvent(attributes, data, data_is_json=False)


def _message_field(number: int, document: Any | None) -> bytes:
    """A length-delimited field. The event's Document has the field numbers of `google.firestore.v1.Document`, so its
    bytes are taken as they are, and google.events needs not be loaded."""
    if document is None:
        return b""
    encoded: bytes = document.SerializeToString()
    return bytes([number << 3 | 2]) + _varint(len(encoded)) + encoded


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
