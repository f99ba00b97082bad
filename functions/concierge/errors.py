"""Every error that a person or a client may see, as one tree.

    ConciergeError
    ├── InvalidArgument          the request is malformed; `field` names what
    ├── Unauthenticated          no valid ID token
    ├── PermissionDenied         a valid token without the right
    ├── NotFound
    ├── Conflict                 the same id was used for something else
    ├── InsufficientCredits      `missing_microcredits` says by how much
    ├── AccountFrozen
    ├── Unpriced                 a model whose price is unknown, hence refused
    ├── HoldExpired              work that finished after its hold had expired
    ├── Unavailable              a service that we need does not answer; nothing was charged
    │   └── ProviderUnavailable  the model provider, after retries and fallbacks
    ├── DeadlineExceeded
    ├── Interrupted              the instance that did the work died
    ├── Configuration            a setting is missing or wrong; `variable` names it
    └── Internal                 everything else; the message never holds details

`code` is what clients see (RTDB `error.code`, problem+json `code`); `http_status` is for HTTPS. Messages are safe to
show: details go to the log, never into a message.
"""

from typing import Any, ClassVar


class ConciergeError(Exception):
    """Base of all. `public()` is the shape that leaves the backend."""

    code: ClassVar[str] = "INTERNAL"
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = {key: value for key, value in details.items() if value is not None}

    def public(self) -> dict[str, Any]:
        """`{code, message, ...details}`, JSON types only, camelCase keys as RTDB clients expect."""
        return {"code": self.code, "message": self.message, **self.details}


class InvalidArgument(ConciergeError):
    code = "INVALID_ARGUMENT"
    http_status = 400

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message, field=field)
        self.field = field


class Unauthenticated(ConciergeError):
    code = "UNAUTHENTICATED"
    http_status = 401


class PermissionDenied(ConciergeError):
    code = "PERMISSION_DENIED"
    http_status = 403


class NotFound(ConciergeError):
    code = "NOT_FOUND"
    http_status = 404


class Conflict(ConciergeError):
    code = "CONFLICT"
    http_status = 409


class InsufficientCredits(ConciergeError):
    code = "INSUFFICIENT_CREDITS"
    http_status = 402

    def __init__(
        self,
        missing_microcredits: int,
        available_microcredits: int,
        *,
        limit: str = "balance",
        limit_microcredits: int | None = None,
    ) -> None:
        """`limit` says which one was reached: the balance, or the most that one reservation may take."""
        super().__init__(
            "There are not enough credits for this request."
            if limit == "balance"
            else "This is more than a single reservation may hold.",
            limit=limit,
            limitMicrocredits=limit_microcredits,
            missingMicrocredits=missing_microcredits,
            availableMicrocredits=available_microcredits,
        )
        self.missing_microcredits = missing_microcredits


class AccountFrozen(ConciergeError):
    code = "ACCOUNT_FROZEN"
    http_status = 423


class Unpriced(ConciergeError):
    code = "MODEL_UNPRICED"
    http_status = 400


class HoldExpired(ConciergeError):
    code = "HOLD_EXPIRED"
    http_status = 409


class Unavailable(ConciergeError):
    code = "UNAVAILABLE"
    http_status = 503


class ProviderUnavailable(Unavailable):
    code = "PROVIDER_UNAVAILABLE"


class DeadlineExceeded(ConciergeError):
    code = "DEADLINE_EXCEEDED"
    http_status = 504


class Interrupted(ConciergeError):
    code = "INTERRUPTED"
    http_status = 500


class Configuration(ConciergeError):
    """Raised at start. The message names the variable and what it should hold, never its value."""

    code = "CONFIGURATION"

    def __init__(self, variable: str, message: str) -> None:
        super().__init__(f"{variable}: {message}", variable=variable)
        self.variable = variable


class Internal(ConciergeError):
    code = "INTERNAL"

    def __init__(self) -> None:
        super().__init__("Something went wrong on our side. Nothing was charged for what did not arrive.")
