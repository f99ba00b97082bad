"""What Cloud Storage refuses, in the shape of Google's JSON errors.

Source: https://cloud.google.com/storage/docs/json_api/v1/status-codes
"""

from typing import Any


class StorageError(Exception):
    """A refusal with its HTTP status, reason and message."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message

    def body(self) -> dict[str, Any]:
        detail = {"domain": "global", "reason": self.reason, "message": self.message}
        return {"error": {"code": self.status, "message": self.message, "errors": [detail]}}


def invalid(message: str) -> StorageError:
    return StorageError(400, "invalid", message)


def no_object(bucket: str, name: str) -> StorageError:
    return StorageError(404, "notFound", f"No such object: {bucket}/{name}")


def no_bucket(bucket: str) -> StorageError:
    return StorageError(404, "notFound", f"The specified bucket does not exist: {bucket}")


def condition_not_met() -> StorageError:
    return StorageError(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")


def not_modified() -> StorageError:
    return StorageError(304, "notModified", "Not Modified")
