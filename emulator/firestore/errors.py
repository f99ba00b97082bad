"""What Firestore refuses. The codes are those of google.rpc.Code, so that no pure module needs grpc.

FirestoreError
 ├─ InvalidArgument     3   a malformed name, value, query or transaction
 ├─ NotFound            5   an update of a document that does not exist
 ├─ AlreadyExists       6   a create of a document that exists
 ├─ PermissionDenied    7   a caller that is not the admin
 ├─ FailedPrecondition  9   another update_time than the one expected, or a time too long ago
 ├─ Aborted            10   contention: a lock that was not given in time, or a read that is no longer true
 ├─ Unimplemented      12   a part of Firestore that is not served here
 └─ Unavailable        14   a fault that was asked for
"""

from typing import ClassVar


class FirestoreError(Exception):
    """A refusal with the status code and the message that the caller receives."""

    code: ClassVar[int] = 2

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidArgument(FirestoreError):
    code = 3


class NotFound(FirestoreError):
    code = 5


class AlreadyExists(FirestoreError):
    code = 6


class PermissionDenied(FirestoreError):
    code = 7


class FailedPrecondition(FirestoreError):
    code = 9


class Aborted(FirestoreError):
    code = 10


class Unimplemented(FirestoreError):
    code = 12


class Unavailable(FirestoreError):
    code = 14
