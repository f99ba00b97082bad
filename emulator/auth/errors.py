"""Errors in the shape in which Google's Identity Toolkit and Secure Token APIs report them."""

from collections.abc import Mapping
from typing import Any

_STATUS_NAMES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}


class AuthError(Exception):
    """A refused request. `message` is `CODE` or `CODE : text`, as the SDKs parse it."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status

    @property
    def code(self) -> str:
        """The part that SDKs switch on, "WEAK_PASSWORD" for one."""
        return self.message.partition(" :")[0]

    def body(self) -> dict[str, Any]:
        """The JSON of the answer: `{"error": {code, message, status, errors}}`."""
        details = [{"message": self.message, "reason": "invalid", "domain": "global"}]
        status_name = _STATUS_NAMES.get(self.status, "UNKNOWN")
        return {"error": {"code": self.status, "message": self.message, "status": status_name, "errors": details}}


class Fields:
    """The fields of a request, with their types checked: a client's mistake is answered by 400, never by 500.

    A field that is null counts as absent, as in Google's JSON mapping of protocol buffers.
    """

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._body = body

    def has(self, name: str) -> bool:
        return self._body.get(name) is not None

    def text(self, name: str) -> str | None:
        """A string, or None if absent. Raises AuthError for another type."""
        value = self._body.get(name)
        if value is None or isinstance(value, str):
            return value
        raise _mistyped(name, "a string")

    def need(self, name: str, code: str) -> str:
        """A non-empty string. Raises AuthError(code) if it is absent or empty."""
        value = self.text(name)
        if not value:
            raise AuthError(code)
        return value

    def flag(self, name: str) -> bool | None:
        value = self._body.get(name)
        if value is None or isinstance(value, bool):
            return value
        raise _mistyped(name, "a boolean")

    def integer(self, name: str) -> int | None:
        """A whole number; 64-bit integers may be decimal strings, as in Google's JSON mapping."""
        value = self._body.get(name)
        if value is None:
            return None
        if isinstance(value, str) and value.removeprefix("-").isdecimal() and len(value) <= 20:
            return int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise _mistyped(name, "an integer")

    def texts(self, name: str) -> list[str]:
        """A list of strings; a single string counts as a list of one; absent is empty."""
        value = self._body.get(name)
        if value is None:
            return []
        values = value if isinstance(value, list) else [value]
        if all(isinstance(item, str) for item in values):
            return values
        raise _mistyped(name, "a list of strings")

    def objects(self, name: str) -> list["Fields"]:
        """A list of objects; absent is empty."""
        value = self._body.get(name)
        if value is None:
            return []
        if isinstance(value, list) and all(isinstance(item, dict) for item in value):
            return [Fields(item) for item in value]
        raise _mistyped(name, "a list of objects")

    def object(self, name: str) -> "Fields | None":
        value = self._body.get(name)
        if value is None:
            return None
        if isinstance(value, dict):
            return Fields(value)
        raise _mistyped(name, "an object")


def _mistyped(name: str, wanted: str) -> AuthError:
    return AuthError(f"INVALID_ARGUMENT : {name} must be {wanted}.")
