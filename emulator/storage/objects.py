"""The buckets and their objects, and what may be done with them. No HTTP here.

Every write gives an object a new generation, every change of its metadata a new metageneration; preconditions are about
these numbers. Source: https://cloud.google.com/storage/docs/generations-preconditions
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import google_crc32c

from emulator.clock import Clock
from emulator.persistence import Store
from emulator.storage.errors import condition_not_met, invalid, no_bucket, no_object, not_modified

NAME_BYTES_MAX = 1024
COMPOSED_MAX = 32
_SERVICE = "storage"
_BUCKET, _OBJECT = "bucket:", "object:"
_WRITABLE = ("contentType", "cacheControl", "contentDisposition", "contentEncoding", "contentLanguage")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object. `settings` are the fields of its resource that a client may set, under their JSON names."""

    bucket: str
    name: str
    data: bytes = field(repr=False)
    generation: int
    metageneration: int
    created_ms: int
    updated_ms: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def md5(self) -> str:
        return base64.b64encode(hashlib.md5(self.data, usedforsecurity=False).digest()).decode()

    @property
    def crc32c(self) -> str:
        return base64.b64encode(google_crc32c.value(self.data).to_bytes(4, "big")).decode()

    @property
    def content_type(self) -> str:
        return str(self.settings.get("contentType", "application/octet-stream"))


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What must hold of the object that is there; a generation of 0 means that there is none."""

    generation: int | None = None
    not_generation: int | None = None
    metageneration: int | None = None
    not_metageneration: int | None = None

    def check(self, existing: StoredObject | None, *, reading: bool = False) -> None:
        """Raises StorageError: 412, or 304 where a reader has what it asks for."""
        generation = existing.generation if existing is not None else 0
        metageneration = existing.metageneration if existing is not None else 0
        if self.generation not in (None, generation) or self.metageneration not in (None, metageneration):
            raise condition_not_met()
        if self.not_generation == generation or (existing and self.not_metageneration == metageneration):
            raise not_modified() if reading else condition_not_met()


_ALWAYS = Preconditions()


@dataclass(frozen=True, slots=True)
class Listing:
    """One page: objects and common prefixes in the order of their names, and where the next page begins."""

    objects: list[StoredObject]
    prefixes: list[str]
    next_token: str | None


class Buckets:
    """All buckets. The default one is there from the start."""

    def __init__(self, *, default: str, clock: Clock, store: Store) -> None:
        self._clock = clock
        self._store = store
        self._objects: dict[str, dict[str, StoredObject]] = {default: {}}
        self._generation = 0
        for key, _ in store.rows(_SERVICE):
            if key.startswith(_BUCKET):
                self._objects.setdefault(key.removeprefix(_BUCKET), {})
        for key, row in store.rows(_SERVICE):
            if key.startswith(_OBJECT):
                self._load(row)

    def _load(self, row: bytes) -> None:
        header, _, data = row.partition(b"\n")
        stored = StoredObject(data=data, **json.loads(header))
        self._objects.setdefault(stored.bucket, {})[stored.name] = stored
        self._generation = max(self._generation, stored.generation)

    def names(self) -> list[str]:
        return sorted(self._objects)

    def create(self, bucket: str) -> None:
        """Does nothing if the bucket is there."""
        if not bucket or "/" in bucket:
            raise invalid("Invalid bucket name.")
        if bucket not in self._objects:
            self._objects[bucket] = {}
            self._store.write(_SERVICE, {_BUCKET + bucket: b""})

    def find(self, bucket: str, name: str) -> StoredObject | None:
        return self._bucket(bucket).get(name)

    def get(self, bucket: str, name: str, conditions: Preconditions, generation: int | None = None) -> StoredObject:
        """The live object, if it is of that generation. Raises StorageError."""
        existing = self.find(bucket, name)
        if existing is None or generation not in (None, existing.generation):
            raise no_object(bucket, name)
        conditions.check(existing, reading=True)
        return existing

    def put(
        self, bucket: str, resource: Mapping[str, Any], data: bytes, conditions: Preconditions = _ALWAYS
    ) -> StoredObject:
        """Writes an object with the settings of a resource, and its checksums if it names any. Raises StorageError."""
        name = checked_name(resource.get("name"))
        conditions.check(self.find(bucket, name))
        now_ms = self._clock.now_ms()
        # Microseconds, as in production, and never twice the same.
        self._generation = max(self._generation + 1, now_ms * 1000)
        settings, metadata = _settings(resource)
        stored = StoredObject(bucket, name, data, self._generation, 1, now_ms, now_ms, settings, metadata)
        for checksum, actual in (("md5Hash", stored.md5), ("crc32c", stored.crc32c)):
            if resource.get(checksum, actual) != actual:
                raise invalid(f"Provided {checksum} doesn't match calculated {checksum}.")
        self._keep(stored)
        return stored

    def patch(self, bucket: str, name: str, resource: Mapping[str, Any], conditions: Preconditions) -> StoredObject:
        """Changes the settings that a resource names; null takes one away."""
        existing = self.find(bucket, name)
        if existing is None:
            raise no_object(bucket, name)
        conditions.check(existing)
        settings, metadata = _settings(resource)
        removed = {key for key, value in resource.items() if value is None}
        kept = {key: value for key, value in {**existing.settings, **settings}.items() if key not in removed}
        if "metadata" in resource:
            given = resource["metadata"] or {}
            metadata = {**existing.metadata, **metadata} if given else {}
            metadata = {key: value for key, value in metadata.items() if given.get(key, value) is not None}
        else:
            metadata = dict(existing.metadata)
        changed = replace(
            existing,
            metageneration=existing.metageneration + 1,
            updated_ms=self._clock.now_ms(),
            settings=kept,
            metadata=metadata,
        )
        self._keep(changed)
        return changed

    def delete(self, bucket: str, name: str, conditions: Preconditions) -> None:
        existing = self.find(bucket, name)
        if existing is None:
            raise no_object(bucket, name)
        conditions.check(existing)
        del self._objects[bucket][name]
        self._store.write(_SERVICE, {f"{_OBJECT}{bucket}/{name}": None})

    def page(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        start: str = "",
        end: str = "",
        after: str = "",
        limit: int = 1000,
    ) -> Listing:
        """A page of what begins with `prefix`, from `start` to before `end`; `after` is the last page's token."""
        objects: list[StoredObject] = []
        prefixes: list[str] = []
        last = ""
        for name, stored in sorted(self._bucket(bucket).items(), key=lambda item: item[0].encode()):
            if not name.startswith(prefix) or name < start or (end and name >= end):
                continue
            cut = name.find(delimiter, len(prefix)) if delimiter else -1
            shown = name if cut < 0 else name[: cut + len(delimiter)]
            if (after and shown.encode() <= after.encode()) or (prefixes and prefixes[-1] == shown):
                continue
            if len(objects) + len(prefixes) == limit:
                return Listing(objects, prefixes, last)
            last = shown
            if cut < 0:
                objects.append(stored)
            else:
                prefixes.append(shown)
        return Listing(objects, prefixes, None)

    def compose(
        self, bucket: str, resource: Mapping[str, Any], sources: list[Mapping[str, Any]], conditions: Preconditions
    ) -> StoredObject:
        """One object made of several, in their order."""
        if not 1 <= len(sources) <= COMPOSED_MAX:
            raise invalid(f"The number of source components provided must be from 1 to {COMPOSED_MAX}.")
        parts = []
        for source in sources:
            generation = source.get("generation")
            wanted = int(generation) if generation is not None else None
            parts.append(self.get(bucket, checked_name(source.get("name")), _ALWAYS, wanted).data)
        return self.put(bucket, resource, b"".join(parts), conditions)

    def _bucket(self, bucket: str) -> dict[str, StoredObject]:
        objects = self._objects.get(bucket)
        if objects is None:
            raise no_bucket(bucket)
        return objects

    def _keep(self, stored: StoredObject) -> None:
        self._objects[stored.bucket][stored.name] = stored
        if self._store.durable:
            header = asdict(stored)
            del header["data"]
            row = json.dumps(header).encode() + b"\n" + stored.data
            self._store.write(_SERVICE, {f"{_OBJECT}{stored.bucket}/{stored.name}": row})


def checked_name(name: object) -> str:
    """Source: https://cloud.google.com/storage/docs/objects#naming. Raises StorageError."""
    if not isinstance(name, str) or not 1 <= len(name.encode("utf-8", "surrogatepass")) <= NAME_BYTES_MAX:
        raise invalid(f"An object name has 1 to {NAME_BYTES_MAX} bytes.")
    if name in (".", "..") or "\r" in name or "\n" in name or name.startswith(".well-known/acme-challenge/"):
        raise invalid("Disallowed object name.")
    return name


def resource_of(stored: StoredObject) -> dict[str, Any]:
    """The JSON resource of an object."""
    return {
        "kind": "storage#object",
        "id": f"{stored.bucket}/{stored.name}/{stored.generation}",
        "name": stored.name,
        "bucket": stored.bucket,
        "generation": str(stored.generation),
        "metageneration": str(stored.metageneration),
        "size": str(len(stored.data)),
        "md5Hash": stored.md5,
        "crc32c": stored.crc32c,
        "etag": etag_of(stored),
        "storageClass": "STANDARD",
        "timeCreated": _time(stored.created_ms),
        "updated": _time(stored.updated_ms),
        "contentType": stored.content_type,
        **stored.settings,
        **({"metadata": dict(stored.metadata)} if stored.metadata else {}),
    }


def etag_of(stored: StoredObject) -> str:
    return base64.b64encode(f"{stored.generation}/{stored.metageneration}".encode()).decode()


def _settings(resource: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    settings = {key: resource[key] for key in _WRITABLE if isinstance(resource.get(key), str)}
    metadata = resource.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        raise invalid("metadata must be an object of strings.")
    return settings, {str(key): str(value) for key, value in metadata.items() if value is not None}


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
