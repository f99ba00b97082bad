"""Objects in one Cloud Storage bucket: whole files under names, small enough to be held in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from google.api_core import exceptions as google_exceptions
from google.auth.exceptions import GoogleAuthError
from google.cloud.storage.retry import DEFAULT_RETRY

_TIMEOUT_SECONDS = 20
# Creating, writing and reading may all be done again: what is written does not depend on how often.
_RETRY = DEFAULT_RETRY.with_delay(initial=0.1, maximum=5.0).with_timeout(30.0)
_DATA = "application/octet-stream"


class ObjectConflict(Exception):
    """An object that never changes exists with other content."""


class ObjectsUnavailable(Exception):
    """Cloud Storage does not answer, or refuses."""


class ObjectStore:
    """`bucket` is a google.cloud.storage.Bucket. All methods raise ObjectsUnavailable; safe to use from several
    threads."""

    def __init__(self, bucket: Any) -> None:
        self._bucket = bucket

    def read(self, name: str) -> bytes | None:
        """The content, None if there is no such object."""
        with _translated():
            try:
                data: bytes = self._bucket.blob(name).download_as_bytes(timeout=_TIMEOUT_SECONDS, retry=_RETRY)
            except google_exceptions.NotFound:
                return None
        return data

    def create(self, name: str, data: bytes, content_type: str = _DATA) -> None:
        """Writes an object that never changes; the same content again changes nothing. Raises ObjectConflict."""
        try:
            with _translated():
                # Generation 0: only if there is none.
                self._upload(name, data, content_type, if_generation_match=0)
        except google_exceptions.PreconditionFailed:
            if self.read(name) != data:
                raise ObjectConflict(f"{name} exists with other content") from None

    def write(self, name: str, data: bytes, content_type: str = _DATA) -> None:
        """Writes an object, whatever was there."""
        with _translated():
            self._upload(name, data, content_type)

    def list(self, prefix: str) -> Iterator[str]:
        """The names that begin with a prefix, in their order."""
        with _translated():
            for blob in self._bucket.list_blobs(prefix=prefix, timeout=_TIMEOUT_SECONDS, retry=_RETRY):
                yield blob.name

    def _upload(self, name: str, data: bytes, content_type: str, **preconditions: int) -> None:
        self._bucket.blob(name).upload_from_string(
            data, content_type=content_type, timeout=_TIMEOUT_SECONDS, retry=_RETRY, **preconditions
        )


@contextmanager
def _translated() -> Iterator[None]:
    """Failures of the service as ObjectsUnavailable; a precondition that failed is an answer, and passes."""
    try:
        yield
    except google_exceptions.PreconditionFailed:
        raise
    except (google_exceptions.GoogleAPIError, GoogleAuthError, OSError) as error:
        raise ObjectsUnavailable(f"{type(error).__name__} from Cloud Storage") from error
