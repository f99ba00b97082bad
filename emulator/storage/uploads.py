"""Uploads: whole, with their metadata in one multipart body, or resumable in pieces.

A resumable upload is a session that is asked for with the object's resource and then takes pieces with Content-Range;
`bytes */*` asks how far it has come, which is answered with 308 and the Range that is there.
Source: https://cloud.google.com/storage/docs/performing-resumable-uploads
"""

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emulator.storage.errors import StorageError, invalid
from emulator.storage.objects import Preconditions

SESSIONS_MAX = 1000
_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass(slots=True)
class Session:
    """A resumable upload under way."""

    bucket: str
    resource: Mapping[str, Any]
    conditions: Preconditions
    data: bytearray = field(default_factory=bytearray)


class Sessions:
    """All resumable uploads; the oldest are forgotten when there are too many."""

    def __init__(self) -> None:
        self._open: dict[str, Session] = {}

    def begin(self, session: Session) -> str:
        """The id of a new upload."""
        while len(self._open) >= SESSIONS_MAX:
            del self._open[next(iter(self._open))]
        upload_id = secrets.token_urlsafe(32)
        self._open[upload_id] = session
        return upload_id

    def find(self, upload_id: str) -> Session:
        session = self._open.get(upload_id)
        if session is None:
            raise StorageError(404, "notFound", "There is no such upload.")
        return session

    def end(self, upload_id: str) -> None:
        self._open.pop(upload_id, None)


def add_piece(session: Session, content_range: str | None, piece: bytes) -> bool:
    """Takes one piece; True if the object is whole. Raises StorageError for a piece that does not fit."""
    if content_range is None:
        session.data[:] = piece
        return True
    match = _RANGE.fullmatch(content_range.strip())
    if match is None:
        raise invalid("Content-Range is malformed.")
    first, last, total = match.groups()
    if first is not None:
        if int(last) - int(first) + 1 != len(piece) or int(first) > len(session.data):
            raise StorageError(503, "backendError", "The piece does not follow what is there.")
        # What was sent before may be sent again.
        session.data[int(first) :] = piece
    return total != "*" and len(session.data) == int(total)


def split_multipart(content_type: str, body: bytes) -> tuple[dict[str, Any], bytes]:
    """(resource, data) of a multipart/related body; the data's own content type counts if the resource has none."""
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise invalid("The multipart body has no boundary.")
    delimiter = b"--" + match[1].strip("'").encode()
    opened, _, rest = body.partition(delimiter + b"\r\n")
    first, _, second = rest.partition(b"\r\n" + delimiter + b"\r\n")
    data_part, _, closing = second.rpartition(b"\r\n" + delimiter + b"--")
    _, empty_line, resource_text = first.partition(b"\r\n\r\n")
    data_headers, data_line, data = data_part.partition(b"\r\n\r\n")
    if opened or not empty_line or not data_line or closing.strip():
        raise invalid("The multipart body is malformed.")
    resource = parse_resource(resource_text)
    for header in data_headers.decode("latin-1").split("\r\n"):
        name, _, value = header.partition(":")
        if name.strip().lower() == "content-type":
            resource.setdefault("contentType", value.strip())
    return resource, data


def parse_resource(text: bytes) -> dict[str, Any]:
    """An object resource; nothing at all is an empty one."""
    try:
        resource = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise StorageError(400, "parseError", "Parse Error") from error
    if not isinstance(resource, dict):
        raise StorageError(400, "parseError", "Parse Error")
    return resource
