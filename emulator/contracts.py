"""What the embedded services know of each other: change feeds, tokens, JSON.

A service publishes its commits to `listeners`, plain callables that are called in commit order on the event loop and
must not block; triggers subscribe there. No service imports another one.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Json = Any  # JSON values: None, bool, int, float, str, list, dict; a recursive alias helps nobody here

RtdbPath = tuple[str, ...]
AuthType = Literal["app_user", "admin", "unauthenticated"]


class InvalidToken(Exception):
    """An ID token that is malformed, forged, expired, revoked or of another project. `reason` is safe to show."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


TokenVerifier = Callable[[str], Mapping[str, Any]]
"""Takes a raw ID token, returns its claims (`sub`, `exp`, custom claims, ...) or raises InvalidToken."""


class RtdbSnapshot(Protocol):
    """An immutable version of one database."""

    def value(self, path: RtdbPath) -> Json:
        """The JSON at a path as REST would export it (arrays coerced), None if there is nothing."""

    def keys(self, path: RtdbPath) -> Iterable[str]:
        """The child keys at a path; empty for a leaf or nothing."""


@dataclass(frozen=True, slots=True)
class RtdbChange:
    """One committed operation: a set, a removal, or all paths of one multi-path update."""

    namespace: str
    paths: tuple[RtdbPath, ...]
    before: RtdbSnapshot
    after: RtdbSnapshot
    auth_type: AuthType
    auth_id: str | None
    at_ms: int


@dataclass(frozen=True, slots=True)
class FirestoreChange:
    """One document changed by a commit. `before` and `after` are `google.firestore.v1.Document` messages (protobuf,
    not proto-plus), None where the document did not or does not exist. `name` is the full resource name."""

    name: str
    before: Any | None
    after: Any | None
    at_ms: int


RtdbListener = Callable[[RtdbChange], None]
FirestoreListener = Callable[[FirestoreChange], None]
