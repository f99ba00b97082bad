"""Verification of Firebase ID tokens on HTTPS calls.

Production: firebase-admin checks signature, issuer, audience and expiry against Google's certificates, and revocation
against the user's record. In emulator mode firebase-admin checks none of signature and expiry (it must accept the
official emulator's unsigned tokens), so there we check both against the keys that the embedded Auth publishes.
"""

import os
from dataclasses import dataclass
from typing import Any

import firebase_admin
import jwt
from firebase_admin import auth
from firebase_admin import exceptions as firebase_exceptions

from concierge.errors import PermissionDenied, Unauthenticated, Unavailable

_EMULATOR_VARIABLE = "FIREBASE_AUTH_EMULATOR_HOST"
_EMULATOR_KEYS_PATH = "/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com"
_key_clients: dict[str, jwt.PyJWKClient] = {}


@dataclass(frozen=True, slots=True)
class Caller:
    """A signed-in person. `is_admin` comes from the user's record, not from the token, which may be an hour old."""

    uid: str
    is_admin: bool


def verify_caller(authorization: str | None, app: firebase_admin.App) -> Caller:
    """The caller behind an `Authorization: Bearer <ID token>` header.

    Raises Unauthenticated for a token that is missing, malformed, unsigned, forged, expired, revoked or another
    project's, and for a disabled or deleted user; Unavailable if Auth does not answer.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("An ID token is required: Authorization: Bearer <token>.")
    try:
        if host := os.environ.get(_EMULATOR_VARIABLE):
            _verify_signature(token, host, str(app.project_id))
        claims: dict[str, Any] = auth.verify_id_token(token, app)
        user = auth.get_user(claims["uid"], app)
    except (auth.InvalidIdTokenError, auth.UserNotFoundError, jwt.InvalidTokenError, ValueError) as error:
        raise Unauthenticated("The ID token is not valid.") from error
    except (auth.CertificateFetchError, firebase_exceptions.FirebaseError, jwt.PyJWKClientError) as error:
        raise Unavailable("The identity service does not answer at the moment.") from error
    # The same lookup serves for revocation, for disabled users and for the role.
    if user.disabled or claims["iat"] * 1000 < (user.tokens_valid_after_timestamp or 0):
        raise Unauthenticated("The ID token has been revoked.")
    return Caller(user.uid, is_admin=(user.custom_claims or {}).get("admin") is True)


def require_self_or_admin(caller: Caller, uid: str) -> None:
    """Raises PermissionDenied unless the caller is this person or an administrator."""
    if caller.uid != uid and not caller.is_admin:
        raise PermissionDenied("This account belongs to somebody else.")


def _verify_signature(token: str, emulator_host: str, project_id: str) -> None:
    """Raises jwt.InvalidTokenError unless the embedded Auth signed the token and it has not expired."""
    client = _key_clients.setdefault(emulator_host, jwt.PyJWKClient(f"http://{emulator_host}{_EMULATOR_KEYS_PATH}"))
    try:
        key = client.get_signing_key_from_jwt(token)
    except jwt.PyJWKClientConnectionError as error:
        if getattr(error.__cause__, "code", None) == 404:
            return  # The official emulator: it publishes no keys, because it signs nothing.
        raise
    except jwt.PyJWKClientError as error:
        # No such key: signed by somebody else, or not at all.
        raise jwt.InvalidTokenError("unknown key") from error
    jwt.decode(token, key, algorithms=["ES256", "RS256"], audience=project_id)
