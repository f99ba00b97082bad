"""Cloud Storage's JSON API as google-cloud-storage calls it.

/storage/v1/b[/{bucket}[/o[/{object}[/{rewriteTo,copyTo}/b/{bucket}/o/{object} | /compose]]]]   resources
/upload/storage/v1/b/{bucket}/o?uploadType=media|multipart|resumable                   uploads
/download/storage/v1/b/{bucket}/o/{object}?alt=media                                   downloads
/v0/b/...                                                                              clients: refused

Object names are one percent-encoded segment. Source: https://cloud.google.com/storage/docs/json_api/v1
"""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from emulator.faults import FaultPlan
from emulator.storage.errors import StorageError, invalid
from emulator.storage.objects import Buckets, Preconditions, StoredObject, checked_name, etag_of, resource_of
from emulator.storage.uploads import Session, Sessions, add_piece, parse_resource, split_multipart

PAGE_MAX = 1000
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_JSON = "application/json; charset=UTF-8"


class RestApi:
    """Answers every request of the server."""

    def __init__(self, *, buckets: Buckets, faults: FaultPlan, project: str) -> None:
        self._buckets = buckets
        self._faults = faults
        self._project = project
        self._sessions = Sessions()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One call; a fault of its method is met before it, or, as a lost answer, after it."""
        body = await request.read()
        fault = self._faults.take(f"storage.{request.method}")
        lost = StorageError(503, "backendError", "Backend Error")
        try:
            if fault is not None and fault.action == "error":
                raise lost
            answer = self._answer(request, body)
            if fault is not None and fault.action == "error_after":
                raise lost
        except StorageError as error:
            return _json(error.body(), error.status)
        return answer

    def _answer(self, request: web.Request, body: bytes) -> web.StreamResponse:
        # Undecoded, since a `/` in a name is no separator.
        segments = [unquote(segment) for segment in request.rel_url.raw_path.strip("/").split("/")]
        match segments:
            case ["v0", *_]:
                # storage.rules denies everything; uploads and downloads of clients go through the API.
                return _json({"error": {"code": 403, "message": "Permission denied."}}, 403)
            case ["upload", "storage", "v1", "b", bucket, "o"]:
                return self._upload(request, bucket, body)
            case ["download", "storage", "v1", "b", bucket, "o", name]:
                return self._download(request, bucket, name)
            case ["storage", "v1", "b"]:
                return self._all_buckets(request, body)
            case ["storage", "v1", "b", bucket]:
                return self._one_bucket(request, bucket)
            case ["storage", "v1", "b", bucket, "o"]:
                return self._list(request, bucket)
            case ["storage", "v1", "b", bucket, "o", name]:
                return self._object(request, bucket, name, body)
            case ["storage", "v1", "b", bucket, "o", name, "compose"]:
                return self._compose(request, bucket, name, body)
            case ["storage", "v1", "b", bucket, "o", name, "copyTo", "b", to_bucket, "o", to_name]:
                return _json(resource_of(self._copy(request, (bucket, name), (to_bucket, to_name), body)))
            case ["storage", "v1", "b", bucket, "o", name, "rewriteTo", "b", to_bucket, "o", to_name]:
                return _json(_rewritten(self._copy(request, (bucket, name), (to_bucket, to_name), body)))
        raise StorageError(404, "notFound", "Not Found")

    def _all_buckets(self, request: web.Request, body: bytes) -> web.Response:
        if request.method == "POST":
            name = str(parse_resource(body).get("name", ""))
            if name in self._buckets.names():
                raise StorageError(409, "conflict", "Your previous request to create the named bucket succeeded.")
            self._buckets.create(name)
            return _json(self._bucket_resource(name))
        _require(request, "GET")
        items = [self._bucket_resource(name) for name in self._buckets.names()]
        return _json({"kind": "storage#buckets", "items": items})

    def _one_bucket(self, request: web.Request, bucket: str) -> web.Response:
        _require(request, "GET")
        self._buckets.page(bucket, limit=1)
        return _json(self._bucket_resource(bucket))

    def _bucket_resource(self, name: str) -> dict[str, Any]:
        return {
            "kind": "storage#bucket",
            "id": name,
            "name": name,
            "projectNumber": self._project,
            "metageneration": "1",
            "location": "US",
            "storageClass": "STANDARD",
        }

    def _list(self, request: web.Request, bucket: str) -> web.Response:
        _require(request, "GET")
        query = request.query
        try:
            limit = min(PAGE_MAX, int(query.get("maxResults", PAGE_MAX)))
        except ValueError as error:
            raise invalid("maxResults is not a number.") from error
        listing = self._buckets.page(
            bucket,
            prefix=query.get("prefix", ""),
            delimiter=query.get("delimiter", ""),
            start=query.get("startOffset", ""),
            end=query.get("endOffset", ""),
            after=query.get("pageToken", ""),
            limit=max(1, limit),
        )
        found: dict[str, Any] = {"kind": "storage#objects", "items": [resource_of(item) for item in listing.objects]}
        if listing.prefixes:
            found["prefixes"] = listing.prefixes
        if listing.next_token is not None:
            found["nextPageToken"] = listing.next_token
        return _json(found)

    def _object(self, request: web.Request, bucket: str, name: str, body: bytes) -> web.StreamResponse:
        conditions = _conditions(request.query)
        match request.method:
            case "GET" if request.query.get("alt") == "media":
                return self._download(request, bucket, name)
            case "GET":
                return _json(resource_of(self._buckets.get(bucket, name, conditions, _generation(request))))
            case "PATCH" | "PUT":
                return _json(resource_of(self._buckets.patch(bucket, name, parse_resource(body), conditions)))
            case "DELETE":
                self._buckets.delete(bucket, name, conditions)
                return web.Response(status=204)
        raise _not_allowed(request)

    def _download(self, request: web.Request, bucket: str, name: str) -> web.Response:
        stored = self._buckets.get(bucket, name, _conditions(request.query), _generation(request))
        status, data, headers = 200, stored.data, _object_headers(stored)
        wanted = request.headers.get("Range")
        if wanted is not None and stored.data:
            first, last = _byte_range(wanted, len(stored.data))
            status, data = 206, stored.data[first : last + 1]
            headers["Content-Range"] = f"bytes {first}-{last}/{len(stored.data)}"
        return web.Response(status=status, body=data, headers=headers)

    def _upload(self, request: web.Request, bucket: str, body: bytes) -> web.StreamResponse:
        if "upload_id" in request.query:
            return self._resume(request, request.query["upload_id"], body)
        _require(request, "POST")
        conditions = _conditions(request.query)
        content_type = request.headers.get("Content-Type", "")
        match request.query.get("uploadType"):
            case "multipart":
                resource, data = split_multipart(content_type, body)
            case "media":
                resource, data = {"contentType": content_type or "application/octet-stream"}, body
            case "resumable":
                return self._begin(request, bucket, body, conditions)
            case _:
                raise invalid("uploadType must be media, multipart or resumable.")
        if "name" in request.query:
            resource["name"] = request.query["name"]
        return _json(resource_of(self._buckets.put(bucket, resource, data, conditions)))

    def _begin(self, request: web.Request, bucket: str, body: bytes, conditions: Preconditions) -> web.Response:
        resource = parse_resource(body)
        if "name" in request.query:
            resource["name"] = request.query["name"]
        resource.setdefault("contentType", request.headers.get("X-Upload-Content-Type", "application/octet-stream"))
        conditions.check(self._buckets.find(bucket, checked_name(resource.get("name"))))
        upload_id = self._sessions.begin(Session(bucket, resource, conditions))
        location = request.url.update_query(upload_id=upload_id)
        return web.Response(headers={"Location": str(location), "X-GUploader-UploadID": upload_id})

    def _resume(self, request: web.Request, upload_id: str, body: bytes) -> web.StreamResponse:
        session = self._sessions.find(upload_id)
        if request.method == "DELETE":
            self._sessions.end(upload_id)
            return web.Response(status=499)
        if not add_piece(session, request.headers.get("Content-Range"), body):
            taken = {"Range": f"bytes=0-{len(session.data) - 1}"} if session.data else {}
            return web.Response(status=308, headers=taken)
        stored = self._buckets.put(session.bucket, session.resource, bytes(session.data), session.conditions)
        self._sessions.end(upload_id)
        return _json(resource_of(stored))

    def _compose(self, request: web.Request, bucket: str, name: str, body: bytes) -> web.Response:
        _require(request, "POST")
        asked = parse_resource(body)
        sources = asked.get("sourceObjects") or []
        resource = {**(asked.get("destination") or {}), "name": name}
        return _json(resource_of(self._buckets.compose(bucket, resource, sources, _conditions(request.query))))

    def _copy(
        self, request: web.Request, source: tuple[str, str], target: tuple[str, str], body: bytes
    ) -> StoredObject:
        _require(request, "POST")
        from_conditions = _conditions(request.query, "Source")
        stored = self._buckets.get(*source, from_conditions, _generation(request, "sourceGeneration"))
        given = parse_resource(body)
        resource = {**stored.settings, "metadata": dict(stored.metadata), **given, "name": target[1]}
        resource.pop("md5Hash", None)
        resource.pop("crc32c", None)
        return self._buckets.put(target[0], resource, stored.data, _conditions(request.query))


def _rewritten(copy: StoredObject) -> dict[str, Any]:
    """The answer to a rewrite, which is always done in one step."""
    size = str(len(copy.data))
    return {
        "kind": "storage#rewriteResponse",
        "done": True,
        "totalBytesRewritten": size,
        "objectSize": size,
        "resource": resource_of(copy),
    }


def _conditions(query: Mapping[str, str], of: str = "") -> Preconditions:
    def number(name: str) -> int | None:
        text = query.get(f"if{of}{name}")
        try:
            return int(text) if text is not None else None
        except ValueError as error:
            raise invalid(f"if{of}{name} is not a number.") from error

    return Preconditions(
        number("GenerationMatch"),
        number("GenerationNotMatch"),
        number("MetagenerationMatch"),
        number("MetagenerationNotMatch"),
    )


def _generation(request: web.Request, name: str = "generation") -> int | None:
    text = request.query.get(name)
    if text is not None and not text.isdigit():
        raise invalid(f"{name} is not a number.")
    return int(text) if text is not None else None


def _byte_range(header: str, size: int) -> tuple[int, int]:
    """First and last byte of a Range header on `size` bytes, at least 1. Raises StorageError 416."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        raise invalid("The Range is malformed.")
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size - 1
    if int(first) >= size or (last and int(last) < int(first)):
        raise StorageError(416, "requestedRangeNotSatisfiable", "Request range not satisfiable")
    return int(first), min(int(last), size - 1) if last else size - 1


def _object_headers(stored: StoredObject) -> dict[str, str]:
    headers = {
        "Content-Type": stored.content_type,
        "ETag": etag_of(stored),
        "X-Goog-Generation": str(stored.generation),
        "X-Goog-Metageneration": str(stored.metageneration),
        "X-Goog-Hash": f"crc32c={stored.crc32c},md5={stored.md5}",
        "X-Goog-Stored-Content-Length": str(len(stored.data)),
    }
    if "cacheControl" in stored.settings:
        headers["Cache-Control"] = str(stored.settings["cacheControl"])
    return headers


def _require(request: web.Request, method: str) -> None:
    if request.method != method:
        raise _not_allowed(request)


def _not_allowed(request: web.Request) -> StorageError:
    return StorageError(405, "methodNotAllowed", f"{request.method} is not served here.")


def _json(content: dict[str, Any], status: int = 200) -> web.Response:
    if status == 304:
        return web.Response(status=304)
    return web.Response(status=status, body=json.dumps(content).encode(), headers={"Content-Type": _JSON})
