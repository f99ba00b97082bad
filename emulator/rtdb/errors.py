"""What a call of the database can be answered with instead of success.

    RtdbError               status and text of the answer `{"error": text}`
    |-- InvalidRequest      400: malformed data, path, query or parameter
    |-- Unauthorized        401: a credential that is expired, forged or unknown
    |-- PermissionDenied    401: the rules say no; carries the decision
    |-- NotFound            404: not an address of the REST API
    |-- EtagMismatch        412: the data is not what the caller thinks; carries what it is
    `-- InternalFault       500: a fault that somebody asked for

The texts are those of the production REST API where they are known.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emulator.rtdb.rules.decision import Decision
    from emulator.rtdb.tree import Node


class RtdbError(Exception):
    status = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(RtdbError):
    status = 400


class Unauthorized(RtdbError):
    status = 401


class PermissionDenied(RtdbError):
    status = 401

    def __init__(self, decision: "Decision | None" = None) -> None:
        super().__init__("Permission denied")
        self.decision = decision


class NotFound(RtdbError):
    status = 404


class EtagMismatch(RtdbError):
    """A conditional write lost; `node` is what the location holds now."""

    status = 412

    def __init__(self, node: "Node | None") -> None:
        super().__init__("ETag mismatch")
        self.node = node


class InternalFault(RtdbError):
    status = 500
