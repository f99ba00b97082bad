"""Codes that production would send by e-mail: verify an address, reset a password, sign in by link. In memory only."""

import secrets
from dataclasses import dataclass
from typing import Literal

from emulator.auth.errors import AuthError

RequestType = Literal["PASSWORD_RESET", "VERIFY_EMAIL", "EMAIL_SIGNIN", "VERIFY_AND_CHANGE_EMAIL"]
MODES: dict[str, RequestType] = {
    "resetPassword": "PASSWORD_RESET",
    "verifyEmail": "VERIFY_EMAIL",
    "signIn": "EMAIL_SIGNIN",
    "verifyAndChangeEmail": "VERIFY_AND_CHANGE_EMAIL",
}

_CODES_MAX = 1000


@dataclass(frozen=True, slots=True)
class ActionCode:
    code: str
    request_type: RequestType
    email: str
    link: str
    new_email: str | None = None


class ActionCodes:
    """The open codes; each can be used once. The oldest are forgotten when there are very many."""

    def __init__(self) -> None:
        self._codes: dict[str, ActionCode] = {}

    @staticmethod
    def new_code() -> str:
        return secrets.token_urlsafe(40)

    def add(self, code: ActionCode) -> None:
        self._codes[code.code] = code
        while len(self._codes) > _CODES_MAX:
            del self._codes[next(iter(self._codes))]

    def look(self, code: str) -> ActionCode:
        """The open code, without using it. Raises INVALID_OOB_CODE."""
        record = self._codes.get(code)
        if record is None:
            raise AuthError("INVALID_OOB_CODE")
        return record

    def use(self, code: str, *request_types: RequestType) -> ActionCode:
        """Takes an open code of one of these types. Raises INVALID_OOB_CODE."""
        record = self.look(code)
        if record.request_type not in request_types:
            raise AuthError("INVALID_OOB_CODE")
        del self._codes[code]
        return record

    def forget_all(self) -> None:
        self._codes.clear()

    def open_codes(self) -> list[dict[str, str]]:
        """As the emulator's oobCodes endpoint lists them, oldest first."""
        listed = []
        for record in self._codes.values():
            entry = {
                "email": record.email,
                "requestType": record.request_type,
                "oobCode": record.code,
                "oobLink": record.link,
            }
            listed.append(entry | ({"newEmail": record.new_email} if record.new_email else {}))
        return listed
