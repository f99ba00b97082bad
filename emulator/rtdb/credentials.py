"""Who asks: an administrator, a signed-in user, or nobody.

The `auth` variable of rules is `{uid, provider, token}` for the ID token of a user, null for nobody; an administrator
passes all rules, or is judged as the `auth_variable_override` says.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emulator.clock import Clock
from emulator.contracts import AuthType, InvalidToken, TokenVerifier
from emulator.rtdb.errors import Unauthorized

OWNER = "owner"
"""The credential that stands for an administrator on every Firebase emulator."""

_ACCESS_TOKEN_PREFIX = "ya29."  # noqa: S105  what OAuth access tokens of Google begin with; not a secret
_EXPIRED = "Auth token is expired"
_UNPARSABLE = "Could not parse auth token."


@dataclass(frozen=True, slots=True)
class Credentials:
    """`admin` passes all rules. `expires_at_ms` is None for what never expires."""

    admin: bool
    auth: Mapping[str, Any] | None
    auth_type: AuthType
    auth_id: str | None = None
    expires_at_ms: int | None = None


ADMIN = Credentials(admin=True, auth=None, auth_type="admin")
NOBODY = Credentials(admin=False, auth=None, auth_type="unauthenticated")


class Authenticator:
    """Turns what a client presents into Credentials; raises Unauthorized with the texts of the production API."""

    def __init__(self, verify_token: TokenVerifier, clock: Clock) -> None:
        self._verify_token = verify_token
        self._clock = clock

    def access_token(self, token: str) -> Credentials:
        """An OAuth access token, as in `Authorization: Bearer`. ID tokens are taken too: they mean their user."""
        if token == OWNER or token.startswith(_ACCESS_TOKEN_PREFIX):
            return ADMIN
        if token.count(".") == 2:
            return self.id_token(token)
        raise Unauthorized("Unauthorized request.")

    def id_token(self, token: str) -> Credentials:
        """The ID token of a user, as in `?auth=`."""
        if token == OWNER:
            return ADMIN
        try:
            claims = self._verify_token(token)
        except InvalidToken as error:
            expired = "expired" in error.reason.lower() or self._is_past(_unverified_claims(token).get("exp"))
            raise Unauthorized(_EXPIRED if expired else _UNPARSABLE) from error
        expires_at = claims.get("exp")
        if self._is_past(expires_at):
            raise Unauthorized(_EXPIRED)
        uid = claims.get("sub") or claims.get("user_id")
        if not isinstance(uid, str):
            raise Unauthorized(_UNPARSABLE)
        firebase = claims.get("firebase")
        provider = firebase.get("sign_in_provider") if isinstance(firebase, Mapping) else None
        return Credentials(
            admin=False,
            auth={"uid": uid, "provider": provider, "token": _plain(claims)},
            auth_type="app_user",
            auth_id=uid,
            expires_at_ms=int(expires_at * 1000) if isinstance(expires_at, (int, float)) else None,
        )

    def _is_past(self, seconds: Any) -> bool:
        return isinstance(seconds, (int, float)) and seconds * 1000 <= self._clock.now_ms()


def overridden(auth: Any) -> Credentials:
    """An administrator who asks to be judged as `auth`: null is nobody, an object somebody. Raises Unauthorized."""
    if auth is None:
        return NOBODY
    if not isinstance(auth, dict):
        raise Unauthorized("auth_variable_override must be a JSON object or null.")
    uid = auth.get("uid")
    return Credentials(admin=False, auth=auth, auth_type="app_user", auth_id=uid if isinstance(uid, str) else None)


def _unverified_claims(token: str) -> Mapping[str, Any]:
    """What a refused token claims about itself, only to name the reason of the refusal."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return {}
    return claims if isinstance(claims, dict) else {}


def _plain(value: Any) -> Any:
    """Claims as plain dictionaries and lists, which is what expressions know."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
